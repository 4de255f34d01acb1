"""What may need a person: for whoever tells people, in a thread beside the service.

Each question steps over a partial index: its cost goes with what is wrong or waits, not with what is stored. Nothing is
sorted or grouped, so that it takes no memory either.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from artifactd.ledger import schema
from artifactd.ledger.damage import BLOCKAGE, STRANGE, Kinds, blob, checked, told
from artifactd.ledger.rows import CLASH, Blockage, Growth, State, WatchView
from artifactd.paths import join

_MOST = 1000
"""Runs of each kind that are read, the first ones first: who is told of the twentieth need not know of more."""

_TRIES = 12
"""Tries after which a file that is tried again counts as late by its own age: until then, its waits are short."""


def _runs_with(state: State) -> str:
    """The runs that have files in a state, as a table ``step``: from one to the next over the index of that state."""
    where = f"FROM files WHERE state = {state:d}"
    return (
        f"WITH RECURSIVE step(run) AS (SELECT min(run) {where} UNION ALL"
        f" SELECT (SELECT min(run) {where} AND run > step.run) FROM step WHERE step.run IS NOT NULL)"
    )


_FAILED_RUNS = (
    f"{_runs_with(State.FAILED)} SELECT r.id, roots.path, r.folder FROM step CROSS JOIN runs r ON r.id = step.run"
    f" JOIN roots ON roots.id = r.root AND roots.active LIMIT {_MOST}"
)
_FAILED = f"FROM files f INDEXED BY failed CROSS JOIN folders d ON d.id = f.folder WHERE f.state = {State.FAILED:d}"
_ONE = f"SELECT d.rel, f.name, f.error, f.cure, f.run IS NOT NULL AND f.kind IS NOT '{CLASH}' {_FAILED}"
_OF_RUN, _OF_NO_RUN = "f.run = ?", "f.run IS NULL AND d.root = ?"

# What no try has met waits since it was due; a time that a person moved (`retry`) is no reason to say it is older.
_SINCE = "max(coalesce(f.due_at, 0), f.ctime_ns / 1e9)"


def _oldest(state: State, index: str, since: str, where: str) -> str:
    return (
        f"{_runs_with(state)} SELECT d.rel, f.name, min({since}) FROM step"
        " CROSS JOIN runs r ON r.id = step.run AND r.root = :root"
        f" CROSS JOIN files f INDEXED BY {index} ON f.run = r.id AND f.state = {state:d}"
        f" CROSS JOIN folders d ON d.id = f.folder WHERE {where}"
    )


_DUE = _oldest(
    State.DUE, "due", f"CASE WHEN f.kind IS NULL THEN {_SINCE} ELSE f.ctime_ns / 1e9 END",
    f"f.growth != {Growth.HELD:d}"
    f" AND (f.kind IS NULL AND f.due_at <= :now OR f.kind IS NOT NULL AND f.attempts >= {_TRIES})",
)  # fmt: skip
_UNDER_WAY = _oldest(State.UPLOADING, "uploading", _SINCE, "TRUE")
_HELD_RUNS = (
    "SELECT roots.path, r.folder, r.kind, r.error, r.cure, r.attempts, r.next_try FROM runs r"
    f" JOIN roots ON roots.id = r.root AND roots.active WHERE r.kind IS NOT NULL ORDER BY r.id LIMIT {_MOST}"
)


class FailedFiles(NamedTuple):
    """The failed files of one run folder.

    Attributes:
        folder: Absolute; the watched folder itself for files that belong to no run.
        number: How many.
        path: One of them, absolute.
        error: Why that one failed.
        cure: What to do about it.
        needs_retry: Whether ``artifactd retry`` has it tried again; others are for scans to see.
    """

    folder: bytes
    number: int
    path: bytes
    error: str
    cure: str
    needs_retry: bool = True


class Late(NamedTuple):
    """What has been waiting for longest in a watched folder.

    Attributes:
        root: The watched folder.
        path: The file, absolute.
        since: Unix seconds.
    """

    root: bytes
    path: bytes
    since: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What may need a person, as the ledger has it at one moment.

    Attributes:
        failed: Failed files, by run.
        targets: Servers that are held back, by URI without secrets.
        runs: Runs that are held back, by absolute folder.
        late: The oldest file of each watched folder that is due, under way, or was tried many times.
        watches: The watched folders.
    """

    failed: tuple[FailedFiles, ...] = ()
    targets: dict[str, Blockage] = field(default_factory=dict)
    runs: dict[bytes, Blockage] = field(default_factory=dict)
    late: tuple[Late, ...] = ()
    watches: tuple[WatchView, ...] = ()


def stamp(state_dir: Path) -> tuple[tuple[int, int], ...]:
    """What is another one after a write into the ledger: at a fraction of what it takes to ask it."""
    found = []
    for name in (schema.FILE_NAME, f"{schema.FILE_NAME}-wal"):
        try:
            stat = os.stat(state_dir / name)
        except OSError:
            found.append((0, -1))
        else:
            found.append((stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def read_needs(state_dir: Path, now: float) -> Needs:
    """Ask the ledger once, by a connection of its own; from any thread.

    Args:
        state_dir: Where it lies.
        now: Unix seconds.

    Raises:
        LedgerError: There is none, or it cannot be used.
    """
    path = state_dir / schema.FILE_NAME
    with contextlib.closing(schema.connect(path, create=False)) as con:
        try:
            con.execute("BEGIN")  # all reads see one state of it
            return _read(con, now)
        except STRANGE as exc:
            raise told(path, exc) from exc


def _read(con: sqlite3.Connection, now: float) -> Needs:
    watched = con.execute("SELECT id, path, mode, healthy, detail FROM roots WHERE active ORDER BY path").fetchall()
    roots = list(checked(watched, (int, bytes, str, int, str)))
    paths = {ident: path for ident, path, *_ in roots}
    targets = con.execute("SELECT uri, kind, error, cure, attempts, next_try FROM targets")
    held: Kinds = (bytes, bytes, *BLOCKAGE)
    return Needs(
        tuple(_failed(con, paths)),
        {uri: Blockage(*rest) for uri, *rest in checked(targets, (str, *BLOCKAGE))},
        {join(root, folder): Blockage(*rest) for root, folder, *rest in checked(con.execute(_HELD_RUNS), held)},
        tuple(late for ident, path in paths.items() if (late := _late(con, ident, path, now)) is not None),
        tuple(WatchView(path, mode, bool(healthy), detail) for _, path, mode, healthy, detail in roots),
    )


def _failed(con: sqlite3.Connection, roots: dict[int, bytes]) -> Iterator[FailedFiles]:
    groups = [(_OF_NO_RUN, ident, path, b"") for ident, path in roots.items()]
    groups += [(_OF_RUN, run, blob(root), blob(folder)) for run, root, folder in con.execute(_FAILED_RUNS)]
    for which, value, root, folder in groups:
        (count,) = con.execute(f"SELECT count(*) {_FAILED} AND {which}", (value,)).fetchone()
        if count:
            rel, name, error, cure, needs_retry = con.execute(f"{_ONE} AND {which} LIMIT 1", (value,)).fetchone()
            path = join(join(root, blob(rel)), blob(name))
            yield FailedFiles(join(root, folder), count, path, error or "", cure or "", bool(needs_retry))


def _late(con: sqlite3.Connection, root: int, path: bytes, now: float) -> Late | None:
    rows = [con.execute(question, {"root": root, "now": now}).fetchone() for question in (_DUE, _UNDER_WAY)]
    found = [
        Late(path, join(join(path, blob(rel)), blob(name)), float(since))
        for rel, name, since in rows
        if since is not None
    ]
    return min(found, key=lambda late: late.since, default=None)
