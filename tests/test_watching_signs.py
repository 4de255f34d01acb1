"""Signs of life, from real processes and real locks."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.runfolder import Alive
from artifactd.watching.birth import birth_of
from artifactd.watching.claim import Claim
from artifactd.watching.inside import open_root
from artifactd.watching.signs import Sign, claims, lives, sign_of
from support import wait_for


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "r").mkdir()
    fd = open_root(os.fsencode(tmp_path))
    yield fd
    os.close(fd)


def sign(root: int, **alive: object) -> Sign | None:
    return sign_of(root, b"r", Alive(**alive), time.time())  # type: ignore[arg-type]


def test_a_process_lives_while_it_runs_and_not_as_a_zombie(root: int, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as job:
        (tmp_path / "r/train.pid").write_text(f"{job.pid}\nmore")
        (tmp_path / "r/artifactd.toml").write_text("")
        assert sign(root, pid_file="train.pid") is not None
        assert sign(root, pid=job.pid) is not None
        job.kill()
        assert wait_for(lambda: sign(root, pid_file="train.pid") is None, "gone, though nobody has waited for it")
        assert sign(root, pid=job.pid) is None


def test_a_process_that_was_given_the_id_later_is_no_sign(root: int, tmp_path: Path) -> None:
    path = tmp_path / "r/train.pid"
    path.write_text(str(os.getpid()))
    assert sign(root, pid_file="train.pid") is not None
    os.utime(path, (1e9, 1e9))  # written in 2001
    assert sign(root, pid_file="train.pid") is None
    assert not lives(os.getpid(), 1e9)


@pytest.mark.parametrize("text", ["", "none", "99999999999", "4194305", "-1"])
def test_what_is_no_process_is_no_sign(root: int, tmp_path: Path, text: str) -> None:
    (tmp_path / "r/train.pid").write_text(text)
    assert sign(root, pid_file="train.pid") is None


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "r+")
{"flock": fcntl.flock, "lockf": fcntl.lockf}[sys.argv[2]](lock, int(sys.argv[3]))
print("up", flush=True)
input()
"""


@pytest.mark.parametrize("how", ["flock", "lockf"])
@pytest.mark.parametrize("kind", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["exclusive", "shared"])
def test_a_lock_is_seen_and_not_taken(root: int, tmp_path: Path, how: str, kind: int) -> None:
    path = tmp_path / "r/train.lock"
    path.write_text("")
    assert sign(root, lock="train.lock") is None
    command = [sys.executable, "-c", HOLD, str(path), how, str(kind)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"up\n"
        seen = sign(root, lock="train.lock")
        assert seen is not None
        assert seen.what == "train.lock is locked"
        job.kill()
    assert sign(root, lock="train.lock") is None
    with path.open("r+") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing holds it, and nothing did for our question


def test_a_job_that_tries_for_its_lock_is_never_refused_by_a_look(root: int, tmp_path: Path) -> None:
    path = tmp_path / "r/train.lock"
    path.write_text("")
    until = time.monotonic() + 1.0
    tries = f"""
import fcntl, time
end = time.monotonic() + 1.0
while time.monotonic() < end:
    with open({str(path)!r}, "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
    with subprocess.Popen([sys.executable, "-c", tries]) as job:
        while time.monotonic() < until or job.poll() is None:
            sign(root, lock="train.lock")
    assert job.returncode == 0


def test_a_heartbeat_is_as_old_as_its_last_touch(root: int, tmp_path: Path) -> None:
    path = tmp_path / "r/job/heartbeat"
    path.parent.mkdir()
    assert sign(root, heartbeat="job/heartbeat") is None
    path.write_text("")
    os.utime(path, (1e9, 1e9))
    changed = path.stat().st_ctime
    assert sign(root, heartbeat="job/heartbeat") == Sign(changed, "job/heartbeat was touched")
    os.utime(path, (5e9, 5e9))  # in the future: now
    seen = sign(root, heartbeat="job/heartbeat")
    assert seen is not None
    assert seen.at <= time.time()


def test_a_link_out_of_the_folder_is_not_followed(root: int, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_text(str(os.getpid()))
    (tmp_path / "r/train.pid").symlink_to(outside)
    assert sign(root, pid_file="train.pid", heartbeat="train.pid", lock="train.pid") is None


def test_the_folders_that_an_artifactd_has_are_known() -> None:
    claim = Claim(0xABC, 0xDEF)
    assert b"abc:def" in claims()
    claim.release()
    assert b"abc:def" not in claims()


def test_a_folder_knows_when_it_was_made_whatever_is_done_to_it(tmp_path: Path) -> None:
    before = time.time()
    folder = tmp_path / "made"
    folder.mkdir()
    fd = os.open(folder, os.O_PATH)
    try:
        born = birth_of(fd)
        if born is None:
            pytest.fail("the filesystem of the tests keeps no time of birth")
        os.utime(folder, (1e9, 1e9))
        (folder / "a").write_text("")
        assert birth_of(fd) == born
        assert before - 0.1 <= born <= time.time()
    finally:
        os.close(fd)
