"""As whom the service works, and what that user may do: by real users' ids where root asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.doctor import serving
from artifactd.doctor.serving import Account
from artifactd.doctor.surroundings import Surroundings
from artifactd.ledger import StateLock

NOBODY = Account(65_534, 65_534)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask for another user")


def status(proc: Path, pid: int, capabilities: int = 0) -> Surroundings:
    """A procfs in which one process is somebody's."""
    (proc / str(pid)).mkdir(parents=True)
    ids = "Uid:\t1\t4242\t4242\t4242\nGid:\t1\t4343\t4343\t4343\nGroups:\t7 8 \n"
    (proc / str(pid) / "status").write_text(f"Name:\tartifactd\n{ids}CapEff:\t{capabilities:016x}\n")
    return Surroundings(environ={}, proc=str(proc))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def held(state: Path) -> Iterator[Path]:
    """A state folder that this process works with."""
    lock = StateLock(state)
    lock.acquire("artifactd run")
    yield state
    lock.release()


class TestAccount:
    def test_it_is_whose_process_works_with_the_state_folder(self, tmp_path: Path, held: Path) -> None:
        around = status(tmp_path / "proc", os.getpid())
        assert serving.account(held, around) == Account(4242, 4343, (7, 8))

    def test_a_capability_that_a_drop_in_grants_counts(self, tmp_path: Path, held: Path) -> None:
        assert serving.account(held, status(tmp_path / "proc", os.getpid(), 1 << 2)).reads_all

    def test_else_it_is_whose_folder_it_is_and_else_who_asks(self, state: Path) -> None:
        around = Surroundings(environ={}, uid=os.getuid() + 54_321)
        assert serving.account(state, around).uid == os.getuid()
        assert serving.account(state / "none", around).uid == os.getuid() + 54_321
        assert serving.account(state / "none", Surroundings()).gid == os.getgid()

    def test_names_are_numbers_where_there_are_none(self) -> None:
        assert (Account(54_321, 54_322).name, Account(54_321, 54_322).group) == ("54321", "54322")


class TestCan:
    @as_root
    def test_root_asks_as_the_service_s_user(self, for_all: Path) -> None:
        around = Surroundings()
        file = for_all / "key"
        file.write_text("k")
        file.chmod(0o640)
        assert serving.can(NOBODY, file, os.R_OK, around) is False
        assert serving.can(Account(65_534, 65_534, reads_all=True), file, os.R_OK, around) is True
        os.chown(file, 0, 4343)
        assert serving.can(Account(65_534, 65_534, (7, 4343)), file, os.R_OK, around) is True
        assert serving.can(NOBODY, file, os.X_OK, around) is False
        file.chmod(0o755)
        assert serving.can(NOBODY, file, os.X_OK, around) is True

    def test_who_asks_is_judged_by_the_kernel(self, tmp_path: Path) -> None:
        around = Surroundings()
        me = Account(os.getuid(), os.getgid())
        assert serving.can(me, tmp_path, os.R_OK, around) is True
        assert serving.can(me, tmp_path / "none", os.R_OK, around) is False

    def test_who_is_not_root_cannot_tell_of_others(self, tmp_path: Path) -> None:
        assert serving.can(NOBODY, tmp_path, os.R_OK, Surroundings(uid=54_321)) is None


class TestOnlyFor:
    def test_one_of_its_own_is_closed_and_another_one_is_its_group_s(self, tmp_path: Path) -> None:
        file = tmp_path / "a key"
        file.touch()
        assert serving.only_for(Account(os.getuid(), 7), file, file.stat()) == f"chmod 600 '{file}'"
        assert serving.only_for(Account(54_321, 54_322), file, file.stat()) == (
            f"chgrp 54322 '{file}' && chmod 640 '{file}'"
        )

    @pytest.mark.parametrize(("mode", "group", "seen"), [
        (0o600, 0, False), (0o640, 0, False), (0o640, 54_322, False), (0o640, 7, True), (0o604, 54_322, True),
    ])  # fmt: skip
    def test_what_others_see(self, tmp_path: Path, mode: int, group: int, seen: bool) -> None:
        file = tmp_path / "key"
        file.touch()
        file.chmod(mode)
        of = file.stat()
        as_its_group = os.stat_result((of.st_mode, *of[1:5], group, *of[6:]))
        assert serving.seen_by_others(as_its_group, 54_322) is seen
