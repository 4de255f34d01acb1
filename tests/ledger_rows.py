"""A ledger with as many rows as one likes: real looks over real files would take minutes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from artifactd.ledger import State
from artifactd.ledger.schema import FILE_NAME

ERROR = "500: the store is full"


def fill(state_dir: Path, drop: Path, *, files: int, runs: int, failed: int = 0, waiting: int = 0) -> None:
    """Add stored files, evenly to runs, to the ledger of a watched folder.

    Args:
        state_dir: Where the ledger is.
        drop: The watched folder.
        files: All of them.
        runs: All of them.
        failed: Of the files, the first ones.
        waiting: Of the files, those after them.
    """
    now = time.time()
    with contextlib.closing(sqlite3.connect(state_dir / FILE_NAME)) as con, con:
        (root,) = con.execute("SELECT id FROM roots WHERE path = ?", (os.fsencode(drop),)).fetchone()
        for number in range(runs):
            rel = b"many/run-%05d" % number
            (run,) = con.execute(
                "INSERT INTO runs (root, folder, target, identity, experiment, name, run_id, status)"
                " VALUES (?, ?, 'http://mlflow.test', ?, 'many', ?, ?, 'RUNNING') RETURNING id",
                (root, rel, f"key-{number}", f"run-{number:05}", f"{number:032x}"),
            ).fetchone()
            (folder,) = con.execute(
                "INSERT INTO folders (root, rel) VALUES (?, ?) RETURNING id", (root, rel)
            ).fetchone()
            (place,) = con.execute("INSERT INTO places (run, dir) VALUES (?, '') RETURNING id", (run,)).fetchone()
            rows = []
            for at in range(number, files, runs):
                state = State.FAILED if at < failed else State.DUE if at < failed + waiting else State.STORED
                trouble = ("permanent", ERROR, "Make room") if state is State.FAILED else (None, None, None)
                stored = (1000, now) if state is State.STORED else (None, None)
                due = now if state is State.DUE else None
                rows.append((folder, b"file-%07d.bin" % at, state, 1000, run, place, at, *stored, due, *trouble))
            con.executemany(
                "INSERT INTO files (folder, name, state, size, mtime_ns, ctime_ns, inode, run, place, dest,"
                " stored_size, stored_at, due_at, kind, error, cure)"
                f" VALUES (?, ?, ?, ?, 1, {int(now * 1e9)}, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
