"""How everything stands at one moment, from the ledger alone: what ``status`` and ``artifactd.status()`` say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from artifactd.ledger import Blockage, FileView, Report, Runaway, State, Totals, WatchView
from artifactd.ledger.report import holder
from artifactd.ledger.runviews import RunView
from artifactd.text import printable


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says at one moment."""

    service: str | None
    totals: Totals
    watches: list[WatchView]
    runs: list[RunView]
    failures: list[FileView]
    held: dict[str, Blockage]
    runaways: list[Runaway] = field(default_factory=list)

    def count(self, state: State) -> int:
        """Files in a state."""
        return self.totals.states.get(state, 0)

    def lag(self) -> float:
        """Seconds since the oldest pending file changed; 0 when nothing is pending."""
        oldest = self.totals.oldest_due
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)


def read(report: Report, folder: Path) -> Standing:
    """Ask the ledger of this state folder once."""
    with report.snapshot():
        held = report.blockages() | {printable(run): block for run, block in report.held_runs().items()}
        service, totals = holder(folder), report.totals()
        return Standing(
            service, totals if service is not None else _at_rest(totals), report.watches(), report.runs(),
            [f for f in report.failures() if not _is_told_by_what_holds_it_back(f)], held,
            report.runaways(time.time()),
        )  # fmt: skip


def _at_rest(totals: Totals) -> Totals:
    """What was under way when the service ended is so no more: it waits for the next start."""
    due = totals.states.get(State.DUE, 0) + totals.states.get(State.UPLOADING, 0)
    return replace(totals, states={**totals.states, State.DUE: due, State.UPLOADING: 0})


def _is_told_by_what_holds_it_back(file: FileView) -> bool:
    return file.state is State.DUE and file.blockage is not None and file.error == file.blockage.error


def next_try(file: FileView) -> float | None:
    """When a file is tried again, unix seconds; None when it is not."""
    if file.state is not State.DUE:
        return None
    return max(file.due_at or 0.0, file.blockage.next_try if file.blockage else 0.0)
