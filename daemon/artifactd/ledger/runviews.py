"""Runs as ``status`` and ``explain`` show them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

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


class RunViews:
    """The side of the report that knows runs."""

    _con: sqlite3.Connection

    def run_statuses(self) -> Counter[str]:
        """How many runs of the active roots have which status, as far as the server was asked; "" before it was."""
        rows = self._con.execute(
            "SELECT r.status, count(*) FROM runs r JOIN roots ON roots.id = r.root AND roots.active GROUP BY r.status"
        )
        return Counter(dict(checked(rows, (str, int))))

    def runs(self) -> list[RunView]:
        """Every run of the active roots with its counts, in the order in which they were first seen."""
        counts: dict[int, dict[State, tuple[int, int]]] = {}
        for run, state, count, stored in self._con.execute(
            "SELECT run, state, count(*), sum(coalesce(stored_size, 0)) FROM files"
            " WHERE run IS NOT NULL GROUP BY run, state"
        ):
            counts.setdefault(run, {})[State(state)] = (count, stored)
        views = []
        found = self._con.execute(
            "SELECT r.id, roots.path, r.folder, r.experiment, r.name, r.run_id, r.target, r.status, r.error,"
            " CASE WHEN r.status = 'RUNNING' THEN l.moved_at WHEN l.asked = r.status THEN l.asked_at / 1e3 END,"
            " CASE r.status WHEN 'RUNNING' THEN l.seen WHEN 'KILLED' THEN l.why WHEN 'FAILED' THEN l.reason END,"
            " r.identity LIKE 'run:%' AND NOT coalesce(l.may_end, 0), l.parent"
            " FROM runs r JOIN roots ON roots.id = r.root AND roots.active LEFT JOIN lives l ON l.run = r.id"
            " ORDER BY r.id"
        )
        for row, path, folder, experiment, name, run_id, target, status, error, *life in checked(found, _RUN):
            since, reason, kept, parent = life
            of = counts.get(row, {})

            def count(*states: State, of: dict[State, tuple[int, int]] = of) -> int:
                return sum(of.get(s, (0, 0))[0] for s in states)

            if of or run_id:
                views.append(
                    RunView(
                        row, join(path, folder), experiment, name, run_id, target, status,
                        count(State.STORED), sum(size for _, size in of.values()),
                        count(State.DUE, State.UPLOADING), count(State.FAILED), error,
                        since, reason or "", bool(kept), parent,
                    )
                )  # fmt: skip
        return views
