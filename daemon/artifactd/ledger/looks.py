"""What looks need and write: roots, folders, and the rows of files as they shall be."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from artifactd.ledger.base import Base
from artifactd.ledger.damage import blob
from artifactd.ledger.destinations import Spot
from artifactd.ledger.rows import CLASH, Doubt, FileId, Growth, KnownFile, State, Wanted, past_of
from artifactd.ledger.schema import LEAF
from artifactd.paths import join
from artifactd.watching.signature import Signature

_STATES, _GROWTHS = tuple(State), tuple(Growth)
_AT_ONCE = (1, 4, 16, 64)
"""Names of one statement: a few sizes, so that SQLite knows each."""

_WANT = (
    "INSERT INTO files (folder, name, state, size, mtime_ns, ctime_ns, inode, run, place, named, dest,"
    " due_at, kind, error, cure, growth, role, doubt)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (folder, name) DO UPDATE SET"
    f" state = CASE WHEN state = {State.UPLOADING:d} AND excluded.state = {State.DUE:d}"
    "   THEN state ELSE excluded.state END,"
    " size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,"
    " inode = excluded.inode, due_at = excluded.due_at, attempts = 0, growth = excluded.growth,"
    " digest = CASE WHEN dest IS excluded.dest THEN digest END,"
    f" doubt = CASE WHEN dest IS excluded.dest THEN doubt ELSE max(excluded.doubt, {Doubt.ASK:d}) END,"
    " stored_size = CASE WHEN dest IS excluded.dest THEN stored_size END,"
    " stored_at = CASE WHEN dest IS excluded.dest THEN stored_at END,"
    " sent_at = min(sent_at, ?),"
    " sends = CASE WHEN dest IS excluded.dest THEN sends ELSE 0 END,"
    " sent_bytes = CASE WHEN dest IS excluded.dest THEN sent_bytes ELSE 0 END,"
    " told = CASE WHEN dest IS excluded.dest AND role = excluded.role THEN told END,"
    " told_at = CASE WHEN dest IS excluded.dest AND role = excluded.role THEN told_at END,"
    " role = excluded.role,"
    " run = excluded.run, place = excluded.place, named = excluded.named, dest = excluded.dest,"
    " kind = excluded.kind, error = excluded.error, cure = excluded.cure"
)
"""Puts a row as it shall be in the place of what is known of its file."""

_BY_NAME = attrgetter("name")


class Looks(Base):
    """The side of the ledger that faces the disk."""

    def use_roots(self, paths: Iterable[bytes]) -> dict[bytes, int]:
        """Make these the watched roots: known ones keep their number, others are no longer active."""
        with self.transaction():
            self._con.execute("UPDATE roots SET active = 0")
            self._con.executemany(
                "INSERT INTO roots (path) VALUES (?) ON CONFLICT (path) DO UPDATE SET active = 1",
                [(p,) for p in paths],
            )
            return {blob(p): i for i, p in self._con.execute("SELECT id, path FROM roots WHERE active = 1")}

    def describe_root(self, root: int, mode: str, *, healthy: bool, detail: str) -> None:
        """Note how a root is watched, for ``status``."""
        self._con.execute(
            "UPDATE roots SET mode = ?, healthy = ?, detail = ? WHERE id = ? AND (mode, healthy, detail) != (?, ?, ?)",
            (mode, healthy, detail, root, mode, healthy, detail),
        )

    def folder(self, root: int, rel: bytes, *, create: bool) -> tuple[int, str] | None:
        """The folder's number and the rules under which it was last looked at in whole; None if unknown."""
        row = self._con.execute("SELECT id, rules FROM folders WHERE root = ? AND rel = ?", (root, rel)).fetchone()
        if row is None and create:
            cursor = self._con.execute("INSERT INTO folders (root, rel) VALUES (?, ?)", (root, rel))
            return int(cursor.lastrowid or 0), ""
        return None if row is None else (int(row[0]), str(row[1]))

    def set_rules(self, folder: int, rules: str) -> None:
        """Remember under which rules all of the folder was looked at."""
        self._con.execute("UPDATE folders SET rules = ? WHERE id = ?", (rules, folder))

    def subfolders(self, root: int, rel: bytes) -> list[bytes]:
        """Known folders below `rel` (itself not among them) that hold files not yet delivered or failed."""
        low, high = (b"", b"\xff" * 8) if not rel else (rel + b"/", rel + b"0")  # '0' is the byte after '/'
        return [
            blob(r)
            for (r,) in self._con.execute(
                "SELECT rel FROM folders WHERE root = ? AND rel > ? AND rel < ? AND EXISTS"
                " (SELECT 1 FROM files WHERE folder = folders.id AND state != ?)",
                (root, low, high, State.STORED),
            )
        ]

    def unsettled_files(
        self, folder: int, files: Mapping[bytes, Signature]
    ) -> tuple[dict[bytes, Signature], set[bytes]]:
        """Files that do not look as they are stored; with the others nothing is to be done.

        Args:
            folder: Its number.
            files: What its files look like now, by name; a scan compares a million of them.

        Returns:
            Those files, and the names of stored ones that look otherwise or are not among `files`.
        """
        rows = self._con.execute(
            f"SELECT name, size, mtime_ns, ctime_ns, inode FROM files WHERE folder = ? AND state = {State.STORED:d}",
            (folder,),
        )
        # Row by row, against bare tuples: of rows that are as they shall be nothing is kept.
        now, alike, others = files.get, list[bytes](), set[bytes]()
        for row in rows:
            name = row[0]
            if now(name) == row[1:]:
                alike.append(name)
            else:
                others.add(name)
        if len(alike) == len(files):
            return {}, others
        settled = set(alike)
        return {name: signature for name, signature in files.items() if name not in settled}, others

    def known_files(
        self, folder: int, names: Collection[bytes] | None = None, *, settled: bool = True
    ) -> dict[bytes, KnownFile]:
        """What the ledger knows of a folder's files, all or the named ones; not `settled`: all but the stored."""
        query = (
            "SELECT name, state, size, mtime_ns, ctime_ns, inode, kind, dest, growth, sends, sent_bytes, sent_at,"
            " role, told_at"
            " FROM files WHERE folder = ?"
        )
        rows: Iterable[tuple[Any, ...]]
        if not settled:
            rows = self._con.execute(f"{query} AND state != {State.STORED:d}", (folder,))
        elif names is None:
            rows = self._con.execute(query, (folder,))
        else:
            rows = (
                row
                for some in _parts(list(names))
                for row in self._con.execute(f"{query} AND name IN (?{', ?' * (len(some) - 1)})", (folder, *some))
            )
        return {
            r[0]: KnownFile(
                _STATES[r[1]], tuple.__new__(Signature, r[2:6]), r[6], r[7], _GROWTHS[r[8]], past_of(*r[9:12]), *r[12:]
            )
            for r in rows
        }

    def want(self, folder: int, wanted: Iterable[Wanted], now: float = math.inf) -> None:
        """Write down what a look found.

        A file under upload stays so: its delivery compares signatures when it reports, and then what was written
        here is due. A receipt (digest) stays with the row as long as the destination does. What was
        sent after `now` (unix seconds) was sent now: the clock was set back since.
        """
        spots: dict[tuple[int, str], Spot] = {}
        rows: list[tuple[object, ...]] = []
        for w in sorted(wanted, key=_BY_NAME):  # a tmpfs lists backwards, which would leave each page half empty
            place = named = None
            if w.run is not None:
                at = spots.get((w.run, w.dir))
                if at is None:
                    at = spots[w.run, w.dir] = self._destinations.spot(folder, w.run, w.dir)
                place, named = at.place, at.named(w.name, w.leaf, w.dest)
            # Enums as plain numbers: SQLite's module asks for an adapter of any other type, at a microsecond each.
            rows.append(
                (folder, w.name, int(w.state), *w.signature, w.run, place, named, w.dest, w.due_at, w.kind)
                + (w.error, w.cure, int(w.growth), w.role, int(Doubt.STRANGE if w.strange else Doubt.NONE), now)
            )
        self._con.executemany(_WANT, rows)

    def forget(self, folder: int, names: Iterable[bytes]) -> None:
        """Files that are gone from disk: drop their rows, but keep the receipts of what is in the store.

        A receipt is of the content that was sent, not of one that was still due: what comes back is looked at, whatever
        it looks like.
        """
        for name in names:
            self._con.execute(
                "DELETE FROM files WHERE folder = ? AND name = ? AND digest IS NULL AND state != ?",
                (folder, name, State.UPLOADING),
            )
            self._con.execute(
                "UPDATE files SET state = ?, ctime_ns = 0, inode = 0, kind = NULL, error = NULL, cure = NULL,"
                " due_at = NULL WHERE folder = ? AND name = ? AND digest IS NOT NULL AND state IN (?, ?)",
                (State.STORED, folder, name, State.DUE, State.FAILED),
            )

    def holder(self, dest: int, not_me: FileId, run: int, artifact_path: str) -> bytes | None:
        """The path of another file that holds a destination, if there is one.

        Args:
            dest: The destination.
            not_me: Who asks.
            run: A row of the run that it is in.
            artifact_path: Its path there.
        """
        for folder, name, kind in self._destinations.holding(dest, run, artifact_path):
            if kind != CLASH and (folder, name) != (not_me.folder, not_me.name):
                row = self._con.execute(
                    "SELECT roots.path, d.rel FROM folders d JOIN roots ON roots.id = d.root WHERE d.id = ?", (folder,)
                ).fetchone()
                return join(join(blob(row[0]), blob(row[1])), name)
        return None

    def move(self, root: int | None, dest: int, file: FileId, sig: Signature, run: int, artifact_path: str) -> bool:
        """Let a file that was renamed keep what is known of it; whether it was one.

        Args:
            root: The root that both names are in; None for the same file, known of another root.
            dest: The destination that both names have.
            file: The name of now.
            sig: What it looks like: as the stored file, but for the ctime, which a rename may change.
            run: A row of the run that the destination is in.
            artifact_path: Its path there.
        """
        for *old, kind in self._destinations.holding(dest, run, artifact_path):
            is_it = kind != CLASH if root is None else self._was(root, old, dest, sig)
            if is_it and old != [file.folder, file.name]:
                break
        else:
            return False
        # Whatever the new key is, the index finds it there; what is written next may have it natural again.
        self._con.execute(
            f"UPDATE OR REPLACE files AS f SET folder = ?, name = ?, named = {LEAF} WHERE folder = ? AND name = ?",
            (file.folder, file.name, *old),
        )
        self._con.execute(
            "UPDATE OR REPLACE versions SET folder = ?, name = ? WHERE folder = ? AND name = ?",
            (file.folder, file.name, *old),
        )
        return True

    def folders_in(self, run: int, folder: str, most: int) -> set[str] | None:
        """Names of the folders in an artifact folder that files have, or had; None where there may be more.

        Args:
            run: The run's row.
            folder: The artifact folder; "" for the run's root.
            most: Rows that are worth being read for it.
        """
        query, within = "SELECT dir FROM places WHERE run = ? AND dir > ?", f"{folder}/" if folder else ""
        if folder:
            found = self._con.execute(f"{query} AND dir < ? LIMIT ?", (run, within, f"{folder}0", most))
        else:
            found = self._con.execute(f"{query} LIMIT ?", (run, within, most))
        rows = found.fetchall()
        return None if len(rows) == most else {row[0][len(within) :].partition("/")[0] for row in rows}

    def _was(self, root: int, key: list[Any], dest: int, sig: Signature) -> bool:
        """Whether a row is that of a stored file with this destination, which looked so."""
        row = self._con.execute(
            "SELECT 1 FROM files f JOIN folders d ON d.id = f.folder AND d.root = ? WHERE f.folder = ? AND f.name = ?"
            f" AND f.dest = ? AND f.state = {State.STORED:d} AND (f.size, f.mtime_ns, f.inode) = (?, ?, ?)",
            (root, *key, dest, sig.size, sig.mtime_ns, sig.inode),
        )
        return row.fetchone() is not None

    def holds_folder(self, run: int, path: str) -> bool:
        """Whether something is stored below this artifact path, as if it were a folder."""
        # In two steps: the first hardly ever finds one, and in one query SQLite would read all files of all runs.
        places = self._con.execute(
            "SELECT id FROM places WHERE run = ? AND dir = ?"
            " UNION ALL SELECT id FROM places WHERE run = ? AND dir > ? AND dir < ?",
            (run, path, run, f"{path}/", f"{path}0"),  # '0' is the character after '/'
        ).fetchall()
        return any(
            self._con.execute(
                "SELECT EXISTS (SELECT 1 FROM files WHERE run = ? AND place = ? AND digest IS NOT NULL)", (run, place)
            ).fetchone()[0]
            for (place,) in places
        )


def _parts(names: list[bytes]) -> Iterator[list[bytes]]:
    """All names in parts of few sizes; a part that is too short has its last name more than once."""
    at = 0
    while at < len(names):
        left = len(names) - at
        size = next((n for n in _AT_ONCE if n >= left), _AT_ONCE[-1])
        part = names[at : at + size]
        yield part + part[-1:] * (size - len(part))
        at += size
