"""The ledger as ``status``, ``explain``, ``retry`` and ``verify`` see it, beside a running service."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifactd.errors import Kind
from artifactd.ledger import schema
from artifactd.ledger.damage import (
    BLOCKAGE,
    BYTES_OR_NOT,
    NUMBER,
    NUMBER_OR_NOT,
    TEXT_OR_NOT,
    Kinds,
    blob,
    checked,
    in_words,
    one_state,
)
from artifactd.ledger.rows import (
    CLASH,
    END_REFUSED,
    Blockage,
    Doubt,
    FileId,
    FileView,
    Runaway,
    State,
    Totals,
    VersionView,
    WatchView,
)
from artifactd.ledger.runviews import RunView, RunViews
from artifactd.ledger.schema import LEAF
from artifactd.pace import FREE_SENDS, LONGEST
from artifactd.paths import join, within
from artifactd.watching.signature import Signature

_LEAF = f"CASE WHEN f.dest IS NOT NULL THEN {LEAF} END"
_VIEW = (
    "SELECT f.folder, f.run, roots.path, d.rel, f.name, f.state, f.size, f.mtime_ns, f.ctime_ns, f.inode,"
    " r.experiment, r.name, r.run_id, r.target, p.dir,"
    " coalesce((SELECT v.leaf FROM versions v WHERE v.folder = f.folder AND v.name = f.name AND v.base = f.dest"
    f" ORDER BY v.number DESC LIMIT 1), {_LEAF}), f.digest, f.stored_size, f.stored_at, f.due_at,"
    " f.attempts, f.kind, f.error, f.cure,"
    " t.kind, t.error, t.cure, t.attempts, t.next_try, r.kind, r.error, r.cure, r.attempts, r.next_try,"
    f" {_LEAF}, CASE WHEN f.told_at IS NOT NULL THEN f.role END, f.told_at, f.role, f.told"
    " FROM files f JOIN folders d ON d.id = f.folder JOIN roots ON roots.id = d.root"
    " LEFT JOIN runs r ON r.id = f.run LEFT JOIN places p ON p.id = f.place LEFT JOIN targets t ON t.uri = r.target"
)

_OPEN = f"WHERE f.state IN ({State.DUE:d}, {State.UPLOADING:d})"
_INT_OR_NOT = (int, type(None))
_HELD_OR_NOT: Kinds = (TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, _INT_OR_NOT, NUMBER_OR_NOT)
_VIEWED: Kinds = (
    (int, _INT_OR_NOT, bytes, bytes, bytes, int, int, int, int, int)
    + (TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT)
    + (BYTES_OR_NOT, _INT_OR_NOT, NUMBER_OR_NOT, NUMBER_OR_NOT, int, TEXT_OR_NOT, TEXT_OR_NOT, TEXT_OR_NOT)
    + _HELD_OR_NOT + _HELD_OR_NOT + (TEXT_OR_NOT, TEXT_OR_NOT, NUMBER_OR_NOT, str, BYTES_OR_NOT)
)  # fmt: skip
"""The columns of `_VIEW`."""

MOST_FAILURES = 1000
"""Files that are named as failed: who sees to a thousand need not know of more."""

_LOCK_NAME = "lock"
"""As ``ledger.lock`` names it."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry came to.

    Attributes:
        due: Files that became due.
        unmended: Failed files that a try cannot mend: their place is taken, or they could not even be looked at. The
            next scan looks at them anyway.
    """

    due: int
    unmended: int


@in_words
class Report(RunViews):
    """A second pair of eyes on the ledger: reads, and what ``retry`` writes.

    Raises:
        LedgerError: From the constructor: there is no ledger yet, or it cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / schema.FILE_NAME
        self._con = schema.connect(self.path, create=False)

    def close(self) -> None:
        """Close the file."""
        self._con.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the ledger."""
        with one_state(self._con, self.path):
            yield

    def version(self) -> int:
        """A number that moves when another process wrote into the ledger."""
        return int(self._con.execute("PRAGMA data_version").fetchone()[0])

    def totals(self) -> Totals:
        """Counts over the active roots, and bytes since the ledger was made."""
        # In one pass and without GROUP BY, for which SQLite would sort all rows: 40 bytes of memory for each file.
        every, *counts, pending_bytes, stored_bytes, oldest, largest = self._con.execute(
            f"SELECT count(*), {', '.join(f'count(*) FILTER (WHERE f.state = {state:d})' for state in State)},"
            # Waiting counts from the last change of the file: what is overdue or under way, by its ctime.
            f" sum(f.size) FILTER ({_OPEN}), sum(f.stored_size), min(f.ctime_ns) FILTER ({_OPEN}),"
            f" max(f.size) FILTER ({_OPEN})"
            " FROM files f JOIN folders d ON d.id = f.folder JOIN roots ON roots.id = d.root AND roots.active"
        ).fetchone()
        states = {state: count for state, count in zip(State, counts, strict=True) if count}
        if every != sum(states.values()):
            raise ValueError("a file is in a state that there is not")
        counters = dict(checked(self._con.execute("SELECT name, value FROM counters"), (str, int)))
        return Totals(
            states, pending_bytes or 0, stored_bytes or 0, None if oldest is None else oldest / 1e9,
            counters.get("bytes_sent", 0), counters.get("bytes_unique", 0), largest or 0,
        )  # fmt: skip

    def watches(self) -> list[WatchView]:
        """The watched folders as the service last saw them."""
        rows = self._con.execute("SELECT path, mode, healthy, detail FROM roots WHERE active ORDER BY path")
        return [
            WatchView(path, mode, bool(healthy), detail)
            for path, mode, healthy, detail in checked(rows, (bytes, str, int, str))
        ]

    def failures(self, limit: int = MOST_FAILURES) -> list[FileView]:
        """Files that failed or whose last try failed, failed ones first."""
        rows = self._con.execute(
            _VIEW + " WHERE roots.active AND (f.state = 3 OR (f.state = 0 AND f.kind IS NOT NULL))"
            " ORDER BY f.state DESC, f.due_at LIMIT ?",
            (limit,),
        )
        return [_view(r) for r in checked(rows, _VIEWED)]

    def runaways(self, now: float, limit: int = 20) -> list[Runaway]:
        """Files whose uploads are spaced out, since they were sent over and over lately; most bytes first.

        Args:
            now: Unix seconds.
            limit: Most files.
        """
        rows = self._con.execute(
            "SELECT roots.path, d.rel, f.name, f.sends, f.sent_bytes, f.due_at FROM files f"
            " JOIN folders d ON d.id = f.folder JOIN roots ON roots.id = d.root AND roots.active"
            " WHERE f.sends >= ? AND f.sent_at > ? ORDER BY f.sent_bytes DESC LIMIT ?",
            (FREE_SENDS, now - 4 * LONGEST, limit),
        )
        kinds: Kinds = (bytes, bytes, bytes, int, int, NUMBER_OR_NOT)
        return [Runaway(join(join(r[0], r[1]), r[2]), *r[3:]) for r in checked(rows, kinds)]

    def blockages(self) -> dict[str, Blockage]:
        """Targets that are held back now."""
        rows = self._con.execute("SELECT uri, kind, error, cure, attempts, next_try FROM targets")
        return {r[0]: Blockage(*r[1:]) for r in checked(rows, (str, *BLOCKAGE))}

    def held_runs(self) -> dict[bytes, Blockage]:
        """Runs of active roots that are held back now, each by its absolute folder."""
        rows = self._con.execute(
            "SELECT roots.path, r.folder, r.kind, r.error, r.cure, r.attempts, r.next_try FROM runs r"
            " JOIN roots ON roots.id = r.root AND roots.active WHERE r.kind IS NOT NULL ORDER BY r.id"
        )
        kinds = (bytes, bytes, *BLOCKAGE)
        return {join(path, folder): Blockage(*rest) for path, folder, *rest in checked(rows, kinds)}

    def file(self, root: bytes, folder: bytes, name: bytes) -> FileView | None:
        """What the ledger knows of one file."""
        rows = self._con.execute(
            _VIEW + " WHERE roots.path = ? AND d.rel = ? AND f.name = ?", (root, folder, name)
        ).fetchall()
        return next((_view(row) for row in checked(rows, _VIEWED)), None)

    def at(self, key: FileId) -> FileView | None:
        """What the ledger knows of the file of a row."""
        rows = self._con.execute(_VIEW + " WHERE f.folder = ? AND f.name = ?", key).fetchall()
        return next((_view(row) for row in checked(rows, _VIEWED)), None)

    def files(
        self,
        *,
        run: int | None = None,
        below: bytes | None = None,
        states: tuple[State, ...] = (),
        limit: int = -1,
    ) -> list[FileView]:
        """Files of a run's row, or at or below an absolute path, in the given states (all if none)."""
        where, values = self._at_or_below(below)
        if run is not None:
            where += " AND f.run = ?"
            values.append(run)
        if states:
            where += f" AND f.state IN ({', '.join('?' * len(states))})"
            values.extend(states)
        rows = self._con.execute(f"{_VIEW} WHERE {where} ORDER BY f.folder, f.name LIMIT ?", (*values, limit))
        return [_view(r) for r in checked(rows, _VIEWED)]

    def versions(self, run: int) -> list[VersionView]:
        """The versions of the files of a run's row, file by file, the first ones first."""
        rows = self._con.execute(
            "SELECT roots.path, d.rel, v.name, v.number, p.dir, v.leaf, v.size, v.digest, v.stored_at FROM files f"
            " JOIN versions v ON v.folder = f.folder AND v.name = f.name AND v.base = f.dest"
            " JOIN places p ON p.id = f.place JOIN folders d ON d.id = f.folder JOIN roots ON roots.id = d.root"
            " WHERE f.run = ? ORDER BY d.rel, v.name, v.number",
            (run,),
        )
        return [
            VersionView(
                join(join(root, rel), name), number, f"{place}/{leaf}" if place else leaf, size, digest, stored_at
            )
            for root, rel, name, number, place, leaf, size, digest, stored_at in checked(
                rows, (bytes, bytes, bytes, int, str, str, int, bytes, NUMBER)
            )
        ]  # fmt: skip

    def counts(self, below: bytes | None = None) -> dict[State, int]:
        """How many files stand in which state, at or below an absolute path."""
        where, values = self._at_or_below(below)
        rows = self._con.execute(
            "SELECT f.state, count(*) FROM files f JOIN folders d ON d.id = f.folder JOIN roots ON roots.id = d.root"
            f" WHERE {where} GROUP BY f.state",
            values,
        )
        return {State(state): count for state, count in rows}

    def own_path(self, path: bytes) -> bytes:
        """A path that a person gave: absolute and, where links lead into a watched folder, as the ledger names it."""
        path = os.path.abspath(path)
        roots = [blob(root) for (root,) in self._con.execute("SELECT path FROM roots WHERE active")]
        if any(within(path, root) or within(root, path) for root in roots):
            return path
        real = os.path.realpath(path)
        for root in roots:
            if within(real, os.path.realpath(root)):
                return join(root, real[len(os.path.realpath(root)) :].lstrip(b"/"))
        return path

    def runs_at(self, path: bytes) -> list[RunView]:
        """Runs that an absolute path belongs to or holds: those of the folders at, above and below it."""
        return [r for r in self.runs() if within(path, r.folder) or within(r.folder, path)]

    def retry(self, below: bytes | None) -> Retried:
        """Failed files (at or below an absolute path, or all) become due now; what is held back is tried at once."""
        now = time.time()
        due = unmended = 0
        with self._writing():
            where, values = self._at_or_below(below)
            chosen = self._con.execute(
                "SELECT f.folder, f.name, f.run, f.kind FROM files f JOIN folders d ON d.id = f.folder"
                f" JOIN roots ON roots.id = d.root WHERE {where}"
                " AND (f.state = 3 OR (f.state = 0 AND f.kind IS NOT NULL))",
                values,
            ).fetchall()
            for folder, name, run, kind in chosen:
                if run is None or kind == CLASH:  # sending it would go nowhere, or over another file
                    unmended += 1
                    continue
                due += 1
                self._con.execute(
                    "UPDATE files SET state = ?, due_at = ?, attempts = 0, kind = NULL, error = NULL, cure = NULL"
                    " WHERE folder = ? AND name = ?",
                    (State.DUE, now, folder, name),
                )
                # The run is asked for again: one of our own that was purged is then made anew, with all its files.
                self._con.execute("UPDATE runs SET applied = '' WHERE id = ?", (run,))
            # Asked for again, such a run has the status that the server knows, and is ended once more.
            self._con.execute("UPDATE runs SET applied = '', kind = NULL WHERE status = ?", (END_REFUSED,))
            self._con.execute("UPDATE runs SET next_try = 0 WHERE next_try != 0")
            self._con.execute("UPDATE targets SET next_try = 0")
        return Retried(due, unmended)

    def lost(self, file: FileView, error: str, cure: str, *, on_disk: bool) -> bool:
        """The store does not hold what was stored there.

        A file that is still on disk is failed and its receipt void, so that ``retry`` sends it. One that is gone keeps
        its receipt, so that the loss is found again; if it comes back, it is sent whatever its content.

        Args:
            file: As it was when the store was asked.
            error: What the store holds instead, for people.
            cure: What to do.
            on_disk: Whether the file is still there.

        Returns:
            False when the file was delivered anew, or is due, since `file` was read: then nothing is changed.
        """
        change, values = f"doubt = {Doubt.CHANGED:d}", list[object]()
        if on_disk:
            change = "state = ?, kind = ?, error = ?, cure = ?, digest = NULL, stored_size = NULL, stored_at = NULL"
            values = [State.FAILED, Kind.PERMANENT, error, cure]
        changed = self._con.execute(
            f"UPDATE files SET {change} WHERE folder = ? AND name = ? AND state = ? AND digest IS ? AND stored_at IS ?",
            (*values, file.id.folder, file.id.name, State.STORED, file.digest, file.stored_at),
        )
        return changed.rowcount == 1

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._con.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._con.execute("ROLLBACK")
            raise
        self._con.execute("COMMIT")

    def _at_or_below(self, path: bytes | None) -> tuple[str, list[object]]:
        """The condition, with its values, for files of active roots at or below an absolute path."""
        if path is None:
            return "roots.active", []
        either, values = list[str](), list[object]()
        for ident, root in self._con.execute("SELECT id, path FROM roots WHERE active").fetchall():
            if within(blob(root), path):
                either.append("d.root = ?")
                values.append(ident)
            elif within(path, blob(root)):
                rel = os.path.relpath(path, blob(root))
                parent, _, name = rel.rpartition(b"/")
                either.append("(d.root = ? AND (d.rel = ? OR (d.rel > ? AND d.rel < ?) OR (d.rel = ? AND f.name = ?)))")
                values += [ident, rel, rel + b"/", rel + b"0", parent, name]  # '0' is the byte after '/'
        return f"({' OR '.join(either) or '0'})", values


def holder(state_dir: Path) -> str | None:
    """Which artifactd works with this state folder now, as it named itself ("artifactd run (pid 7)"); None for none.

    Asks for a shared lock and gives it back at once, so that it neither waits nor is noticed.
    """
    try:
        fd = os.open(state_dir / _LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
    finally:
        os.close(fd)
    return None


def _view(row: Any) -> FileView:
    folder, run_row, root, rel, name, state, size, mtime, ctime, inode = row[:10]
    experiment, run, run_id, target, place, leaf = row[10:16]
    target_block, run_block = row[24:29], row[29:34]
    block = target_block if target_block[0] else run_block if run_block[0] else None
    return FileView(
        FileId(folder, name),
        run_row,
        join(join(root, rel), name),
        State(state),
        size,
        Signature(size, mtime, ctime, inode),
        experiment,
        run,
        run_id,
        target,
        None if not leaf else f"{place}/{leaf}" if place else leaf,
        row[16], row[17], row[18], row[19], row[20], row[21], row[22], row[23],
        None if block is None else Blockage(*block),
        block is not None and not target_block[0],
        None if not row[34] else f"{place}/{row[34]}" if place else row[34],
        row[35], row[36], row[37], row[38],
    )  # fmt: skip
