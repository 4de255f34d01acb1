"""The state folder and its ledger, by real ones."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.doctor import state
from artifactd.doctor.finding import Finding, Level
from artifactd.doctor.surroundings import Surroundings
from artifactd.ledger.schema import FILE_NAME, VERSION, written_version
from artifactd.watching.mounts import Mount
from cli_support import Book
from support import as_somebody, reachable_folder


@pytest.fixture
def top() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def looked(folder: Path) -> list[Finding]:
    return list(state.state_folder(folder, Surroundings(environ={}, uid=os.geteuid())))


def levels(found: list[Finding]) -> list[Level]:
    return [finding.level for finding in found]


def test_a_private_folder_is_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (found,) = looked(folder)
    assert found.level in (Level.OK, Level.NOTICE)  # where tests run in a container's own layer or in memory
    assert found.what == f"state folder {folder}"


def test_others_who_can_look_in_are_a_notice(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    found = looked(tmp_path)[-1]
    assert (found.level, found.cure) == (Level.NOTICE, f"chmod 700 {tmp_path}")


def test_one_that_is_not_there_yet(tmp_path: Path) -> None:
    (found,) = looked(tmp_path / "deep" / "state")
    assert (found.level, found.detail) == (Level.OK, "it is not there yet: the start makes it")
    assert not (tmp_path / "deep").exists()


def test_one_that_cannot_be_made(top: Path) -> None:
    top.chmod(0o555)
    with as_somebody():
        (found,) = looked(top / "state")
    assert found.level is Level.WRONG
    assert found.cure.startswith("install -d -m 700 -o ")


def test_one_that_may_not_be_written_to(top: Path) -> None:
    (top / "state").mkdir(mode=0o555)
    with as_somebody():
        (found,) = looked(top / "state")
    assert (found.level, "may not work in it" in found.detail) == (Level.WRONG, True)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert levels(looked(tmp_path / "state")) == [Level.WRONG]


@pytest.mark.parametrize(
    ("fstype", "level"), [("nfs4", Level.WRONG), ("tmpfs", Level.NOTICE), ("ext4", Level.OK), ("", Level.OK)]
)
def test_what_it_lies_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fstype: str, level: Level) -> None:
    tmp_path.chmod(0o700)
    # Only the kernel's answer is another one: no such mount can be made here.
    monkeypatch.setattr(state, "mount_of", lambda path: Mount(path, fstype, "x"))
    assert levels(looked(tmp_path)) == [level]


def test_room_for_the_ledger_is_told_in_files(tmp_path: Path) -> None:
    (found,) = state.space(tmp_path / "not" / "yet", None)
    assert found.level is Level.OK
    assert "there is room for" in found.detail
    (found,) = state.space(tmp_path, 1_000)
    assert "1,000 files are known, and there is room for" in found.detail
    assert found.detail.endswith(" more files")


def test_more_files_than_there_is_room_for(tmp_path: Path) -> None:
    (found,) = state.space(tmp_path, 10**15)
    assert found.level is Level.WRONG
    assert "are needed" in found.detail


class TestLedger:
    def test_none_yet(self, tmp_path: Path) -> None:
        (found,) = state.ledger(tmp_path)
        assert (found.level, found.detail) == (Level.OK, "there is none yet")

    @pytest.mark.parametrize(
        ("version", "level"), [(VERSION, Level.OK), (VERSION + 1, Level.WRONG), (VERSION - 1, Level.NOTICE)]
    )
    def test_its_version_is_compared_and_left(self, tmp_path: Path, version: int, level: Level) -> None:
        with sqlite3.connect(tmp_path / FILE_NAME) as con:
            con.execute(f"PRAGMA user_version = {version}")
        con.close()
        (found,) = state.ledger(tmp_path)
        assert found.level is level
        assert f"schema {version}" in found.detail
        assert written_version(tmp_path / FILE_NAME) == version

    def test_a_damaged_one(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).write_bytes(b"not a database, whatever the name says" * 100)
        (found,) = state.ledger(tmp_path)
        assert (found.level, "move it away" in found.cure) == (Level.WRONG, True)


class TestDeliveries:
    @pytest.fixture
    def book(self, tmp_path: Path) -> Iterator[Book]:
        book = Book(tmp_path)
        book.write("e/r/a")
        book.look()
        yield book
        book.close()

    def found(self, book: Book, *, in_use: bool = False) -> list[Finding]:
        with book.report() as report:
            return list(state.deliveries(report, in_use=in_use))

    def test_all_is_well(self, book: Book) -> None:
        book.deliver()
        assert levels(self.found(book)) == [Level.OK]

    def test_failed_files_are_counted(self, book: Book) -> None:
        book.fail()
        (found,) = self.found(book)
        assert (found.level, found.detail[:14]) == (Level.WRONG, "1 file failed,")

    def test_a_server_that_takes_nothing_is_named(self, book: Book) -> None:
        book.hold()
        (found,) = self.found(book)
        assert found.level is Level.NOTICE
        assert "http://mlflow.test takes nothing now: http://mlflow.test cannot be reached" in found.detail

    def test_what_a_service_said_of_its_watches_holds_while_it_works(self, book: Book) -> None:
        book.ledger.describe_root(book.root, "scan", healthy=False, detail="another artifactd watches it: pid 7")
        assert levels(self.found(book)) == [Level.OK]
        _, found = self.found(book, in_use=True)
        assert (found.level, "another artifactd watches it: pid 7" in found.detail) == (Level.NOTICE, True)
        assert found.cure == (
            'Files are still found, by scans alone. If these are enough, write mode = "scan" for this folder'
        )
        book.ledger.describe_root(book.root, "waiting", healthy=False, detail="it is not there")
        _, found = self.found(book, in_use=True)
        assert found.cure.startswith("Mount or make the folder")
