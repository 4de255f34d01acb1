"""What root's commands make in a folder of somebody else: theirs, so that their service goes on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import typer

from artifactd.cli import common
from artifactd.doctor.finding import Level
from artifactd.doctor.state import state_folder
from artifactd.doctor.surroundings import Surroundings, user
from artifactd.ledger import Ledger, StateLock
from artifactd.notify.keeping import Kept, save
from artifactd.whose import make_file, make_folders
from support import NOBODY, Program, as_somebody, reachable_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others: run it as root")

OTHER = 54_321


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
    assert [path.read_bytes() for path in theirs.glob("artifacts/*/artifacts/deep/a.txt")] == [b"a"]
    with as_somebody():
        lock = StateLock(theirs)
        lock.acquire("artifactd run")
        with closing(Ledger(theirs)) as ledger:
            ledger.recover()
        with closing(sqlite3.connect(theirs / "mlflow.db")) as store, store:
            store.execute("UPDATE experiments SET name = name")
        for folder in theirs.glob("artifacts/**/"):
            (folder / "more").touch()
        lock.release()


def test_a_ledger_that_root_has_open_is_theirs_with_all_that_sqlite_keeps_beside(theirs: Path) -> None:
    with closing(Ledger(theirs)) as ledger:
        ledger.recover()
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


def refused(state: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What somebody who may not take the lock is told."""
    with as_somebody(), pytest.raises(typer.Exit), common.guarded():
        StateLock(state).acquire("artifactd run")
    return capsys.readouterr().err


def test_who_meets_a_file_of_roots_is_told_what_mends_it(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (theirs / "lock").touch(0o600)
    name = user(NOBODY)
    assert refused(theirs, capsys) == (
        f"artifactd: {theirs}/lock: Permission denied: it belongs to root, and its folder to {name}, who this is\n"
        f"  As root: chown -R {name}: {theirs}\n"
    )
    around = Surroundings(environ={}, uid=NOBODY)
    (found,) = (one for one in state_folder(theirs, around) if one.level is Level.WRONG)
    assert found.detail.startswith(f"{theirs}/lock belongs to root, and the folder to {name}: ")
    assert found.cure == f"chown -R {name}: {theirs}  # as root"
    os.chown(theirs / "lock", NOBODY, NOBODY)
    assert all(one.level is not Level.WRONG for one in state_folder(theirs, around))


def test_who_may_not_look_into_the_folder_is_told_whose_it_is(theirs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(theirs, OTHER, OTHER)
    assert refused(theirs, capsys) == (
        f"artifactd: {theirs}/lock: Permission denied: {theirs} belongs to {OTHER}, and this is {user(NOBODY)}\n"
        f"  Run it as {OTHER}, or as root\n"
    )


def test_a_mode_that_shuts_out_the_owner_is_not_laid_on_anybody_else(
    theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs.chmod(0o500)
    name = user(NOBODY)
    assert f"{theirs} belongs to {name}, and this is {name}\n  See its mode" in refused(theirs, capsys)


def test_hidden_files_and_volumes_of_roots_are_in_order(theirs: Path) -> None:
    (theirs / ".aws").mkdir()
    around = Surroundings(environ={}, uid=0)
    assert all(one.level is not Level.WRONG for one in state_folder(theirs, around))
    (theirs / "lock").touch()
    assert [one.level for one in state_folder(theirs, around)].count(Level.WRONG) == 1
    os.chown(theirs / "lock", NOBODY, NOBODY)
    os.chown(theirs, 0, NOBODY)
    assert all(one.level is not Level.WRONG for one in state_folder(theirs, around))
