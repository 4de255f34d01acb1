"""One pass: deliver what is at rest, then say what was stored, skipped, failed and left. The engine behind ``sync``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from artifactd.config import Config
from artifactd.delivery.receipts import Delivered
from artifactd.engine import Engine
from artifactd.errors import Kind
from artifactd.ledger import END_REFUSED, Blockage, FileView, Report, State
from artifactd.paths import join, within

PATIENCE = 20.0
"""Seconds without a file delivered after which a pass without a deadline ends."""
_COUNT_EVERY = 0.5
"""Seconds between two counts of what is left, while there is work."""


@dataclass(slots=True)
class Progress:
    """Where a pass stands: counts of files, and bytes."""

    scanned: bool = False
    stored: int = 0
    stored_bytes: int = 0
    skipped: int = 0
    pending: int = 0
    pending_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass came to.

    Attributes:
        progress: The final counts.
        failed: Files that failed and need a person.
        left: Files that are still due, with what they wait for.
        runs: Run folders whose changed settings or end the server was not told.
        blockage: Why the target took nothing more, if it did not.
        away: Watched folders that could not be looked at, each with the reason.
        seconds: How long it took.
        held: Why run folders are held back, those whose end was refused for good among them.
    """

    progress: Progress
    failed: list[FileView] = field(default_factory=list)
    left: list[FileView] = field(default_factory=list)
    runs: list[bytes] = field(default_factory=list)
    blockage: Blockage | None = None
    away: dict[bytes, str] = field(default_factory=dict)
    seconds: float = 0.0
    held: dict[bytes, Blockage] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """The contract: 0 all stored, 75 all that is left waits for a server that can't be reached, 3 otherwise."""
        if not self.failed and not self.left and not self.runs and not self.away:
            return 0
        unreachable = self.blockage is not None and self.blockage.kind == Kind.TRANSIENT
        return 75 if unreachable and (self.left or self.runs) and not self.failed and not self.away else 3


def run_pass(
    config: Config,
    *,
    only: Path | None = None,
    deadline: float | None = None,
    show: Callable[[Progress], None] = lambda _: None,
) -> Result:
    """Deliver what is at rest in the configured folders.

    Files that were written just now are given one settle period to come to rest.

    Args:
        config: The effective configuration.
        only: A folder to which the pass is confined.
        deadline: Most seconds to take; None ends when nothing is left, or nothing moved for ``PATIENCE``.
        show: Called about ten times a second.

    Raises:
        ArtifactdError: The pass cannot start.
    """
    progress = Progress()
    begun = time.monotonic()

    def news(delivered: Delivered) -> None:
        if delivered.sent:
            progress.stored += 1
            progress.stored_bytes += delivered.size
        else:
            progress.skipped += 1

    engine = Engine(config, "artifactd sync", only=only, events=False, news=news)
    try:
        engine.ledger.try_now()
        _turn_until_done(engine, progress, begun, deadline, show)
        engine.drain(time.monotonic() + (1.0 if deadline is not None else 5.0))
        blockage = next(iter(engine.ledger.blockages().values()), None)
        runs = [join(run.root_path, run.folder) for run in engine.waiting_runs]
        away = {w.path: w.away for w in engine.watched if w.away}
    finally:
        engine.close()
    report = Report(config.state_dir)
    below = None if only is None else str(only).encode("utf-8", "surrogateescape")
    failed = report.files(below=below, states=(State.FAILED,))
    left = report.files(below=below, states=(State.DUE, State.UPLOADING))
    held = report.held_runs()
    refused = [run.folder for run in report.runs() if run.status == END_REFUSED]
    report.close()
    show(progress)
    runs = [run for run in dict.fromkeys((*runs, *refused)) if _concerns(run, below)]
    return Result(progress, failed, left, runs, blockage, away, time.monotonic() - begun, held)


def _concerns(run: bytes, below: bytes | None) -> bool:
    """Whether a run folder lies in the folder to which a pass is confined, or that one in it."""
    return below is None or within(run, below) or within(below, run)


def _turn_until_done(
    engine: Engine, progress: Progress, begun: float, deadline: float | None, show: Callable[[Progress], None]
) -> None:
    settle = max((w.config.settle for w in engine.watched), default=0.0)
    moved_at, moved, scanned_at, counted_at = time.monotonic(), (0, 0), 0.0, 0.0
    while True:
        engine.turn(0.1)
        now = time.monotonic()
        idle = engine.scanned and not engine.busy
        if idle or now - counted_at > _COUNT_EVERY:  # all that is due is read for it
            counted_at = now
            progress.pending, progress.pending_bytes = engine.ledger.waiting()
        if engine.scanned and not progress.scanned:
            progress.scanned, scanned_at, moved_at = True, now, now
        show(progress)
        if deadline is not None and now - begun >= deadline:
            return
        if not progress.scanned:
            if all(w.away for w in engine.watched if not w.scanned) and now - begun > 1.0:
                return
            continue
        if progress.pending == 0 and not engine.busy and not engine.waiting_runs:
            return
        # What hangs is ended by the engine.
        at_work = engine.starting or engine.moving or (engine.busy and not engine.ledger.blockages())
        if (progress.stored, progress.skipped) != moved or at_work:
            moved, moved_at = (progress.stored, progress.skipped), now
        # What still changes after this is not at rest: it is left, and said so.
        # Where no file is left, a run waits to be told something: for the workers to come up, say.
        quiet = progress.pending > 0 and now - scanned_at > 2 * settle + 1 and not engine.busy
        restless = quiet and engine.ledger.only_restless()
        if restless or (deadline is None and now - moved_at > max(PATIENCE, 2 * settle)):
            return
