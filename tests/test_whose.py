"""What root's commands make in a folder of somebody else: theirs, so that their service goes on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artifactd.ledger import Ledger, StateLock
from artifactd.notify.keeping import Kept, save
from artifactd.whose import make_file, make_folders
from support import NOBODY, Program, as_somebody, reachable_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others: run it as root")


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A private folder of another user."""
    with reachable_folder() as base:
        state = base / "state"
        state.mkdir(mode=0o700)
        os.chown(state, NOBODY, NOBODY)
        yield state


def of_root(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.lstat().st_uid == 0]


def test_the_service_goes_on_after_roots_commands(theirs: Path) -> None:
    program = Program(theirs.parent, new=True)
    run = program.drop / "e" / "r" / "deep"
    run.mkdir(parents=True)
    (run / "a.txt").write_bytes(b"a")
    for command in (("check",), ("sync",), ("retry", "--all"), ("status",)):
        done = program.call(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert of_root(theirs) == [], command
    assert {"lock", "ledger.db", "mlflow.db", "artifacts"} <= set(os.listdir(theirs))
    assert [path.read_bytes() for path in theirs.rglob("artifacts/**/a.txt")] == [b"a"]
    with as_somebody():
        lock = StateLock(theirs)
        lock.acquire("artifactd run")
        Ledger(theirs).recover()
        with closing(sqlite3.connect(theirs / "mlflow.db")) as store, store:
            store.execute("UPDATE experiments SET name = name")
        for folder in theirs.glob("artifacts/**/"):
            (folder / "more").touch()
        lock.release()


def test_a_ledger_that_root_has_open_is_theirs_with_all_that_sqlite_keeps_beside(theirs: Path) -> None:
    Ledger(theirs).recover()
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} <= set(os.listdir(theirs))
    assert of_root(theirs) == []


def test_what_was_told_of_last_is_theirs(theirs: Path) -> None:
    save(theirs, Kept())
    assert (of_root(theirs), os.listdir(theirs)) == ([], ["notify.json"])


def test_folders_belong_to_whom_the_one_above_belongs(theirs: Path) -> None:
    make_folders(theirs / "a" / "b" / "c", 0o700)
    assert of_root(theirs) == []
    assert (theirs / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
    make_folders(theirs / "a" / "b" / "c", 0o755)
    make_folders(theirs.parent / "own", 0o700)
    assert (theirs.parent / "own").stat().st_uid == 0


def test_what_was_there_before_is_not_given_away(theirs: Path) -> None:
    """Else whoever owns the folder could have any file of root's by a link to it."""
    secret = theirs.parent / "secret"
    secret.write_text("of root")
    (theirs / "link").symlink_to(secret)
    (theirs / "name").hardlink_to(secret)
    (theirs / "lock").symlink_to(secret)
    make_file(theirs / "link")
    make_file(theirs / "name")
    with pytest.raises(OSError, match="symbolic links"):
        StateLock(theirs).acquire("artifactd run")
    assert secret.stat().st_uid == 0
    assert secret.read_text() == "of root"


def test_a_file_in_a_folders_place_is_told(theirs: Path) -> None:
    (theirs / "file").touch()
    with pytest.raises(FileExistsError):
        make_folders(theirs / "file")
    with pytest.raises(NotADirectoryError):
        make_folders(theirs / "file" / "below")
