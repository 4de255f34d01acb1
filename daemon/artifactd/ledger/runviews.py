"""Runs as ``status`` and ``explain`` show them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from artifactd.ledger.damage import NUMBER_OR_NOT, TEXT_OR_NOT, Kinds, checked
from artifactd.ledger.rows import State
from artifactd.paths import join


@dataclass(frozen=True, slots=True)
class RunView:
    """One run with its counts, as ``status`` shows it.

    Attributes:
        status: As the server has it, as far as it was asked.
        since: When it ended, or the last sign of life of one that is under way; unix seconds, None if not known.
        reason: Why it ended so, or what that sign was.
        kept: It is adopted, and its own job ends it.
        parent: The row of the run that it is nested in.
    """

    row: int
    folder: bytes
    experiment: str
    run: str
    run_id: str | None
    target: str
    status: str
    stored: int
    stored_bytes: int
    pending: int
    failed: int
    error: str | None
    since: float | None = None
    reason: str = ""
    kept: bool = False
    parent: int | None = None


_RUN: Kinds = (
    (int, bytes, bytes, str, str, TEXT_OR_NOT, str, str, TEXT_OR_NOT)
    + (NUMBER_OR_NOT, TEXT_OR_NOT, int, (int, type(None)))
)  # fmt: skip
"""The columns of a run's view."""

RunCounts = dict[int, dict[State, tuple[int, int]]]
"""Of each run's row: how many files in which state, and how many bytes of them are stored."""

_VIEW = (
    "SELECT r.id, roots.path, r.folder, r.experiment, r.name, r.run_id, r.target, r.status, r.error,"
    " CASE WHEN r.status = 'RUNNING' THEN l.moved_at WHEN l.asked = r.status THEN l.asked_at / 1e3 END,"
    " CASE r.status WHEN 'RUNNING' THEN l.seen WHEN 'KILLED' THEN l.why WHEN 'FAILED' THEN l.reason END,"
    " r.identity LIKE 'run:%' AND NOT coalesce(l.may_end, 0), l.parent"
    " FROM runs r JOIN roots ON roots.id = r.root AND roots.active LEFT JOIN lives l ON l.run = r.id"
)

_STEP = 200
"""Runs that are read at a time, while one is looked for."""


class RunViews:
    """The side of the report that knows runs."""

    _con: sqlite3.Connection

    def run_statuses(self) -> Counter[str]:
        """How many runs of the active roots have which status, as far as the server was asked; "" before it was."""
        rows = self._con.execute(
            "SELECT r.status, count(*) FROM runs r JOIN roots ON roots.id = r.root AND roots.active GROUP BY r.status"
        )
        return Counter(dict(checked(rows, (str, int))))

    def targets(self) -> set[str]:
        """Tracking URIs, without secrets, at which there are runs of ours."""
        rows = self._con.execute("SELECT DISTINCT target FROM runs WHERE run_id IS NOT NULL")
        return {target for (target,) in checked(rows, (str,))}

    def run_counts(self) -> RunCounts:
        """The files of every run, counted: reads all of them."""
        counts: RunCounts = {}
        for run, state, count, stored in self._con.execute(
            "SELECT run, state, count(*), sum(coalesce(stored_size, 0)) FROM files"
            " WHERE run IS NOT NULL GROUP BY run, state"
        ):
            counts.setdefault(run, {})[State(state)] = (count, stored)
        return counts

    def runs(self) -> list[RunView]:
        """Every run of the active roots with its counts, in the order in which they were first seen."""
        counts = self.run_counts()
        views = (_view(row, counts) for row in checked(self._con.execute(f"{_VIEW} ORDER BY r.id"), _RUN))
        return [view for view in views if view is not None]

    def newest_runs(
        self, counts: RunCounts, *, before: int | None, text: str, most: int, fits: Callable[[RunView], bool]
    ) -> list[RunView]:
        """Some runs of the active roots, those that were seen last first.

        Args:
            counts: Of their files.
            before: Those that were seen before this row; None for all.
            text: What experiment and name must hold, whatever the case of its letters (of ASCII); "" for anything.
            most: Runs, at most.
            fits: Whether a run is wanted.
        """
        found: list[RunView] = []
        where = "r.id < ? AND (? = '' OR instr(lower(r.experiment || '/' || r.name), lower(?)) > 0)"
        while True:
            rows = self._con.execute(
                f"{_VIEW} WHERE {where} ORDER BY r.id DESC LIMIT ?", (before or 2**62, text, text, _STEP)
            ).fetchall()
            views = (_view(row, counts) for row in checked(rows, _RUN))
            found += [view for view in views if view is not None and fits(view)]
            if len(found) >= most or len(rows) < _STEP:
                return found[:most]
            before = rows[-1][0]


def _view(row: Any, counts: RunCounts) -> RunView | None:
    """A run; None for one that has neither files nor a run in MLflow."""
    ident, path, folder, experiment, name, run_id, target, status, error, since, reason, kept, parent = row
    of = counts.get(ident, {})
    if not of and not run_id:
        return None

    def count(*states: State) -> int:
        return sum(of.get(s, (0, 0))[0] for s in states)

    return RunView(
        ident, join(path, folder), experiment, name, run_id, target, status,
        count(State.STORED), sum(size for _, size in of.values()),
        count(State.DUE, State.UPLOADING), count(State.FAILED), error,
        since, reason or "", bool(kept), parent,
    )  # fmt: skip
