"""Which runs have a manifest of what they hold, and what goes into one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from artifactd.ledger.base import Base
from artifactd.ledger.damage import STRANGE, blob, told
from artifactd.ledger.rows import END_REFUSED, State
from artifactd.ledger.schema import LEAF
from artifactd.manifest import Version
from artifactd.paths import join


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A receipt; `rel` is relative to the root. Where versions are kept, it is that of the last one.

    `outdated` says that the file was changed since, and was gone before that was sent.
    """

    rel: bytes
    artifact_path: str
    size: int
    digest: bytes
    mtime_ns: int
    stored_at: float
    tries: int
    versions: tuple[Version, ...] = ()
    outdated: bool = False


class Manifests(Base):
    """The side of the ledger that knows which manifests are out of date: those of runs with a receipt since."""

    def changes(self, run: int) -> tuple[int, int]:
        """How many receipts a run's row has had, and how many of them its manifest speaks of."""
        row = self._con.execute("SELECT changes, described FROM manifests WHERE run = ?", (run,)).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def note_receipts(self, counts: Mapping[int, int]) -> None:
        """So many more receipts in the rows of some runs."""
        self._con.executemany(
            "INSERT INTO manifests (run, changes) VALUES (?, ?)"
            " ON CONFLICT (run) DO UPDATE SET changes = changes + excluded.changes",
            counts.items(),
        )

    def described(self, run: int, changes: int) -> None:
        """The store has a manifest of what the run held when it had had so many receipts."""
        self._con.execute("UPDATE manifests SET described = ? WHERE run = ?", (changes, run))

    def rows_to_describe(self, markers: list[bytes]) -> list[int]:
        """Runs that are over, of which nothing is left to store, and whose manifest does not speak of all of it."""
        marks = ", ".join("?" * len(markers))
        rows = self._con.execute(
            "SELECT DISTINCT r.id FROM manifests m JOIN runs r ON r.id = m.run"
            " JOIN roots ON roots.id = r.root AND roots.active"
            " JOIN folders d ON d.root = r.root AND d.rel = r.folder"
            f" JOIN files f ON f.folder = d.id AND f.name IN ({marks}) AND f.run = r.id AND f.state IN (?, ?)"
            " WHERE m.changes > m.described AND r.run_id IS NOT NULL AND r.status != ?"
            " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.run = r.id AND o.state = 0)"
            " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.run = r.id AND o.state = 1)"
            " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.run = r.id AND o.state = 3) ORDER BY r.id",
            (*markers, State.STORED, State.IGNORED, END_REFUSED),
        )
        return [int(row) for (row,) in rows]


def stored_files(ledger: Path, run: int) -> list[StoredFile]:
    """The receipts of a run's row, by path; opens the ledger beside whoever else has it open.

    Args:
        ledger: Its file.
        run: The row's number.

    Raises:
        LedgerError: It cannot be read.
    """
    try:
        con = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
        try:
            con.execute("BEGIN")
            return list(_receipts(con, run))
        finally:
            con.close()
    except STRANGE as exc:
        raise told(ledger, exc) from exc


def _receipts(con: sqlite3.Connection, run: int) -> Iterator[StoredFile]:
    versions: dict[tuple[int, bytes], list[Version]] = {}
    for folder, name, number, place, leaf, size, digest, stored_at in con.execute(
        "SELECT f.folder, f.name, v.number, p.dir, v.leaf, v.size, v.digest, v.stored_at FROM files f"
        " JOIN versions v ON v.folder = f.folder AND v.name = f.name AND v.base = f.dest"
        " JOIN places p ON p.id = f.place WHERE f.run = ? ORDER BY v.number",
        (run,),
    ):
        version = Version(number, _path(place, leaf), size, blob(digest), stored_at)
        versions.setdefault((folder, blob(name)), []).append(version)
    for folder, name, rel, place, leaf, size, digest, mtime, stored_at, tries, outdated in con.execute(
        f"SELECT f.folder, f.name, d.rel, p.dir, {LEAF}, f.stored_size, f.digest, f.mtime_ns, f.stored_at, f.attempts,"
        " f.ctime_ns = 0 FROM files f JOIN folders d ON d.id = f.folder JOIN places p ON p.id = f.place"
        " WHERE f.run = ? AND f.state = ? AND f.digest IS NOT NULL ORDER BY d.rel, f.name",
        (run, State.STORED),
    ):
        kept = versions.get((folder, blob(name)), [])
        path = kept[-1].artifact_path if kept else _path(place, leaf)
        at = join(blob(rel), blob(name))
        yield StoredFile(
            at, path, size, blob(digest), mtime, stored_at, max(tries, 1), tuple(kept), bool(outdated)
        )  # fmt: skip


def _path(place: str, leaf: str) -> str:
    return f"{place}/{leaf}" if place else leaf
