"""A ledger that remembers more files than could be delivered in the time: copies of rows that the service wrote itself.

Whatever columns a row has, a copy has the same; only what tells one file from another is made anew.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from dropping import Service

from artifactd.ledger.schema import FILE_NAME

BELOW = 1000
"""Files of each folder."""

_OWN = ("name", "mtime_ns", "ctime_ns", "inode", "dest")


def name_of(n: int) -> str:
    """Sixty bytes long."""
    return f"a-file-name-of-sixty-bytes-as-training-jobs-write-{n:06}.txt"


def seed(service: Service, files: int) -> int:
    """Have a service that does not run remember files at rest in its first run, and make them; how many there are.

    Each is empty: what is measured with it never reads one.
    """
    folders = max(1, files // BELOW)
    with service:
        _write_first(service, folders)
    each = files // folders
    with _ledger(service) as db:
        for number, rel in _folders(db, service.program.drop):
            _copy(db, number, _made(service.program.drop / os.fsdecode(rel), each))
    return folders * each


def _write_first(service: Service, folders: int) -> None:
    """One file of each folder goes the whole way."""
    for n in range(folders):
        write = service.experiment / f"run-{n // 100}" / f"folder-{n}"
        write.mkdir(parents=True)
        (write / name_of(0)).touch()
    service.program.wait_idle(600)


def _folders(db: sqlite3.Connection, root: Path) -> list[tuple[int, bytes]]:
    """Those below a watched folder that hold a file: number, path within it."""
    return db.execute(
        "SELECT f.id, f.rel FROM files JOIN folders f ON f.id = files.folder JOIN roots r ON r.id = f.root"
        " WHERE r.path = ? AND files.name = ?",
        (os.fsencode(root), name_of(0).encode()),
    ).fetchall()


def _made(folder: Path, files: int) -> Iterator[tuple[int, os.stat_result]]:
    for n in range(1, files):
        fd = os.open(folder / name_of(n), os.O_CREAT | os.O_WRONLY, 0o644)
        yield n, os.fstat(fd)
        os.close(fd)


def _copy(db: sqlite3.Connection, folder: int, made: Iterator[tuple[int, os.stat_result]]) -> None:
    columns = [row[1] for row in db.execute("PRAGMA table_info(files)")]
    kept = [column for column in columns if column not in _OWN]
    chance = random.Random(folder)  # noqa: S311 (no secret)
    db.executemany(
        f"INSERT INTO files ({', '.join([*kept, *_OWN])}) SELECT {', '.join([*kept, *['?'] * len(_OWN)])} FROM files"
        " WHERE folder = ? AND name = ?",
        (
            (name_of(n).encode(), s.st_mtime_ns, s.st_ctime_ns, s.st_ino, chance.getrandbits(62), folder,
             name_of(0).encode())
            for n, s in made
        ),
    )  # fmt: skip


def remember(service: Service, root: Path, rows: int) -> None:
    """Have a service that does not run remember files of a watched folder that is away since.

    Args:
        service: Whose ledger holds one file there.
        root: The watched folder.
        rows: How many in all.
    """
    with _ledger(service) as db:
        ((folder, _),) = _folders(db, root)
        columns = [row[1] for row in db.execute("PRAGMA table_info(folders)") if row[1] not in ("id", "rel")]
        indices = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'files' AND sql LIKE 'CREATE INDEX%'"
        )
        made_anew = indices.fetchall()  # ten millions of rows in no order would be written one page each
        for name, _ in made_anew:
            db.execute(f"DROP INDEX {name}")
        for n in range(rows // BELOW):
            made = db.execute(
                f"INSERT INTO folders (rel, {', '.join(columns)})"
                f" SELECT CAST(rel || ? AS BLOB), {', '.join(columns)} FROM folders WHERE id = ?",
                (b"-%d" % n, folder),
            ).lastrowid
            _spread(db, folder, made or 0)
        for _, sql in made_anew:
            db.execute(sql)


def _spread(db: sqlite3.Connection, template: int, folder: int) -> None:
    """As many copies of a folder's one row as a folder has, in another folder."""
    columns = [row[1] for row in db.execute("PRAGMA table_info(files)")]
    changed = {
        "folder": str(folder), "name": "CAST(printf('%s-%06d', substr(name, 1, 53), n) AS BLOB)",
        "inode": f"inode + {folder} * {BELOW} + n",
        "dest": "abs(random())",
    }  # fmt: skip
    db.execute(
        f"WITH RECURSIVE c (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {BELOW - 1})"
        f" INSERT INTO files ({', '.join(columns)}) SELECT {', '.join(changed.get(c, c) for c in columns)}"
        " FROM c, files WHERE folder = ? AND name = ?",
        (template, name_of(0).encode()),
    )


@contextlib.contextmanager
def _ledger(service: Service) -> Iterator[sqlite3.Connection]:
    """The ledger of a service that does not run; one transaction."""
    with contextlib.closing(sqlite3.connect(service.program.state / FILE_NAME)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -200000")
        with db:
            yield db
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def size(service: Service) -> int:
    """Bytes of the ledger of a service that does not run."""
    return sum(path.stat().st_size for path in service.program.state.glob(f"{FILE_NAME}*"))
