"""The open ledger file and its transactions, on which the other parts of the room stand."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from artifactd import failpoint
from artifactd.ledger import schema
from artifactd.ledger.destinations import Destinations


class Base:
    """An open ledger; use from one thread.

    Raises:
        LedgerError: From the constructor, when the file cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / schema.FILE_NAME
        self._con = schema.connect(self.path, create=True)
        self._destinations = Destinations(self._con)

    def close(self) -> None:
        """Close the file; SQLite folds the write-ahead log into it."""
        self._con.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Group writes into one durable step; nested use joins the outer one.

        Raises:
            LedgerError: The disk is full or failing; nothing of the step was written.
        """
        if self._con.in_transaction:
            yield
            return
        try:
            self._con.execute("BEGIN IMMEDIATE")
            yield
            failpoint.reach("commit.before")
            self._con.execute("COMMIT")
        except BaseException as exc:
            self._destinations.forget()
            with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself when the disk is full
                self._con.execute("ROLLBACK")
            if isinstance(exc, sqlite3.Error):
                raise schema.unusable(self.path, exc) from exc
            raise
        failpoint.reach("commit.after")

    def rest(self) -> None:
        """Give back the memory that work took."""
        self._con.execute("PRAGMA shrink_memory")

    def changed_outside(self) -> int:
        """A number that moves when another process (``artifactd retry``) wrote into the ledger."""
        return int(self._con.execute("PRAGMA data_version").fetchone()[0])
