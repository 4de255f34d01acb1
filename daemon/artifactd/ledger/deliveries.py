"""What is due, who has it in hand, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from artifactd.errors import Failure, Kind
from artifactd.ledger.damage import blob
from artifactd.ledger.looks import Looks
from artifactd.ledger.manifests import Manifests
from artifactd.ledger.order import Order, first, ranks, use_order
from artifactd.ledger.rows import Doubt, DueFile, FileId, Growth, Name, State, due_file, past_of
from artifactd.ledger.schema import LEAF, OF_MODELS
from artifactd.ledger.turns import IN_TURN
from artifactd.names import versioned
from artifactd.pace import LONGEST
from artifactd.paths import join
from artifactd.watching.signature import Signature

_SENT = ", sends = ?, sent_bytes = sent_bytes + ?, sent_at = ?"
_NAMES = {Doubt.STRANGE: Name.STRANGE, Doubt.FREE: Name.FREE}


class Deliveries(Looks, Manifests):
    """The side of the ledger that faces the workers."""

    def recover(self) -> int:
        """What was being uploaded when the last service ended is due again. Returns how many.

        What the store holds of it is in doubt: the old content, the new, or a part. Of what had still to be asked for,
        nothing was sent.
        """
        return self._con.execute(
            "UPDATE files SET state = ?, doubt = CASE doubt WHEN ? THEN doubt ELSE ? END"
            f" WHERE state = {State.UPLOADING:d}",
            (State.DUE, Doubt.STRANGE, Doubt.ASK),
        ).rowcount

    def move_waits(self, seconds: float) -> None:
        """The wall clock was set back by so much: what waits for a time waits as long as before."""
        self._con.execute("UPDATE files SET due_at = due_at - ? WHERE state = 0", (seconds,))
        self._con.execute("UPDATE runs SET next_try = next_try - ? WHERE next_try > 0", (seconds,))
        self._con.execute("UPDATE targets SET next_try = next_try - ?", (seconds,))

    def cut_waits(self, now: float, *, settle: float, retry: float) -> None:
        """A wait that no rule makes: the clock was set back while nothing ran. What waits so is due.

        Args:
            now: Unix seconds.
            settle: Longest wait for a file to come to rest, in seconds; one that is spaced out waits longer.
            retry: Longest wait for a next try, in seconds.
        """
        self._con.execute(
            "UPDATE files SET due_at = ? WHERE state = 0 AND due_at > ?"
            " + CASE WHEN kind IS NOT NULL THEN ? WHEN error IS NOT NULL THEN ? ELSE ? END",
            (now, now, retry, LONGEST, settle),
        )
        self._con.execute("UPDATE runs SET next_try = ? WHERE next_try > ?", (now, now + retry))
        self._con.execute("UPDATE targets SET next_try = ? WHERE next_try > ?", (now, now + retry))

    def runs_with_due(self) -> list[tuple[int, float]]:
        """Runs of the active roots that have files due, each with its earliest time (unix seconds)."""
        # Steps from run to run over the index instead of reading all of its entries.
        rows = self._con.execute(
            "WITH RECURSIVE step(run) AS (SELECT min(run) FROM files WHERE state = 0"
            " UNION ALL SELECT (SELECT min(run) FROM files WHERE state = 0 AND run > step.run) FROM step"
            " WHERE step.run IS NOT NULL)"
            " SELECT r.id, (SELECT min(due_at) FROM files WHERE state = 0 AND run = r.id) FROM step"
            " JOIN runs r ON r.id = step.run JOIN roots ON roots.id = r.root AND roots.active"
        )
        return [(int(run), float(due_at)) for run, due_at in rows]

    def use_order(self, order: Order) -> None:
        """Be ready to take files in this order."""
        use_order(self._con, order)

    def ranks(self, order: Order, runs: Iterable[int], now: float) -> dict[int, Any]:
        """What runs are sorted by in this order (not ``AGE``)."""
        return ranks(self._con, order, runs, now)

    def due_now(self, run: int, now: float, most: int) -> int:
        """How many files of this run there are whose time has come, up to `most`."""
        (count,) = self._con.execute(
            "SELECT count(*) FROM (SELECT 1 FROM files INDEXED BY due WHERE state = 0 AND run = ? AND due_at <= ?"
            " LIMIT ?)",
            (run, now, most),
        ).fetchone()
        return int(count)

    def peek(self, run: int, now: float, limit: int, order: Order = Order.AGE) -> list[tuple[bytes, bytes]]:
        """Folder and name of up to `limit` files of this run whose time has come: to be looked at before a claim."""
        if found := first(self._con, order, run, now, limit):
            return [(rel, name) for _, name, rel in found]
        rows = self._con.execute(
            "SELECT d.rel, f.name FROM files f INDEXED BY due JOIN folders d ON d.id = f.folder"
            " WHERE f.state = 0 AND f.run = ? AND f.due_at <= ? ORDER BY f.due_at LIMIT ?",
            (run, now, limit),
        )
        return [(blob(rel), blob(name)) for rel, name in rows]

    def claim(self, run: int, now: float, limit: int, max_bytes: int, order: Order = Order.AGE) -> list[DueFile]:
        """Take up to `limit` files of this run whose time has come, about `max_bytes` at most: mark them uploading."""
        one = "files f", "f.folder = ? AND f.name = ?"
        found = first(self._con, order, run, now, limit)
        rows = [row for folder, name, _ in found for row in self._claimable(run, now, *one, folder, name)]
        rows = rows or self._claimable(run, now, "files f INDEXED BY due", "TRUE ORDER BY f.due_at LIMIT ?", limit)
        batch: list[DueFile] = []
        total = 0
        for row in rows:
            folder, name, rel = row[:3]
            known = bool(row[14]), row[15], row[16], _NAMES.get(row[17], Name.OURS), bool(row[18])
            values = (folder, name, join(rel, name), *row[3:14], 0, *known, past_of(*row[19:]))
            file = due_file(*values)
            # One that failed before goes alone: if it is the one that kills its worker, it harms no other.
            alone = batch and (file.attempts or batch[0].attempts)
            if batch and (alone or total + file.signature.size > max_bytes):
                break
            total += file.signature.size
            batch.append(file)
        self._con.executemany(
            f"UPDATE files SET state = {State.UPLOADING:d} WHERE folder = ? AND name = ?", [f.id for f in batch]
        )
        return batch

    def _claimable(self, run: int, now: float, source: str, which: str, *values: Any) -> list[Any]:
        rows = self._con.execute(
            f"SELECT f.folder, f.name, d.rel, f.size, f.mtime_ns, f.ctime_ns, f.inode, p.dir, {LEAF}, f.dest,"
            " CASE WHEN f.doubt THEN NULL ELSE f.digest END, f.attempts, f.due_at, f.growth,"
            f" f.doubt = {Doubt.ASK:d} OR (r.found AND f.digest IS NULL), f.role, f.told, f.doubt,"
            " r.found AND f.digest IS NULL AND NOT f.doubt AND r.identity LIKE 'run:%',"
            f" f.sends, f.sent_bytes, f.sent_at FROM {source}"
            " JOIN folders d ON d.id = f.folder JOIN places p ON p.id = f.place JOIN runs r ON r.id = f.run"
            f" WHERE f.state = 0 AND f.run = ? AND f.due_at <= ? AND NOT f.{OF_MODELS}"
            f" AND f.growth != {Growth.HELD:d} AND {IN_TURN} AND {which}",
            (run, now, *values),
        )
        return rows.fetchall()

    def put_back(self, file: FileId) -> None:
        """A claimed file that was not tried is due as before."""
        self._con.execute(
            "UPDATE files SET state = ? WHERE folder = ? AND name = ? AND state = ?",
            (State.DUE, file.folder, file.name, State.UPLOADING),
        )

    def found_free(self, file: FileId) -> None:
        """Nothing stands under a claimed file's name in its run: due as before, and from now on it may be sent."""
        self._con.execute(
            "UPDATE files SET doubt = ? WHERE folder = ? AND name = ? AND state = ? AND doubt = ?",
            (Doubt.FREE, file.folder, file.name, State.UPLOADING, Doubt.STRANGE),
        )
        self.put_back(file)

    def delivered(
        self,
        file: DueFile,
        digest: bytes,
        *,
        size: int,
        now: float,
        sent: bool,
        due_again: float,
        dest: int | None = None,
        in_a_row: int | None = None,
        noted: Counter[int] | None = None,
    ) -> bool:
        """The receipt: the store holds this content at this destination.

        If a look saw the file change, or its destination move, while it was under way, or if only its first bytes were
        sent, it is due again.

        Args:
            file: As claimed.
            digest: SHA-256 of the stored content.
            size: Its bytes; fewer than the file has for a snapshot.
            now: Unix seconds, for the receipt.
            sent: False when the store had this content already.
            due_again: When to look again at what changed meanwhile (unix seconds).
            dest: The destination of a later version; None where it is that of the file itself.
            in_a_row: As for ``was_sent``, where bytes went out.
            noted: Counts what is to be told ``note_receipts``, for callers that write many; None: it is told here.

        Returns:
            Whether this content is new there: False for a repeat.
        """
        key = (file.id.folder, file.id.name)
        row = self._con.execute(
            "SELECT size, mtime_ns, ctime_ns, inode, dest, due_at, digest, role, run FROM files"
            f" WHERE folder = ? AND name = ? AND state = {State.UPLOADING:d}",
            key,
        ).fetchone()
        if row is None:
            if in_a_row is not None:
                self.was_sent(file.id, size, now, in_a_row=in_a_row)
            return sent
        here = row[4] == file.dest
        whole = file.growth is not Growth.SNAPSHOT
        news = sent or file.ask
        if here and news and file.version:
            self._con.execute(
                "INSERT OR REPLACE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, row[4], file.version, file.leaf, dest or row[4], digest, size, now),
            )
        done = here and whole and Signature(*row[:4]) == file.signature and row[7] == file.role
        again = (row[5] if whole else None) or due_again
        sets = "state = ?, due_at = ?, attempts = ?, kind = NULL, error = NULL, cure = NULL"
        values: list[object] = [int(State.STORED if done else State.DUE), None if done else again, file.attempts + sent]
        if here and news:
            sets += ", digest = ?, doubt = 0, stored_size = ?, stored_at = ?"
            values += digest, size, now
        if in_a_row is not None:
            sets += _SENT
            values += in_a_row, size, now
        self._con.execute(f"UPDATE files SET {sets} WHERE folder = ? AND name = ?", (*values, *key))
        if done:
            if noted is None:
                self.note_receipts({row[8]: 1})
            else:
                noted[row[8]] += 1
        return sent and row[6] != digest

    def delivered_new(self, file: DueFile, run: int, digest: bytes, *, size: int, now: float, in_a_row: int) -> bool:
        """The receipt of a file of which nothing is stored yet, and which nobody has touched: one step, and most go so.

        Args:
            file: As claimed.
            run: Its run's row.
            digest: As for ``delivered``; so are the others.
            size: In bytes.
            now: Unix seconds.
            in_a_row: Uploads.

        Returns:
            False where it is not so: nothing was written, and it is for ``delivered``. Else ``note_receipts`` is to
            be told.
        """
        if file.digest is not None or file.ask or file.version or file.growth is Growth.SNAPSHOT:
            return False
        written = self._con.execute(
            f"UPDATE files SET state = {State.STORED:d}, due_at = NULL, attempts = attempts + 1, kind = NULL,"
            f" error = NULL, cure = NULL, digest = ?, doubt = 0, stored_size = ?, stored_at = ?{_SENT}"
            f" WHERE folder = ? AND name = ? AND state = {State.UPLOADING:d} AND digest IS NULL AND dest = ?"
            " AND run = ? AND role = ? AND (size, mtime_ns, ctime_ns, inode) = (?, ?, ?, ?)",
            (digest, size, now, in_a_row, size, now, *file.id, file.dest, run, file.role, *file.signature),
        )
        return written.rowcount == 1

    def told(self, file: DueFile, mark: bytes, now: float) -> None:
        """The run was told what this content says, at `now` (unix seconds); `mark` is for the next time."""
        self._con.execute(
            "UPDATE files SET told = ?, told_at = ? WHERE folder = ? AND name = ? AND dest = ? AND role = ?",
            (mark, now, file.id.folder, file.id.name, file.dest, file.role),
        )

    def not_told(self, file: FileId, failure: Failure, next_try: float) -> None:
        """The content is stored, and the run could not be told what it says: again at `next_try`, or failed for good.

        What is due again anyway is told with it.
        """
        state = State.FAILED if failure.kind is Kind.PERMANENT else State.DUE
        self._con.execute(
            "UPDATE files SET state = ?, due_at = ?, attempts = attempts + 1, kind = ?, error = ?, cure = ?"
            " WHERE folder = ? AND name = ? AND state = ?",
            (state, next_try, failure.kind, failure.error, failure.cure, file.folder, file.name, State.STORED),
        )

    def as_next_version(self, file: DueFile) -> DueFile:
        """The file under the name that its content gets if it is new: the first has its own, then ``_v2`` and on.

        The number is counted from receipts, so a crash between an upload and its receipt uses the same one again. What
        older versions hold stays as it was, so their digest is sure whatever happened to a later upload.
        """
        row = self._con.execute(
            "SELECT number, digest FROM versions WHERE folder = ? AND name = ? AND base = ?"
            " ORDER BY number DESC LIMIT 1",
            (file.id.folder, file.id.name, file.dest),
        ).fetchone()
        if row is None:
            return replace(file, version=1)
        number = int(row[0]) + 1
        return replace(file, version=number, leaf=versioned(file.leaf, number), digest=blob(row[1]))

    def was_sent(self, file: FileId, size: int, now: float, *, in_a_row: int) -> None:
        """Bytes went out for this file, whatever came of it: what its next upload is paced by.

        Args:
            file: Which.
            size: Bytes.
            now: Unix seconds.
            in_a_row: Uploads in a row, with this one.
        """
        self._con.execute(
            f"UPDATE files SET {_SENT[2:]} WHERE folder = ? AND name = ?",
            (in_a_row, size, now, file.folder, file.name),
        )

    def wait(self, file: FileId, sig: Signature, due_at: float, reason: str, *, touched: bool) -> None:
        """Not at rest yet: due again at `due_at`, with what it waits for; no attempt is counted.

        Args:
            file: As claimed.
            sig: As the delivery saw it last.
            due_at: Unix seconds.
            reason: For people.
            touched: Something was sent that the file no longer holds.
        """
        self._con.execute(
            "UPDATE files SET state = ?, size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, due_at = ?, kind = NULL,"
            " error = ?, cure = NULL, doubt = CASE WHEN ? THEN ? ELSE doubt END"
            " WHERE folder = ? AND name = ? AND state = ?",
            (State.DUE, sig.size, sig.mtime_ns, sig.ctime_ns, sig.inode, due_at, reason, touched, Doubt.CHANGED)
            + (file.folder, file.name, State.UPLOADING),
        )

    def gone(self, file: FileId) -> None:
        """The file is not there any more: nothing to deliver, the receipt of what was delivered stays."""
        self.put_back(file)
        self.forget(file.folder, [file.name])

    def not_delivered(self, file: FileId, failure: Failure, next_try: float, *, touched: bool) -> None:
        """A try failed: due again at `next_try` (unix seconds), or failed for good.

        `touched` says that something was sent, which the store may have taken all the same: it is asked next time.
        """
        state = State.FAILED if failure.kind is Kind.PERMANENT else State.DUE
        self._con.execute(
            "UPDATE files SET state = ?, due_at = ?, attempts = attempts + 1, kind = ?, error = ?, cure = ?,"
            " doubt = CASE WHEN ? AND doubt != ? THEN ? ELSE doubt END WHERE folder = ? AND name = ? AND state = ?",
            (state, next_try, failure.kind, failure.error, failure.cure, touched, Doubt.STRANGE, Doubt.ASK)
            + (file.folder, file.name, State.UPLOADING),
        )

    def backlog(self) -> tuple[int, int]:
        """How many files of the active roots wait or are under way, and how many failed."""
        return self._counted("f.state = 0")[0] + self._counted("f.state = 1")[0], self._counted("f.state = 3")[0]

    def uploading(self) -> int:
        """How many files of the active roots are under way."""
        return self._counted("f.state = 1")[0]

    def waiting(self) -> tuple[int, int]:
        """How many files of the active roots wait or are under way, and their bytes."""
        (due, due_bytes), (sent, sent_bytes) = self._counted("f.state = 0"), self._counted("f.state = 1")
        return due + sent, due_bytes + sent_bytes

    def _counted(self, state: str) -> tuple[int, int]:
        # One state at a time, so that a partial index serves it whatever the number of files that are stored.
        count, size = self._con.execute(
            f"SELECT count(*), sum(f.size) FROM files f JOIN folders d ON d.id = f.folder"
            f" JOIN roots ON roots.id = d.root AND roots.active WHERE {state}"
        ).fetchone()
        return count, size or 0

    def try_now(self) -> None:
        """Forget how long to wait: somebody asks for a try now. How often it failed stays."""
        self._con.execute("UPDATE targets SET next_try = 0")
        self._con.execute("UPDATE runs SET next_try = 0 WHERE next_try != 0")
        self._con.execute("UPDATE files SET due_at = 0 WHERE state = 0 AND kind IS NOT NULL")

    def only_restless(self) -> bool:
        """Whether all that is due waits to come to rest: no failure, no held-back target or run stands in its way."""
        (others,) = self._con.execute(
            "SELECT EXISTS (SELECT 1 FROM files f JOIN runs r ON r.id = f.run"
            " JOIN roots ON roots.id = r.root AND roots.active WHERE f.state = 0"
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
