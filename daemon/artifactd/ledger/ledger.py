"""The service's side of the ledger: what looks find due, what deliveries report, what runs and targets are up to.

Every method is one or a few statements; the caller groups them into transactions, one a turn of its loop.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from artifactd.errors import Failure, Kind
from artifactd.ledger import schema
from artifactd.ledger.rows import Blockage, DueFile, FileId, KnownFile, Run, State, Wanted
from artifactd.paths import join
from artifactd.watching.signature import Signature

CLASH = "clash"
"""The failure kind of a file whose destination another file holds; looked at again at each look."""

_RUN_COLUMNS = (
    "r.id, r.root, roots.path, r.folder, r.target, r.identity, r.experiment, r.name, r.tags, r.settings, r.applied,"
    " r.run_id, r.status, r.kind, r.error, r.cure, r.attempts, r.next_try FROM runs r JOIN roots ON roots.id = r.root"
)


class Ledger:
    """An open ledger; use from one thread.

    Raises:
        LedgerError: From the constructor, when the file cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / schema.FILE_NAME
        self._con = schema.connect(self.path, create=True)

    def close(self) -> None:
        """Close the file; SQLite folds the write-ahead log into it."""
        self._con.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Group writes into one durable step; nested use joins the outer one."""
        if self._con.in_transaction:
            yield
            return
        self._con.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._con.execute("ROLLBACK")
            raise
        self._con.execute("COMMIT")

    def changed_outside(self) -> int:
        """A number that moves when another process (``artifactd retry``) wrote into the ledger."""
        return int(self._con.execute("PRAGMA data_version").fetchone()[0])

    # -- start ---------------------------------------------------------------------------------------------------

    def recover(self) -> int:
        """What was being uploaded when the last service ended is due again. Returns how many.

        What the store holds of it is in doubt: the old content, the new, or a part.
        """
        return self._con.execute(
            "UPDATE files SET state = ?, doubt = 1 WHERE state = ?", (State.DUE, State.UPLOADING)
        ).rowcount

    def use_roots(self, paths: Iterable[bytes]) -> dict[bytes, int]:
        """Make these the watched roots: known ones keep their number, others are no longer active."""
        with self.transaction():
            self._con.execute("UPDATE roots SET active = 0")
            self._con.executemany(
                "INSERT INTO roots (path) VALUES (?) ON CONFLICT (path) DO UPDATE SET active = 1",
                [(p,) for p in paths],
            )
            return {bytes(p): i for i, p in self._con.execute("SELECT id, path FROM roots WHERE active = 1")}

    def describe_root(self, root: int, mode: str, *, healthy: bool, detail: str) -> None:
        """Note how a root is watched, for ``status``."""
        self._con.execute(
            "UPDATE roots SET mode = ?, healthy = ?, detail = ? WHERE id = ? AND (mode, healthy, detail) != (?, ?, ?)",
            (mode, healthy, detail, root, mode, healthy, detail),
        )

    # -- looking -------------------------------------------------------------------------------------------------

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
            bytes(r)
            for (r,) in self._con.execute(
                "SELECT rel FROM folders WHERE root = ? AND rel > ? AND rel < ? AND EXISTS"
                " (SELECT 1 FROM files WHERE folder = folders.id AND state != ?)",
                (root, low, high, State.STORED),
            )
        ]

    def known_files(self, folder: int, names: Iterable[bytes] | None = None) -> dict[bytes, KnownFile]:
        """What the ledger knows of a folder's files, all or the named ones."""
        query = "SELECT name, state, size, mtime_ns, ctime_ns, inode, kind, dest FROM files WHERE folder = ?"
        rows: Iterable[tuple[Any, ...]]
        if names is None:
            rows = self._con.execute(query, (folder,))
        else:
            rows = (
                row for name in names for row in self._con.execute(query + " AND name = ?", (folder, name)).fetchall()
            )
        return {bytes(r[0]): KnownFile(State(r[1]), Signature(r[2], r[3], r[4], r[5]), r[6], r[7]) for r in rows}

    def want(self, folder: int, wanted: Iterable[Wanted]) -> None:
        """Write down what a look found.

        A file under upload stays so: its delivery compares signatures when it reports, and then what was written
        here is due. A receipt (digest) stays with the row as long as the destination does.
        """
        for w in wanted:
            place = None if w.run is None else self._place(w.run, w.dir)
            sig = w.signature
            self._con.execute(
                "INSERT INTO files (folder, name, state, size, mtime_ns, ctime_ns, inode, run, place, leaf, dest,"
                " due_at,"
                " kind, error, cure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (folder, name) DO UPDATE SET"
                f" state = CASE WHEN state = {State.UPLOADING:d} AND excluded.state = {State.DUE:d}"
                "   THEN state ELSE excluded.state END,"
                " size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,"
                " inode = excluded.inode, due_at = excluded.due_at, attempts = 0,"
                " digest = CASE WHEN dest IS excluded.dest THEN digest END,"
                " stored_size = CASE WHEN dest IS excluded.dest THEN stored_size END,"
                " stored_at = CASE WHEN dest IS excluded.dest THEN stored_at END,"
                " run = excluded.run, place = excluded.place, leaf = excluded.leaf, dest = excluded.dest,"
                " kind = excluded.kind, error = excluded.error, cure = excluded.cure",
                (folder, w.name, w.state, sig.size, sig.mtime_ns, sig.ctime_ns, sig.inode)
                + (w.run, place, w.leaf or None, w.dest, w.due_at, w.kind, w.error, w.cure),
            )

    def forget(self, folder: int, names: Iterable[bytes]) -> None:
        """Files that are gone from disk: drop their rows, but keep the receipts of what is in the store."""
        for name in names:
            self._con.execute(
                "DELETE FROM files WHERE folder = ? AND name = ? AND digest IS NULL AND state != ?",
                (folder, name, State.UPLOADING),
            )
            self._con.execute(
                "UPDATE files SET state = ?, kind = NULL, error = NULL, cure = NULL, due_at = NULL"
                " WHERE folder = ? AND name = ? AND digest IS NOT NULL AND state IN (?, ?)",
                (State.STORED, folder, name, State.DUE, State.FAILED),
            )

    def holder(self, dest: int, not_me: FileId) -> bytes | None:
        """The path of another file that holds this destination, if there is one."""
        row = self._con.execute(
            "SELECT roots.path, d.rel, f.name FROM files f JOIN folders d ON d.id = f.folder"
            " JOIN roots ON roots.id = d.root"
            " WHERE f.dest = ? AND NOT (f.folder = ? AND f.name = ?) AND f.kind IS NOT ? LIMIT 1",
            (dest, not_me.folder, not_me.name, CLASH),
        ).fetchone()
        return None if row is None else join(join(bytes(row[0]), bytes(row[1])), bytes(row[2]))

    def _place(self, run: int, folder: str) -> int:
        row = self._con.execute("SELECT id FROM places WHERE run = ? AND dir = ?", (run, folder)).fetchone()
        if row is None:
            return int(self._con.execute("INSERT INTO places (run, dir) VALUES (?, ?)", (run, folder)).lastrowid or 0)
        return int(row[0])

    # -- runs ----------------------------------------------------------------------------------------------------

    def run_for(self, root: int, folder: bytes, target: str, identity: str, experiment: str, name: str) -> int:
        """The row of a run folder's run, made when it is new. Its experiment and name follow the layout."""
        row = self._con.execute(
            "INSERT INTO runs (root, folder, target, identity, experiment, name) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET experiment = excluded.experiment, name = excluded.name RETURNING id",
            (root, folder, target, identity, experiment, name),
        ).fetchone()
        return int(row[0])

    def set_run_settings(self, run: int, tags: dict[str, str], settings: dict[str, Any]) -> None:
        """What the layout's names and artifactd.toml say of the run; a change is told to the server once."""
        tags_text, settings_text = (json.dumps(x, sort_keys=True) for x in (tags, settings))
        self._con.execute(
            "UPDATE runs SET tags = ?, settings = ? WHERE id = ? AND (tags, settings) != (?, ?)",
            (tags_text, settings_text, run, tags_text, settings_text),
        )

    def run(self, run: int) -> Run:
        """One run by its row's number."""
        return _run(self._con.execute(f"SELECT {_RUN_COLUMNS} WHERE r.id = ?", (run,)).fetchone())

    def set_run_id(self, run: int, run_id: str, status: str, applied: str) -> None:
        """The run exists under this id; `applied` is the settings text that the server now knows."""
        self._con.execute(
            "UPDATE runs SET run_id = ?, status = ?, applied = ?, kind = NULL, error = NULL, cure = NULL, attempts = 0,"
            " next_try = 0 WHERE id = ?",
            (run_id, status, applied, run),
        )

    def set_run_status(self, run: int, status: str) -> None:
        """MLflow was told this status."""
        self._con.execute(
            "UPDATE runs SET status = ?, kind = NULL, error = NULL, cure = NULL WHERE id = ?", (status, run)
        )

    def block_run(self, run: int, blockage: Blockage | None) -> None:
        """Hold a run back until ``blockage.next_try``, or let it go."""
        b = blockage or Blockage("", "", "", 0, 0.0)
        self._con.execute(
            "UPDATE runs SET kind = ?, error = ?, cure = ?, attempts = ?, next_try = ? WHERE id = ?",
            (b.kind or None, b.error or None, b.cure or None, b.attempts, b.next_try, run),
        )

    def fail_run_files(self, run: int, failure: Failure) -> int:
        """All that is due in this run fails for one reason (the run was deleted, say). Returns how many."""
        return self._con.execute(
            "UPDATE files SET state = ?, kind = ?, error = ?, cure = ?, attempts = attempts + 1"
            " WHERE state = ? AND run = ?",
            (State.FAILED, failure.kind, failure.error, failure.cure, State.DUE, run),
        ).rowcount

    def runs_to_end(self, markers: dict[bytes, str]) -> list[tuple[Run, str]]:
        """Runs whose folder holds a marker and of which nothing is left to store, with the status to set.

        ``.failed`` wins over the others; a run that was ended stays as it is.
        """
        marks = ", ".join("?" * len(markers))
        rows = self._con.execute(
            f"SELECT f.name, {_RUN_COLUMNS} JOIN folders d ON d.root = r.root AND d.rel = r.folder"
            f" JOIN files f ON f.folder = d.id AND f.name IN ({marks}) AND f.run = r.id AND f.state IN (?, ?)"
            " WHERE r.run_id IS NOT NULL AND r.status = 'RUNNING'"
            " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.run = r.id AND o.state = 0)"
            " AND NOT EXISTS (SELECT 1 FROM files o WHERE o.run = r.id AND o.state IN (1, 3))",
            (*markers, State.STORED, State.IGNORED),
        ).fetchall()
        ends: dict[int, tuple[Run, str]] = {}
        for name, *columns in rows:
            run, status = _run(columns), markers[bytes(name)]
            if run.id not in ends or status == "FAILED":
                ends[run.id] = (run, status)
        return list(ends.values())

    def runs_to_update(self) -> list[int]:
        """Runs whose tags or settings changed since the server was told."""
        rows = self._con.execute("SELECT id FROM runs WHERE run_id IS NOT NULL AND applied != tags || settings")
        return [int(i) for (i,) in rows]

    # -- targets -------------------------------------------------------------------------------------------------

    def blockages(self) -> dict[str, Blockage]:
        """Targets that are held back, by URI."""
        rows = self._con.execute("SELECT uri, kind, error, cure, attempts, next_try FROM targets")
        return {r[0]: Blockage(*r[1:]) for r in rows}

    def block_target(self, uri: str, blockage: Blockage | None) -> None:
        """Hold a target back until ``blockage.next_try``, or let it go."""
        if blockage is None:
            self._con.execute("DELETE FROM targets WHERE uri = ?", (uri,))
        else:
            b = blockage
            self._con.execute(
                "INSERT OR REPLACE INTO targets VALUES (?, ?, ?, ?, ?, ?)",
                (uri, b.kind, b.error, b.cure, b.attempts, b.next_try),
            )

    # -- delivering ----------------------------------------------------------------------------------------------

    def runs_with_due(self) -> list[tuple[int, float]]:
        """Runs that have files due, each with its earliest time (unix seconds)."""
        # Steps from run to run over the index instead of reading all of its entries.
        rows = self._con.execute(
            "WITH RECURSIVE step(run) AS (SELECT min(run) FROM files WHERE state = 0"
            " UNION ALL SELECT (SELECT min(run) FROM files WHERE state = 0 AND run > step.run) FROM step"
            " WHERE step.run IS NOT NULL)"
            " SELECT run, (SELECT min(due_at) FROM files WHERE state = 0 AND run = step.run) FROM step"
            " WHERE run IS NOT NULL"
        )
        return [(int(run), float(due_at)) for run, due_at in rows]

    def claim(self, run: int, now: float, limit: int, max_bytes: int) -> list[DueFile]:
        """Take up to `limit` files of this run that are at rest, at most about `max_bytes`, and mark them uploading."""
        rows = self._con.execute(
            "SELECT f.folder, f.name, d.rel, f.size, f.mtime_ns, f.ctime_ns, f.inode, p.dir, f.leaf, f.dest,"
            " CASE WHEN f.doubt THEN NULL ELSE f.digest END,"
            " f.attempts, f.due_at FROM files f INDEXED BY due JOIN folders d ON d.id = f.folder"
            " JOIN places p ON p.id = f.place"
            " WHERE f.state = 0 AND f.run = ? AND f.due_at <= ? ORDER BY f.due_at LIMIT ?",
            (run, now, limit),
        ).fetchall()
        batch: list[DueFile] = []
        total = 0
        for (
            folder,
            name,
            rel,
            size,
            mtime,
            ctime,
            inode,
            directory,
            leaf,
            dest,
            digest,
            attempts,
            due_at,
        ) in rows:
            # One that failed before goes alone: if it is the one that kills its worker, it harms no other.
            if batch and (attempts or batch[0].attempts or total + size > max_bytes):
                break
            total += size
            batch.append(
                DueFile(
                    FileId(folder, bytes(name)), join(bytes(rel), bytes(name)), Signature(size, mtime, ctime, inode),
                    directory, leaf, dest, digest, attempts, due_at,
                )
            )  # fmt: skip
        self._con.executemany(
            "UPDATE files SET state = ? WHERE folder = ? AND name = ?",
            [(State.UPLOADING, f.id.folder, f.id.name) for f in batch],
        )
        return batch

    def put_back(self, file: FileId) -> None:
        """A claimed file that was not tried is due as before."""
        self._con.execute(
            "UPDATE files SET state = ? WHERE folder = ? AND name = ? AND state = ?",
            (State.DUE, file.folder, file.name, State.UPLOADING),
        )

    def delivered(self, file: DueFile, digest: bytes, *, now: float, sent: bool, due_again: float) -> bool:
        """The receipt: the store holds this content at this destination.

        If a look saw the file change, or its destination move, while it was under way, it is due again.

        Args:
            file: As claimed.
            digest: SHA-256 of the stored content.
            now: Unix seconds, for the receipt.
            sent: False when the store had this content already: the receipt then stays as it was.
            due_again: When to look again at what changed meanwhile (unix seconds).

        Returns:
            Whether this content is new there: False for a repeat.
        """
        row = self._con.execute(
            "SELECT size, mtime_ns, ctime_ns, inode, dest, due_at, digest FROM files"
            " WHERE folder = ? AND name = ? AND state = ?",
            (file.id.folder, file.id.name, State.UPLOADING),
        ).fetchone()
        if row is None:
            return sent
        here = row[4] == file.dest
        done = here and Signature(*row[:4]) == file.signature
        self._con.execute(
            "UPDATE files SET state = ?, due_at = ?, attempts = ?, kind = NULL, error = NULL, cure = NULL"
            " WHERE folder = ? AND name = ?",
            (State.STORED if done else State.DUE, None if done else row[5] or due_again, file.attempts + sent)
            + (file.id.folder, file.id.name),
        )
        if here and sent:
            self._con.execute(
                "UPDATE files SET digest = ?, doubt = 0, stored_size = ?, stored_at = ? WHERE folder = ? AND name = ?",
                (digest, file.signature.size, now, file.id.folder, file.id.name),
            )
        return sent and row[6] != digest

    def wait(self, file: FileId, sig: Signature, due_at: float, reason: str, *, touched: bool) -> None:
        """Not at rest yet: due again at `due_at`, with what it waits for; no attempt is counted.

        Args:
            file: As claimed.
            sig: As the delivery saw it last.
            due_at: Unix seconds.
            reason: For people.
            touched: Something was sent, so what the store holds now is in doubt.
        """
        self._con.execute(
            "UPDATE files SET state = ?, size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, due_at = ?, kind = NULL,"
            " error = ?, cure = NULL, doubt = max(doubt, ?)"
            " WHERE folder = ? AND name = ? AND state = ?",
            (State.DUE, sig.size, sig.mtime_ns, sig.ctime_ns, sig.inode, due_at, reason, touched)
            + (file.folder, file.name, State.UPLOADING),
        )

    def gone(self, file: FileId) -> None:
        """The file is not there any more: nothing to deliver, the receipt of what was delivered stays."""
        self.put_back(file)
        self.forget(file.folder, [file.name])

    def not_delivered(self, file: FileId, failure: Failure, next_try: float, *, touched: bool) -> None:
        """A try failed: due again at `next_try` (unix seconds), or failed for good; `touched` as in ``wait``."""
        state = State.FAILED if failure.kind is Kind.PERMANENT else State.DUE
        self._con.execute(
            "UPDATE files SET state = ?, due_at = ?, attempts = attempts + 1, kind = ?, error = ?, cure = ?,"
            " doubt = max(doubt, ?) WHERE folder = ? AND name = ? AND state = ?",
            (state, next_try, failure.kind, failure.error, failure.cure, touched)
            + (file.folder, file.name, State.UPLOADING),
        )

    def backlog(self) -> tuple[int, int]:
        """How many files wait or are under way, and how many failed; read from small indexes."""
        (due,) = self._con.execute("SELECT count(*) FROM files INDEXED BY due WHERE state = 0").fetchone()
        counts = dict(
            self._con.execute(
                "SELECT state, count(*) FROM files INDEXED BY unsettled WHERE state IN (1, 3) GROUP BY state"
            )
        )
        return due + counts.get(State.UPLOADING, 0), counts.get(State.FAILED, 0)

    def waiting(self) -> tuple[int, int]:
        """How many files wait or are under way, and their bytes."""
        (count, size) = self._con.execute("SELECT count(*), sum(size) FROM files WHERE state = 0").fetchone()
        (more, more_size) = self._con.execute("SELECT count(*), sum(size) FROM files WHERE state = 1").fetchone()
        return count + more, (size or 0) + (more_size or 0)

    def only_restless(self) -> bool:
        """Whether all that is due waits to come to rest: no failure, no held-back target or run stands in its way."""
        (others,) = self._con.execute(
            "SELECT EXISTS (SELECT 1 FROM files f JOIN runs r ON r.id = f.run WHERE f.state = 0"
            " AND (f.kind IS NOT NULL OR f.error IS NULL OR r.kind IS NOT NULL)) OR EXISTS (SELECT 1 FROM targets)"
        ).fetchone()
        return not others

    def count(self, name: str, more: int) -> None:
        """Add to a lifetime counter."""
        if more:
            self._con.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (name, more),
            )


def _run(row: Iterable[Any]) -> Run:
    values = list(row)
    tags, settings = values[8], values[9]
    values[2:4] = [bytes(values[2]), bytes(values[3])]
    values[8:10] = [json.loads(tags), json.loads(settings or "{}"), tags + settings]
    return Run(*values)
