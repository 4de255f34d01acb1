"""Models among what is due: a folder's files are handed out together, and by no other claim."""

from __future__ import annotations

import os
from collections.abc import Mapping

from artifactd.ledger.base import Base
from artifactd.ledger.damage import blob
from artifactd.ledger.rows import Doubt, DueFile, FileId, State, past_of
from artifactd.ledger.schema import LEAF, OF_MODELS
from artifactd.registration import ModelRole
from artifactd.watching.signature import Signature


class Models(Base):
    """The side of the ledger that faces deliveries of whole models."""

    def due_models(self, run: int, now: float) -> list[bytes]:
        """Folders of models of this run with files whose time has come, relative to the root.

        Where names give numbers, the lower one comes first, and a higher one waits for it while it is on its way.
        """
        rows = self._con.execute(
            "SELECT DISTINCT d.rel, f.role, f.due_at <= ? FROM files f JOIN folders d ON d.id = f.folder"
            f" WHERE f.state = 0 AND f.run = ? AND f.{OF_MODELS}"
            " UNION SELECT DISTINCT d.rel, f.role, 0 FROM files f JOIN folders d ON d.id = f.folder"
            f" WHERE f.state = 1 AND f.run = ? AND f.{OF_MODELS}",
            (now, run, run),
        )
        due: set[tuple[int, bytes, str]] = set()
        on_their_way: dict[str, int] = {}
        for rel, text, is_due in rows:
            role = ModelRole.of(text)
            if role is None:
                continue
            if role.number is not None:
                on_their_way[role.token] = min(role.number, on_their_way.get(role.token, role.number))
            if is_due:
                due.add((-1 if role.number is None else role.number, role.folder(blob(rel)), role.token))
        return [folder for number, folder, token in sorted(due) if number <= on_their_way.get(token, number)]

    def claim_model(
        self, root: int, run: int, role: str, members: Mapping[bytes, Signature], now: float
    ) -> list[DueFile]:
        """Take all files of a model, those that are stored as well: mark them uploading.

        Args:
            root: The watched folder.
            run: The model's.
            role: That its files have.
            members: Its files as they are on disk, by path relative to the root.
            now: Unix seconds.

        Returns:
            The files; none where a look has not seen them all as they are, or where nothing of the model is due now.
        """
        files: list[DueFile] = []
        due = False
        for rel, signature in members.items():
            folder, name = os.path.split(rel)
            row = self._con.execute(
                f"SELECT f.folder, f.name, f.size, f.mtime_ns, f.ctime_ns, f.inode, p.dir, {LEAF}, f.dest, f.digest,"
                " f.attempts, f.due_at, f.role, f.told, f.state, f.doubt, f.sends, f.sent_bytes, f.sent_at"
                " FROM files f JOIN folders d ON d.id = f.folder JOIN places p ON p.id = f.place"
                " WHERE d.root = ? AND d.rel = ? AND f.name = ? AND f.run = ? AND f.role = ?",
                (root, folder, name, run, role),
            ).fetchone()
            if row is None or Signature(*row[2:6]) != signature or row[14] == State.UPLOADING:
                return []
            if row[14] == State.DUE:
                if row[11] > now:
                    return []  # it comes to rest, or its last try was a short while ago
                due = True
            # Stored before, and the store was seen to hold it no more: there is nothing to be asked.
            lost = row[15] == Doubt.CHANGED or (row[9] is None and row[13] is not None)
            files.append(
                DueFile(
                    FileId(row[0], blob(row[1])), rel, signature, row[6], row[7], row[8], row[9], row[10],
                    row[11] or 0.0, ask=not lost, role=row[12], told=row[13], past=past_of(*row[16:19]),
                )
            )  # fmt: skip
        if not due:
            return []
        self._con.executemany(
            "UPDATE files SET state = ? WHERE folder = ? AND name = ?",
            [(State.UPLOADING, f.id.folder, f.id.name) for f in files],
        )
        return files
