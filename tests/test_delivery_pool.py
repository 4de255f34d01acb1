"""The pool with its real processes: what happens to work when they die, hang, or lose their service."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path

import psutil
import pytest

from artifactd.delivery import pool as room
from artifactd.delivery.messages import Answer, EndRun, Job, JobFailed, PrepareRun, RunReady, Target
from artifactd.delivery.pool import Pool
from artifactd.errors import Kind, Scope
from artifactd.runfolder import End
from artifactd.tracking.runs import RunSpec
from support import wait_for


def answers(pool: Pool, seconds: float = 60) -> list[tuple[Job, Answer]]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        wait(pool.waitables(), timeout=0.2)
        said = pool.answers() + pool.end_stuck()
        if said:
            return said
    raise AssertionError("no answer")


def ready(pool: Pool) -> Pool:
    def greeted() -> bool:
        wait(pool.waitables(), timeout=0.2)
        assert pool.answers() == []
        return pool.free == pool.size

    pool.warm()
    wait_for(greeted, "the nursery is ready", 60)
    return pool


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def pool(silent: str) -> Iterator[Pool]:
    made = Pool(2, silent)
    yield made
    made.stop()


def family(pool: Pool) -> list[psutil.Process]:
    """The nursery and its workers."""
    assert pool._nursery is not None
    nursery = psutil.Process(pool._nursery.process.pid)
    return [nursery, *nursery.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> int:
    return sum(map(_is_alive, processes))


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


_LITTLE_BY_LITTLE = """
import os, sys, time, artifactd
for _ in range(15):
    end = time.process_time() + 0.03
    while time.process_time() < end: pass
    time.sleep(0.2)
os.write(int(sys.argv[1]), artifactd.__version__.encode())
time.sleep(60)
"""


@pytest.fixture
def born_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: Pool) -> Callable[[str], Pool]:
    """A pool whose nursery is another program."""

    def born(program: str) -> Pool:
        (tmp_path / "another.py").write_text(program)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setattr(room, "NURSERY", "another")
        monkeypatch.setattr(room, "BIRTH_DEADLINE", 1.0)
        return pool

    return born


def test_a_nursery_that_has_little_of_the_processor_is_waited_for(born_as: Callable[[str], Pool]) -> None:
    """As beside a training that takes all of it: slow is not stuck."""
    pool = born_as(_LITTLE_BY_LITTLE)
    begun = time.monotonic()
    pool.warm()

    def greeted() -> bool:
        assert pool.answers() + pool.end_stuck() == []
        return pool.free == pool.size

    wait_for(greeted, "the nursery is ready", 60)
    assert time.monotonic() - begun > 2 * room.BIRTH_DEADLINE


@pytest.mark.parametrize("hang", ["time.sleep(60)", "while True: pass"])
def test_a_nursery_that_hangs_ends_the_service(hang: str, born_as: Callable[[str], Pool]) -> None:
    pool = born_as(f"import time\n{hang}")
    pool.warm()
    with pytest.raises(room.NurseryError, match="does not start"):
        answers(pool, 30)
    assert pool._nursery is None


def test_a_killed_worker_costs_its_own_job_and_nobody_elses(tmp_path: Path, pool: Pool, silent: str) -> None:
    ready(pool)
    hanging = EndRun(Target(silent), 1, "r" * 32, End("FINISHED"))
    embedded = Target(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    fine = PrepareRun(embedded, 2, RunSpec("k" * 40, None, "e", (tmp_path / "artifacts").as_uri(), "r"))
    pool.submit(hanging)
    (worker,) = pool._workers.values()
    pool.submit(fine)
    os.kill(worker.pid, signal.SIGKILL)
    said = {id(job): answer for _ in range(2) for job, answer in answers(pool)} if pool.busy > 1 else {}
    while pool.busy:
        said |= {id(job): answer for job, answer in answers(pool)}
    died = said[id(hanging)]
    assert isinstance(died, JobFailed)
    assert (died.failure.kind, died.failure.scope) == (Kind.TRANSIENT, Scope.FILE)
    assert isinstance(said[id(fine)], RunReady)
    assert pool.free == 2


def test_a_worker_that_moves_no_byte_is_ended(pool: Pool, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "STUCK_AFTER", 1.0)
    ready(pool)
    pool.submit(EndRun(Target(silent), 1, "r" * 32, End("FINISHED")))
    ((_, answer),) = answers(pool)
    assert isinstance(answer, JobFailed)
    assert answer.failure.scope is Scope.TARGET
    assert "took no byte" in answer.failure.error
    wait_for(lambda: alive(family(pool)) == 1, "only the nursery is left")


def test_a_killed_worker_leaves_no_temporary_file_nor_do_all_when_they_leave(silent: str, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    pool = Pool(2, silent, staging=staging)
    try:
        ready(pool)
        for _ in range(2):
            pool.submit(EndRun(Target(silent), 1, "r" * 32, End("FINISHED")))
        killed, other = pool._workers.values()
        own = {str(killed.pid), str(other.pid)}  # and nothing else, such as what `tempfile` tries the folder with
        wait_for(lambda: {p.name for p in staging.iterdir()} == own, "both have a folder of their own")
        for worker in (killed, other):
            (staging / str(worker.pid) / "artifact").write_bytes(b"half of a download")
        os.kill(killed.pid, signal.SIGKILL)
        answers(pool)
        assert [p.name for p in staging.iterdir()] == [str(other.pid)]
    finally:
        pool.stop()
    assert not staging.exists()


def test_a_password_in_the_address_is_on_no_command_line() -> None:
    """A command line is for all to see."""
    pool = Pool(1, "http://ana:hunter2-secret@127.0.0.1:1")
    pool.warm()
    try:
        assert pool._nursery is not None
        # The kernel has none to show for a moment, while a process becomes another program.
        command = wait_for(psutil.Process(pool._nursery.process.pid).cmdline, "its command line")
    finally:
        pool.stop()
    assert room.NURSERY in command
    assert "hunter2-secret" not in " ".join(command)


def test_stop_leaves_no_process_and_a_new_start_works(pool: Pool, silent: str) -> None:
    ready(pool)
    pool.submit(EndRun(Target(silent), 1, "r" * 32, End("FINISHED")))
    processes = family(pool)
    assert alive(processes) == 2
    pool.stop()
    wait_for(lambda: alive(processes) == 0, "all are gone")
    assert not pool.alive
    ready(pool)


def test_a_dead_nursery_ends_the_service_not_just_the_work(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool.warm()
    with pytest.raises(room.NurseryError, match="did not start"):
        wait_for(lambda: pool.answers() or pool.free, "its death is noticed")


SERVICE = """
import sys, time
from artifactd.delivery.pool import Pool
from artifactd.delivery.messages import EndRun, Target
from artifactd.runfolder import End
from multiprocessing.connection import wait
pool = Pool(1, sys.argv[1]); pool.warm()
while not pool.free:
    wait(pool.waitables(), timeout=1); pool.answers()
pool.submit(EndRun(Target(sys.argv[1]), 1, "r" * 32, End("FINISHED")))
print("working", flush=True); time.sleep(600)
"""


def test_no_orphan_outlives_a_killed_service(silent: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVICE, silent], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "working\n"
        orphans = psutil.Process(service.pid).children(recursive=True)
        assert len(orphans) == 2
        service.kill()
    wait_for(lambda: alive(orphans) == 0, "all are gone", 10)
