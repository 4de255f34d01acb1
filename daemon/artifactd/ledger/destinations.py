"""Which artifact a file becomes, and where the row of a file that becomes it would stand.

Most files are named in their run as they are on disk, below the run's folder. Such a row is *natural*: who knows its
destination knows its key, so it keeps no leaf, and no index holds it. Every other row keeps what its artifact is
called (``named``; empty where that is the file's own name and only the folder is another one), and an index holds it by
its destination. So whoever asks for a destination looks into that index and at one key, and has seen all rows.

One run may have several rows in ``runs``: a folder that was renamed or is watched below another root, a run that many
folders adopt. The first of them is the run's *home*, which natural rows lie in. It stays the first: none is ever
deleted.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass

_KEPT = 64
"""Artifact folders that are not asked for again: looks and claims go folder by folder."""

_NATURAL = (
    "SELECT d.id, h.target, h.identity FROM runs r CROSS JOIN runs h CROSS JOIN folders d WHERE r.id = ?1 AND h.id ="
    " (SELECT s.id FROM runs s WHERE s.identity = r.identity AND s.target = r.target ORDER BY s.id LIMIT 1)"
    " AND d.root = h.root AND d.rel = CASE WHEN ?2 = x'' THEN h.folder WHEN h.folder = x'' THEN ?2"
    " ELSE CAST(h.folder || '/' || ?2 AS BLOB) END"
)

_HOLDING = (
    "SELECT folder, name, kind FROM files INDEXED BY destinations WHERE dest = ?1 AND named IS NOT NULL"
    " UNION ALL SELECT folder, name, kind FROM files WHERE folder = ?2 AND name = ?3 AND dest = ?1 AND named IS NULL"
    " UNION ALL SELECT folder, name, NULL FROM versions WHERE dest = ?1"
)


def destination(target: str, identity: str, artifact_path: str) -> int:
    """64 bits that two files share only when they would land on the same artifact (or by a chance of 2^-64).

    Args:
        target: Tracking URI without secrets.
        identity: The run's.
        artifact_path: Within the run.
    """
    text = f"{target}\0{identity}\0{artifact_path}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


@dataclass(frozen=True, slots=True)
class Natural:
    """An artifact folder of a run that is named as a folder on disk.

    Attributes:
        folder: The number of that folder: what goes from it into this artifact folder under its own name is natural.
        target: The run's, as for ``destination``.
        identity: The run's.
        directory: The artifact folder's path in the run.
    """

    folder: int
    target: str
    identity: str
    directory: str


@dataclass(frozen=True, slots=True)
class Spot:
    """An artifact folder, as the files of one folder go there.

    Attributes:
        place: Its number.
        natural: Set where these files are natural there.
    """

    place: int
    natural: Natural | None

    def named(self, name: bytes, leaf: str, dest: int | None) -> str | None:
        """What the row of a file keeps of its artifact's name; None for a natural row.

        That it is one is not concluded but computed: a row whose destination is not made of its own path (a logged
        model's, say) is in the index.
        """
        if leaf.encode() != name:
            return leaf
        if (of := self.natural) is None:
            return ""
        path = f"{of.directory}/{leaf}" if of.directory else leaf
        return None if destination(of.target, of.identity, path) == dest else ""


class Destinations:
    """Rows by their destination.

    Args:
        con: The open ledger.
    """

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con
        self._naturals: dict[tuple[int, str], Natural] = {}

    def forget(self) -> None:
        """What was read of rows that were taken back is read anew."""
        self._naturals.clear()

    def holding(self, dest: int, run: int, artifact_path: str) -> list[tuple[int, bytes, str | None]]:
        """The files that have this destination, or a version that has it: folder, name, kind of failure.

        Args:
            dest: The destination.
            run: A row of its run.
            artifact_path: Its path in the run.
        """
        directory, _, leaf = artifact_path.rpartition("/")
        natural = self._natural(run, directory)
        rows = self._con.execute(_HOLDING, (dest, None if natural is None else natural.folder, leaf.encode()))
        return rows.fetchall()

    def spot(self, folder: int, run: int, directory: str) -> Spot:
        """The artifact folder of a run, made when it is new, for the files of a folder."""
        row = self._con.execute("SELECT id FROM places WHERE run = ? AND dir = ?", (run, directory)).fetchone()
        if row is None:
            row = (self._con.execute("INSERT INTO places (run, dir) VALUES (?, ?)", (run, directory)).lastrowid,)
        natural = self._natural(run, directory)
        return Spot(int(row[0]), natural if natural is not None and natural.folder == folder else None)

    def _natural(self, run: int, directory: str) -> Natural | None:
        found = self._naturals.get((run, directory))
        if found is None:
            row = self._con.execute(_NATURAL, (run, directory.encode())).fetchone()
            if row is None:
                return None  # which may change: not kept
            if len(self._naturals) >= _KEPT:
                self._naturals.clear()
            found = self._naturals[run, directory] = Natural(int(row[0]), row[1], row[2], directory)
        return found
