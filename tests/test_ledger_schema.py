from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from artifactd.ledger import FileId, Ledger, LedgerError, Report
from artifactd.ledger.schema import FILE_NAME, LEAF, VERSION, written_version


def test_a_new_ledger_is_private_and_of_this_version(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    file = tmp_path / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(file)) as con:
        assert con.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_newer_ledger_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as con:
        con.execute(f"PRAGMA user_version = {VERSION + 1}")
    con.close()
    with pytest.raises(LedgerError, match="newer artifactd"):
        Ledger(tmp_path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, whatever the name says" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used") as caught:
        Ledger(tmp_path)
    assert "move it away" in caught.value.cure


def test_reading_where_there_is_none_makes_none(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        Report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be made"):
        Ledger(tmp_path / "nowhere")


def test_the_version_is_read_and_nothing_is_made_or_brought_forward(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    assert written_version(file) is None
    assert list(tmp_path.iterdir()) == []
    ledger = Ledger(tmp_path)
    assert written_version(file) == VERSION, "beside the service"
    ledger.close()
    with sqlite3.connect(file) as con:
        con.execute("PRAGMA user_version = 3")
    con.close()
    assert (written_version(file), written_version(file)) == (3, 3)


def test_the_version_of_what_is_no_ledger_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, whatever the name says" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used"):
        written_version(tmp_path / FILE_NAME)


BEFORE = Path(__file__).with_name("ledger-7.sql")
"""A ledger of the version before names that say themselves were dropped: routes, encoded names, versions, clashes, a
model, runs of several folders, a folder below two roots."""

_SAME = (
    "f.folder, f.name, f.state, f.size, f.mtime_ns, f.ctime_ns, f.inode, f.run, f.place, f.dest, f.digest, f.doubt,"
    " f.stored_size, f.stored_at, f.sends, f.sent_bytes, f.sent_at, f.growth, f.due_at, f.attempts, f.kind, f.error,"
    " f.cure, f.role, f.told, f.told_at"
)


@contextmanager
def as_before(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / FILE_NAME)) as con:
        con.executescript(BEFORE.read_text())
        yield con


def test_a_ledger_of_before_is_brought_forward_and_knows_all_that_it_knew(tmp_path: Path) -> None:
    with as_before(tmp_path) as con:
        knew = con.execute(f"SELECT {_SAME}, f.leaf FROM files f").fetchall()
        others = {table: con.execute(f"SELECT * FROM {table}").fetchall() for table in ("versions", "runs", "places")}
    assert len(knew) > 25
    with closing(Ledger(tmp_path)) as ledger:
        con = ledger._con
        leaf = f"CASE WHEN f.dest IS NOT NULL THEN {LEAF} END"
        assert con.execute(f"SELECT {_SAME}, {leaf} FROM files f").fetchall() == knew
        assert {table: con.execute(f"SELECT * FROM {table}").fetchall() for table in others} == others
        assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_in_a_ledger_of_before_rows_are_kept_as_they_would_be_now_and_each_is_found(tmp_path: Path) -> None:
    with as_before(tmp_path):
        pass
    with closing(Ledger(tmp_path)) as ledger:
        con = ledger._con
        natural = 0
        for folder, name, run, directory, leaf, named, dest in con.execute(
            f"SELECT f.folder, f.name, f.run, p.dir, {LEAF}, f.named, f.dest FROM files f"
            " JOIN places p ON p.id = f.place"
        ).fetchall():
            assert named == ledger._destinations.spot(folder, run, directory).named(name, leaf, dest)
            found = ledger._destinations.holding(dest, run, f"{directory}/{leaf}".lstrip("/"))
            assert (folder, name) in [row[:2] for row in found]
            natural += named is None
        assert 10 < natural < 20
        versions = con.execute("SELECT v.dest, v.leaf, f.run FROM versions v JOIN files f USING (folder, name)")
        for dest, leaf, run in versions.fetchall():
            assert ledger.holder(dest, FileId(0, b""), run, leaf) is not None


def test_what_a_big_ledger_of_before_took_is_given_back(tmp_path: Path) -> None:
    copies = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000)"
    with as_before(tmp_path) as con, con:
        columns = [row[1] for row in con.execute("PRAGMA table_info(files)")]
        made = {"name": "CAST(printf('%060d', n) AS BLOB)", "leaf": "printf('%060d', n)", "dest": "random()"}
        con.execute(
            f"{copies} INSERT INTO files ({', '.join(columns)}) SELECT {', '.join(made.get(c, c) for c in columns)}"
            " FROM c, files WHERE name = CAST('A.txt' AS BLOB) AND state = 2"
        )
    before = (tmp_path / FILE_NAME).stat().st_size
    with closing(Ledger(tmp_path)) as ledger:
        assert ledger._con.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert (tmp_path / FILE_NAME).stat().st_size < 0.6 * before
