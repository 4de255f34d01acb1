from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from artifactd.ledger import Ledger, LedgerError, Report
from artifactd.ledger.schema import FILE_NAME, VERSION


def test_a_new_ledger_is_private_and_of_this_version(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    file = tmp_path / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(file) as con:
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
