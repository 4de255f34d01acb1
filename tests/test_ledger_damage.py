"""A damaged ledger says so, whoever asks what of it; tests/fuzz damages it in many more ways."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifactd.ledger import Ledger, LedgerError, Report
from artifactd.ledger.manifests import stored_files
from artifactd.ledger.needs import read_needs
from artifactd.ledger.schema import FILE_NAME
from desk import at_desk


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    with at_desk(tmp_path) as desk:
        desk.write("e/r/f")
        desk.write("e/r/g")
        desk.scan()
        desk.deliver()
    return tmp_path / FILE_NAME


def change(ledger: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(ledger)) as con:
        for statement in statements:
            con.execute(statement)
        con.commit()


ASKED: list[tuple[str, Callable[[Report], Any]]] = [
    ("UPDATE files SET state = 99", lambda report: report.totals()),
    ("UPDATE files SET state = 0, ctime_ns = 'soon'", lambda report: report.totals()),
    ("UPDATE roots SET path = 7.5", lambda report: report.watches()),
    ("UPDATE folders SET rel = 'text'", lambda report: report.files()),
    ("UPDATE runs SET name = CAST(x'ff' AS TEXT)", lambda report: report.runs()),
    ("DROP TABLE files", lambda report: report.counts()),
    ("DROP TABLE lives", lambda report: report.runs()),
]


@pytest.mark.parametrize(("damage", "ask"), ASKED)
def test_a_value_that_cannot_be_and_a_table_that_is_not_there_are_told_in_words(
    damage: str, ask: Callable[[Report], Any], ledger: Path
) -> None:
    change(ledger, damage)
    with (
        contextlib.closing(Report(ledger.parent)) as report,
        pytest.raises(LedgerError, match="cannot be used") as told,
    ):
        ask(report)
    assert str(ledger) in str(told.value)
    assert "move it away" in str(told.value)


def test_what_is_asked_at_one_moment_is_told_in_words_too(ledger: Path) -> None:
    with contextlib.closing(Report(ledger.parent)) as report:
        change(ledger, "DROP TABLE files")

        def ask() -> None:
            with report.snapshot():
                report._con.execute("COMMIT")  # as SQLite does by itself where the file is damaged
                report.totals()

        with pytest.raises(LedgerError, match="cannot be used"):
            ask()
        assert not report._con.in_transaction
    with pytest.raises(LedgerError, match="cannot be used"), report.snapshot():
        pytest.fail("a file that cannot be read has no state")


def test_the_service_and_its_helpers_tell_it_likewise(ledger: Path) -> None:
    change(
        ledger,
        "UPDATE files SET digest = 70000000000, stored_at = 'then'",
        "UPDATE runs SET tags = '{'",
        "UPDATE roots SET path = 7.5",
    )
    with contextlib.closing(Ledger(ledger.parent)) as opened, pytest.raises(LedgerError, match="makes no sense"):
        opened.run(1)
    with pytest.raises(LedgerError, match="makes no sense"):
        read_needs(ledger.parent, time.time())
    with pytest.raises(LedgerError, match="makes no sense"):
        stored_files(ledger, 1)


@pytest.mark.parametrize("version", [-1, 3])
def test_a_ledger_that_cannot_be_brought_forward_is_not_left_locked(version: int, ledger: Path) -> None:
    change(ledger, f"PRAGMA user_version = {version}")
    for _ in range(2):
        with pytest.raises(LedgerError, match="cannot be used"):
            Ledger(ledger.parent)
    con = sqlite3.connect(ledger, timeout=0)
    with contextlib.closing(con):
        con.execute("BEGIN IMMEDIATE")
