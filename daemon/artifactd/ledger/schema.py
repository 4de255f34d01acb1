"""The ledger's file: its tables, its version, how it is opened and brought forward.

WAL, so that ``status`` and ``explain`` read beside the service; ``synchronous=FULL``, so that a receipt that was
written survives a power cut (commits are batched, one a turn of the loop, so the fsync is paid per batch).
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from artifactd.errors import ArtifactdError
from artifactd.whose import make_file

FILE_NAME = "ledger.db"

_QUICK = 256 * 2**20
"""Bytes of a ledger that is copied within some seconds."""

# Rows are keyed by folder and name as the bytes that the filesystem gave. `files` has no rowid: its rows lie in
# the order in which a folder is looked at, so a look reads one run of pages. Destination folders repeat for
# thousands of files and have a table of their own.
_TABLES = """
CREATE TABLE roots (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    mode TEXT NOT NULL DEFAULT '',
    healthy INTEGER NOT NULL DEFAULT 1,
    detail TEXT NOT NULL DEFAULT '',
    active INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    root INTEGER NOT NULL,
    rel BLOB NOT NULL,
    rules TEXT NOT NULL DEFAULT '',
    UNIQUE (root, rel)
);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    root INTEGER NOT NULL,
    folder BLOB NOT NULL,
    target TEXT NOT NULL,
    identity TEXT NOT NULL,
    experiment TEXT NOT NULL,
    name TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '{}',
    settings TEXT NOT NULL DEFAULT '',
    applied TEXT NOT NULL DEFAULT '',
    run_id TEXT,
    status TEXT NOT NULL DEFAULT '',
    kind TEXT,
    error TEXT,
    cure TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    UNIQUE (root, folder, target, identity)
);
CREATE TABLE targets (
    uri TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    error TEXT NOT NULL,
    cure TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_try REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE places (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    dir TEXT NOT NULL,
    UNIQUE (run, dir)
);
CREATE TABLE files (
    folder INTEGER NOT NULL,
    name BLOB NOT NULL,
    state INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    run INTEGER,
    place INTEGER,
    leaf TEXT,
    dest INTEGER,
    digest BLOB,
    doubt INTEGER NOT NULL DEFAULT 0,
    stored_size INTEGER,
    stored_at REAL,
    sends INTEGER NOT NULL DEFAULT 0,
    sent_bytes INTEGER NOT NULL DEFAULT 0,
    sent_at REAL,
    growth INTEGER NOT NULL DEFAULT 0,
    due_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    kind TEXT,
    error TEXT,
    cure TEXT,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE versions (
    folder INTEGER NOT NULL,
    name BLOB NOT NULL,
    base INTEGER NOT NULL,
    number INTEGER NOT NULL,
    leaf TEXT NOT NULL,
    dest INTEGER NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    stored_at REAL NOT NULL,
    PRIMARY KEY (folder, name, base, number)
) WITHOUT ROWID;
CREATE INDEX version_destinations ON versions (dest);
CREATE INDEX due ON files (run, due_at) WHERE state = 0;
CREATE INDEX uploading ON files (run) WHERE state = 1;
CREATE INDEX failed ON files (run) WHERE state = 3;
CREATE INDEX destinations ON files (dest) WHERE dest IS NOT NULL;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

LEAF = "coalesce(nullif(f.named, ''), CAST(f.name AS TEXT))"
"""Of a file ``f`` that has a destination: the last part of its artifact path."""

OPEN = (
    "(asked != '' AND answered = 0 OR asked != '' AND marker != '' AND marker != asked"
    " OR marker = '' AND want != '' AND want != asked)"
)
"""Of a life: the server is to be told another status than the one that it was asked for last."""

OF_MODELS = "role GLOB 'model:*'"
"""Of a file: it goes to a logged model."""

# Rows a third shorter: what their key says already (`destinations`) is in no column and in no index. A new table and
# not an update, since rows that are shortened in place leave a third of each page empty. The column has another name,
# so that a service of the version before, under which this is done, ends, and takes no empty one for a name.
_SLIM = f"""
CREATE INDEX identities ON runs (identity);
CREATE TEMP TABLE own (place INTEGER PRIMARY KEY, folder INTEGER NOT NULL);
INSERT INTO own SELECT p.id, d.id FROM places p JOIN runs r ON r.id = p.run
    JOIN runs h ON h.id = (SELECT min(s.id) FROM runs s WHERE s.identity = r.identity AND s.target = r.target)
    JOIN folders d ON d.root = h.root AND d.rel = CAST(
        CASE WHEN p.dir = '' THEN h.folder WHEN h.folder = x'' THEN p.dir ELSE h.folder || '/' || p.dir END AS BLOB);
CREATE TABLE slim_files (
    folder INTEGER NOT NULL,
    name BLOB NOT NULL,
    state INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    run INTEGER,
    place INTEGER,
    named TEXT,
    dest INTEGER,
    digest BLOB,
    doubt INTEGER NOT NULL DEFAULT 0,
    stored_size INTEGER,
    stored_at REAL,
    sends INTEGER NOT NULL DEFAULT 0,
    sent_bytes INTEGER NOT NULL DEFAULT 0,
    sent_at REAL,
    growth INTEGER NOT NULL DEFAULT 0,
    due_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    kind TEXT,
    error TEXT,
    cure TEXT,
    role TEXT NOT NULL DEFAULT '',
    told BLOB,
    told_at REAL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
INSERT INTO slim_files SELECT f.folder, f.name, f.state, f.size, f.mtime_ns, f.ctime_ns, f.inode, f.run, f.place,
    CASE WHEN f.leaf IS NULL OR CAST(f.leaf AS BLOB) != f.name THEN f.leaf
        WHEN own.folder = f.folder AND NOT f.{OF_MODELS} THEN NULL ELSE '' END,
    f.dest, f.digest, f.doubt, f.stored_size, f.stored_at, f.sends, f.sent_bytes, f.sent_at, f.growth, f.due_at,
    f.attempts, f.kind, f.error, f.cure, f.role, f.told, f.told_at
    FROM files f LEFT JOIN own ON own.place = f.place ORDER BY f.folder, f.name;
DROP TABLE files;
DROP TABLE own;
ALTER TABLE slim_files RENAME TO files;
CREATE INDEX due ON files (run, due_at) WHERE state = 0;
CREATE INDEX uploading ON files (run) WHERE state = 1;
CREATE INDEX failed ON files (run) WHERE state = 3;
CREATE INDEX due_models ON files (run) WHERE state = 0 AND {OF_MODELS};
CREATE INDEX uploading_models ON files (run) WHERE state = 1 AND {OF_MODELS};
CREATE INDEX destinations ON files (dest) WHERE named IS NOT NULL
"""

# Forward only: entry n brings version n to n + 1.
_MIGRATIONS: tuple[str, ...] = (
    _TABLES,
    "ALTER TABLE runs ADD COLUMN found INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX untold ON runs (target) WHERE run_id IS NOT NULL AND applied != tags || settings",
    """
ALTER TABLE files ADD COLUMN role TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN told BLOB;
ALTER TABLE files ADD COLUMN told_at REAL;
""",
    """
CREATE TABLE manifests (run INTEGER PRIMARY KEY, changes INTEGER NOT NULL, described INTEGER NOT NULL DEFAULT 0)
""",
    # How a run lives and ends: what its folder says (marker, reason), what was seen of it (moved_at), what follows from
    # that (want), and what the server was asked for last (asked). `open_ends` holds those where the two differ.
    f"""
CREATE TABLE lives (
    run INTEGER PRIMARY KEY,
    began INTEGER,
    parent INTEGER,
    nests INTEGER NOT NULL DEFAULT 0,
    may_end INTEGER NOT NULL DEFAULT 0,
    marker TEXT,
    marked_at INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    signs TEXT NOT NULL DEFAULT '',
    moved_at REAL,
    seen TEXT NOT NULL DEFAULT '',
    want TEXT NOT NULL DEFAULT '',
    why TEXT NOT NULL DEFAULT '',
    asked TEXT NOT NULL DEFAULT '',
    asked_at INTEGER,
    answered INTEGER NOT NULL DEFAULT 1,
    ours INTEGER NOT NULL DEFAULT 0,
    earlier TEXT NOT NULL DEFAULT ''
);
CREATE INDEX open_ends ON lives (run) WHERE {OPEN};
CREATE INDEX children ON lives (parent) WHERE parent IS NOT NULL;
CREATE INDEX running ON runs (root) WHERE status = 'RUNNING';
""",
    # Asked for before each job: nobody reads a backlog for them.
    f"""
CREATE INDEX due_models ON files (run) WHERE state = 0 AND {OF_MODELS};
CREATE INDEX uploading_models ON files (run) WHERE state = 1 AND {OF_MODELS};
""",
    _SLIM,
)
VERSION = len(_MIGRATIONS)


class LedgerError(ArtifactdError):
    """The ledger's file cannot be used as it is."""


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the ledger at `path`, bring it to this version, and return the connection (autocommit mode).

    Raises:
        LedgerError: Missing (with ``create=False``), newer than this program, damaged or not writable.
    """
    if not create and not path.exists():
        raise LedgerError(f"no ledger at {path}", "Start the service once, or name its state folder: --state-dir")
    # Digests and folder names are nobody else's business; files that SQLite makes beside it inherit mode and owner.
    try:
        make_file(path, 0o600)
    except OSError as exc:
        raise LedgerError(f"the ledger {path} cannot be made: {exc.strerror}", _SPACE) from exc
    try:
        con = sqlite3.connect(path, timeout=10, isolation_level=None)
    except sqlite3.Error as exc:
        raise unusable(path, exc) from exc
    try:
        con.execute("PRAGMA journal_mode = WAL")
        con.execute("PRAGMA synchronous = FULL")
        con.execute("PRAGMA temp_store = MEMORY")
        if _migrate(con, path):
            _shrink(con)
    except BaseException as exc:
        con.close()  # a migration that failed has the file locked, until somebody collects the garbage
        if isinstance(exc, sqlite3.Error):
            raise unusable(path, exc) from exc
        raise
    return con


def written_version(path: Path) -> int | None:
    """The version of the ledger at `path` as it stands there: nothing is brought forward or made.

    Returns:
        Its number, to be compared with ``VERSION``; None where there is no ledger.

    Raises:
        LedgerError: It cannot be read.
    """
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as con:
            return int(con.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as exc:
        raise unusable(path, exc) from exc


def unusable(path: Path, exc: sqlite3.Error | str) -> LedgerError:
    """What cannot be done with the file, for people: by SQLite's word, or ours."""
    return LedgerError(
        f"the ledger {path} cannot be used: {exc}",
        "Check that its folder is writable and has space. If the file is damaged, move it away: it is built anew from "
        "the folders and the runs, and what these hold already is not sent again.",
    )


_SPACE = "Check that its folder exists, is writable for this user and has space"


def _migrate(con: sqlite3.Connection, path: Path) -> bool:
    """Bring the ledger to this version; whether it was a ledger before."""
    (version,) = con.execute("PRAGMA user_version").fetchone()
    in_use = bool(0 < version < VERSION)
    if version > VERSION:
        raise LedgerError(
            f"the ledger {path} was written by a newer artifactd (schema {version}, this one knows {VERSION})",
            "Install that version again, or give another --state-dir",
        )
    while version < VERSION:
        con.execute("BEGIN IMMEDIATE")
        (version,) = con.execute("PRAGMA user_version").fetchone()  # another process may have done it meanwhile
        if version < VERSION:
            for statement in _MIGRATIONS[version].split(";"):
                if statement.strip():
                    con.execute(statement)
            version += 1
            con.execute(f"PRAGMA user_version = {version}")
        con.execute("COMMIT")
    return in_use


def _shrink(con: sqlite3.Connection) -> None:
    """Give the disk back what a migration left empty. Where that takes more than moments, new rows get it in time."""
    pages, free, size = (
        con.execute(f"PRAGMA {x}").fetchone()[0] for x in ("page_count", "freelist_count", "page_size")
    )
    if 4 * free < pages or (pages - free) * size > _QUICK:
        return
    con.execute("PRAGMA temp_store = FILE")  # the copy is as big as the ledger
    # Whoever reads or writes beside, or a disk without space for the copy, is no reason not to start.
    with contextlib.suppress(sqlite3.OperationalError):
        con.execute("VACUUM")
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    con.execute("PRAGMA temp_store = MEMORY")
