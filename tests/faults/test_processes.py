"""A process of the service that ends, stands still, hangs or has no memory: the others go on, or the service ends in
words and comes back."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from artifactd.config import load_config
from artifactd.delivery import pool
from artifactd.delivery.messages import Deliver
from artifactd.engine import Engine
from conftest import MlflowServer
from faults.proxy import Fault, Proxy, uploads
from faults.storm import child
from faults.table import Row
from support import Oracle, Program, environment, tree, wait_for

RETRY = '[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
BURST = 1000
STOPPED = 60.0
"""Seconds that SIGSTOP lasts."""
TAKEOVERS = 5
BIG = 16 * 2**20
"""Bytes that the kernel's buffers cannot take from an upload at once."""


def make(base: Path, proxy: Proxy) -> Program:
    """A service that knows one run folder with one file."""
    made = Program(base, tracking_uri=proxy.uri, more=RETRY)
    folder(made).mkdir(parents=True)
    (folder(made) / "first").write_bytes(b"1")
    return made


def folder(program: Program, run: str = "r") -> Path:
    return program.drop / program.base.name / run


@pytest.fixture
def program(proxy: Proxy, tmp_path: Path) -> Program:
    return make(tmp_path, proxy)


def everything_arrived(program: Program, server: MlflowServer, to: Path, run: str = "r") -> None:
    oracle = Oracle(server.uri)
    assert oracle.files(oracle.run(program.base.name, run).info.run_id, to) == tree(folder(program, run))


def wait_stored(program: Program, count: int) -> None:
    wait_for(lambda: program.status().get("stored") == count, f"{count} are stored\n{program.text()[-3000:]}", 60)


def sent(proxy: Proxy, leaf: str) -> int:
    """Bytes that went out for artifacts of this name."""
    return sum(n for (method, path), n in list(proxy.counts.bytes.items()) if method == "PUT" and path.endswith(leaf))


def wait_uploaded(proxy: Proxy, count: int, deadline: float) -> None:
    """Until so many artifacts were sent: asking for the status all the while would slow the service down."""

    def uploaded() -> int:
        return sum(method == "PUT" for method, _ in list(proxy.counts.requests))

    wait_for(lambda: uploaded() >= count, f"{count} are sent: {uploaded()}", deadline)


def can_work(process: psutil.Process) -> bool:
    """Whether it still has descriptors: one that ends closes them before it is gone."""
    try:
        return bool(os.listdir(f"/proc/{process.pid}/fd"))
    except OSError:
        return False


def pause(seconds: float, what: str) -> None:
    moment = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= moment, what, seconds + 30)


def test_a_nursery_that_dies_ends_the_service_in_words_and_it_comes_back(
    program: Program, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running() as service:
        program.wait_idle()
        wait_for(lambda: child(service.pid, "nursery"), "there is a nursery").kill()
        (program.drop / tmp_path.name / "r" / "second").write_bytes(b"2")
        assert service.wait(30) == 1
        ended = time.monotonic()
    assert "Traceback" not in program.text()
    assert "the delivery process ended" in program.text()
    with program.running():
        wait_for(lambda: program.status()["stored"] == 2, "the second file follows")
        took = time.monotonic() - ended
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("nursery killed while idle", 1, 0, 0, None, 0, took))


def test_a_service_killed_while_its_delivery_process_is_born_leaves_nobody_behind(
    program: Program, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """MLflow's import, seconds on any machine, is made to take a minute: injected at the library's edge."""
    slow = tmp_path / "slow" / "mlflow" / "__init__.py"
    slow.parent.mkdir(parents=True)
    slow.write_text("import time\ntime.sleep(60)\n")
    with program.running(PYTHONPATH=str(slow.parent.parent)) as service:
        nursery = wait_for(lambda: child(service.pid, "nursery"), "it is born")
        try:
            service.kill()
            service.wait()
            killed = time.monotonic()
            wait_for(lambda: not can_work(nursery), "no orphan holds the state folder", 15)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                nursery.kill()
    with program.running():
        wait_stored(program, 1)
        took = time.monotonic() - killed
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("service killed while the nursery is born", 1, 0, 0, None, 0, took))


def test_a_worker_that_dies_in_the_middle_of_an_upload_is_replaced(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running() as service:
        program.wait_idle()
        with proxy.misbehaving(Fault("throttle", uploads, rate=256 * 1024)):
            (program.drop / tmp_path.name / "r" / "big").write_bytes(os.urandom(2 * 2**20))
            wait_for(lambda: proxy.counts.sent() > 100_000, "the upload is under way")
            wait_for(lambda: child(service.pid, "worker"), "there is a worker").kill()
            died = time.monotonic()
        wait_for(lambda: program.status()["stored"] == 2, "it is delivered")
        took = time.monotonic() - died
        assert service.poll() is None, "the service itself goes on"
    assert "Traceback" not in program.text()
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("worker killed in an upload", 1, 0, 0, proxy.counts.repeats, 0, took))


def test_a_run_ends_while_other_runs_keep_the_workers_busy(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    oracle = Oracle(mlflow_server.uri)
    for n in range(600):
        (program.drop / tmp_path.name / "r" / f"f{n}").write_bytes(os.urandom(20_000))
    done = program.drop / tmp_path.name / "done"
    with program.running(), proxy.misbehaving(Fault("throttle", uploads, rate=64 * 1024)):
        wait_for(lambda: program.status().get("stored", 0) > 10, "the workers are busy", 60)
        done.mkdir()
        (done / "a").write_bytes(b"a")
        (done / ".done").touch()
        run = wait_for(lambda: [r for r in oracle.runs(tmp_path.name) if r.info.run_name == "done"], "its run is made")
        run_id = run[0].info.run_id
        wait_for(lambda: len(oracle.client.list_artifacts(run_id)) >= 2, "its files are stored")
        wait_for(lambda: oracle.client.get_run(run_id).info.status == "FINISHED", "it ends", 8)


# -- stopped -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_sigterm_in_a_burst_ends_the_service_well_and_the_next_start_delivers_the_rest(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    contents = (os.urandom(2000) for _ in range(BURST))
    with program.running() as service:
        program.wait_idle()
        for n in range(BURST // 2):
            (folder(program) / f"f{n}").write_bytes(next(contents))
        wait_for(lambda: proxy.counts.sent() > 200_000, "uploads are busy")
        nursery = child(service.pid, "nursery")
        assert nursery is not None
        in_flight = len(nursery.children())
        service.terminate()
        for n in range(BURST // 2, BURST):
            (folder(program) / f"f{n}").write_bytes(next(contents))
        assert service.wait(25) == 0, program.text()[-3000:]
    begun = time.monotonic()
    with program.running():
        wait_uploaded(proxy, BURST + 1, 150)
        wait_stored(program, BURST + 1)
        took = time.monotonic() - begun
    assert "Traceback" not in program.text()
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row(f"SIGTERM in a burst of {BURST:,}", 1, 0, 0, proxy.counts.repeats, 0, took))
    assert proxy.counts.repeats <= in_flight


@pytest.mark.timeout(300)
def test_a_minutes_standstill_delays_and_nothing_is_sent_twice(
    proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """Two services in one minute: one with its delivery processes, and one whose delivery processes go on."""
    programs = [make(tmp_path / f"{tmp_path.name}-{who}", proxy) for who in ("all", "alone")]
    count = 41
    with programs[0].running() as whole, programs[1].running() as alone:
        for program in programs:
            program.wait_idle()
        proxy.start(Fault("throttle", uploads, rate=2 * 2**20))
        for n, program in enumerate(programs):
            (folder(program) / f"big-{n}").write_bytes(os.urandom(BIG))
        wait_for(lambda: sent(proxy, "big-0") > 200_000 and sent(proxy, "big-1") > 200_000, "uploads are under way")
        os.killpg(whole.pid, signal.SIGSTOP)
        alone.send_signal(signal.SIGSTOP)
        try:
            for program in programs:
                for n in range(count - 2):
                    (folder(program) / f"f{n}").write_bytes(os.urandom(1000))
            pause(STOPPED, "a minute")
        finally:
            os.killpg(whole.pid, signal.SIGCONT)
            alone.send_signal(signal.SIGCONT)
        begun = time.monotonic()
        for program in programs:
            wait_stored(program, count)
        took = time.monotonic() - begun
        assert whole.poll() is None
        assert alone.poll() is None
    for program in programs:
        assert "Traceback" not in program.text()
        everything_arrived(program, mlflow_server, program.base / "back")
    record(Row(f"SIGSTOP for {STOPPED:.0f} s", 2, 0, 0, proxy.counts.repeats, 0, took))
    assert proxy.counts.repeats == 0


# -- without memory ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_more_memory(*processes: psutil.Process) -> Iterator[None]:
    """These processes, and those that they bear, get no more memory than they have.

    ``RLIMIT_DATA``, since ``RLIMIT_AS`` leaves them what glibc keeps in reserve for a second arena: 64 MiB.
    """
    for process in processes:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmData:\s+(\d+) kB", status)
        assert found is not None, status
        process.rlimit(psutil.RLIMIT_DATA, (int(found[1]) * 1024, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_worker_without_memory_fails_in_words_and_another_delivers_its_file(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running() as service:
        program.wait_idle()
        nursery = child(service.pid, "nursery")
        assert nursery is not None
        workers = nursery.children()
        with no_more_memory(nursery, *workers):
            for worker in workers:
                worker.kill()  # what it has freed would serve it for long: a new one has nothing left
            (folder(program) / "big").write_bytes(os.urandom(64 * 2**20))

            def said() -> bool:
                return service.poll() is not None or any(
                    f["path"].endswith("/big") and f["error"] for f in program.status().get("failures", ())
                )

            wait_for(said, f"the limit bites\n{program.text()[-3000:]}")
            assert sent(proxy, "/big") < 64 * 2**20
        lifted = time.monotonic()
        if service.poll() is not None:
            assert service.returncode == 1
            program.start()
        wait_stored(program, 2)
        took = time.monotonic() - lifted
    assert "Traceback" not in program.text(), program.text()[-3000:]
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("worker without memory", 1, 0, 0, proxy.counts.repeats, 0, took))


@pytest.mark.timeout(200)
def test_a_service_without_memory_ends_in_words_and_the_next_start_delivers_everything(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    count = 1000
    with program.running() as service:
        program.wait_idle()
        with no_more_memory(psutil.Process(service.pid)):
            for n in range(count):
                (folder(program) / f"{n:0200}").write_bytes(b"%d" % n)
            assert service.wait(60) == 1, program.text()[-3000:]
    said = program.text()
    begun = time.monotonic()
    with program.running():
        wait_uploaded(proxy, count + 1, 120)
        wait_stored(program, count + 1)
        took = time.monotonic() - begun
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("service without memory", 1, 0, 0, proxy.counts.repeats, 0, took))
    assert "out of memory" in said
    assert "Traceback" not in program.text(), program.text()[-3000:]


# -- hanging -----------------------------------------------------------------------------------------------------


def test_a_worker_that_hangs_is_ended_and_its_file_sent_by_another_while_others_go_on(
    program: Program,
    proxy: Proxy,
    mlflow_server: MlflowServer,
    tmp_path: Path,
    record: Callable[[Row], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine in this process, with its real delivery processes: its patience is minutes otherwise."""
    monkeypatch.setattr(pool, "STUCK_AFTER", 8.0)
    oracle = Oracle(mlflow_server.uri)
    engine = Engine(load_config(program.config), "test")

    def stored(run: str) -> set[str]:
        engine.turn(0.02)
        found = [r for r in oracle.runs(tmp_path.name) if r.info.run_name == run]
        return {a.path for a in oracle.client.list_artifacts(found[0].info.run_id)} if found else set()

    def busy_with_big() -> pool.Worker | None:
        engine.turn(0.02)
        jobs = [(w, w.job.files) for w in engine._pool._workers.values() if isinstance(w.job, Deliver)]
        found = next((w for w, files in jobs if any(f.leaf == "big" for f in files)), None)
        return found if sent(proxy, "/big") > 200_000 else None

    try:
        wait_for(lambda: "first" in stored("r"), "the first is stored")
        proxy.start(Fault("throttle", lambda _, path: path.endswith("/big"), rate=256 * 1024, times=1))
        (folder(program) / "big").write_bytes(os.urandom(BIG))
        worker = psutil.Process(wait_for(busy_with_big, "its upload is under way").pid)
        worker.send_signal(signal.SIGSTOP)
        hung = time.monotonic()
        folder(program, "other").mkdir()
        for n in range(20):
            (folder(program, "other") / f"f{n}").write_bytes(os.urandom(1000))
        wait_for(lambda: len(stored("other")) == 20, "files of another run are stored")
        assert worker.status() == psutil.STATUS_STOPPED, "the one that hangs still does"
        assert "big" not in stored("r")
        wait_for(lambda: "big" in stored("r"), "another has sent it")
        took = time.monotonic() - hung
        assert not worker.is_running()
        wait_for(lambda: stored("r") and engine.ledger.waiting()[0] == 0, "its receipt")
    finally:
        engine.close()
    everything_arrived(program, mlflow_server, tmp_path / "back")
    everything_arrived(program, mlflow_server, tmp_path / "back-other", "other")
    record(Row("worker hangs in an upload", 1, 0, 0, proxy.counts.repeats, 0, took))


_PATCHED = """
import re, sys, threading
from artifactd import service
from artifactd.cli import main
from artifactd.engine import Engine

service.HANG = 2
how = sys.argv.pop()
turn = Engine.turn

def hang(self, *args):
    if how and self.busy:
        exec(how)
    turn(self, *args)

Engine.turn = hang
main()
"""
"""The service with a patience of 2 s, and a loop that hangs as told once a delivery is under way."""


@contextlib.contextmanager
def patched(program: Program, how: str) -> Iterator[subprocess.Popen[bytes]]:
    with program.log.open("ab") as log:
        service = subprocess.Popen(
            [sys.executable, "-c", _PATCHED, "run", "--config", str(program.config), "--log-format", "json", how],
            env=environment(), stdout=subprocess.DEVNULL, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        yield service
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGKILL)
        service.wait()


@pytest.mark.parametrize("how", ["threading.Event().wait()", "re.match('(a+)+$', 'a' * 64 + 'b')"])
def test_a_loop_that_hangs_ends_the_service_and_the_next_start_delivers(
    how: str,
    program: Program,
    proxy: Proxy,
    mlflow_server: MlflowServer,
    tmp_path: Path,
    record: Callable[[Row], None],
) -> None:
    """Patched where the loop is, in a process of its own; the second way never lets another thread run."""
    with patched(program, how) as service:
        nursery = wait_for(lambda: child(service.pid, "nursery"), "there is a nursery")
        assert service.wait(30) == 1, program.text()
        ended = time.monotonic()
        wait_for(lambda: not nursery.is_running() or nursery.status() == psutil.STATUS_ZOMBIE, "no orphan is left", 10)
    assert "Timeout" in program.text()
    with program.running():
        wait_stored(program, 1)
        took = time.monotonic() - ended
    assert "Traceback" not in program.text()
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row(f"the loop hangs in {how.partition('(')[0]}", 1, 0, 0, proxy.counts.repeats, 0, took))


def test_a_loop_that_turns_is_left_alone(program: Program, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    """Thrice its patience long."""
    with patched(program, "") as service:
        program.wait_idle()
        end = time.monotonic() + 6.0
        count = 1

        def deliver() -> bool:
            nonlocal count
            (folder(program) / f"f{count}").write_bytes(b"%d" % count)
            count += 1
            wait_stored(program, count)
            return time.monotonic() > end

        wait_for(deliver, "six seconds of work")
        assert service.poll() is None
        service.terminate()
        assert service.wait(25) == 0
    assert "Timeout" not in program.text()
    assert "Traceback" not in program.text()
    everything_arrived(program, mlflow_server, tmp_path / "back")


# -- two on one state folder -------------------------------------------------------------------------------------


def holder(program: Program) -> str:
    """Who says that it holds the state folder."""
    lock = program.state / "lock"
    return lock.read_text() if lock.exists() else ""


def test_a_second_service_on_one_state_folder_is_refused_and_the_first_is_named(program: Program) -> None:
    with program.running() as first:
        program.wait_idle()
        for number in (signal.SIGCONT, signal.SIGSTOP):  # one that stands still holds it no less
            first.send_signal(number)
            try:
                done = program.call("run", "--config", str(program.config))
            finally:
                first.send_signal(signal.SIGCONT)
            assert done.returncode == 1
            assert f"(pid {first.pid})" in done.stderr
            assert "Traceback" not in done.stderr
        assert program.call("sync").returncode == 1
        assert first.poll() is None
        (folder(program) / "second").write_bytes(b"2")
        wait_stored(program, 2)


@pytest.mark.timeout(300)
def test_a_successor_at_the_moment_of_the_kill_takes_over_and_two_never_work(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """The successor asks for the state folder while the other dies with uploads under way; it may be a little early."""
    rng = random.Random(9)  # noqa: S311  (a sequence that can be made again)
    took: list[float] = []
    count = 1
    services = [program.start()]
    proxy.start(Fault("throttle", uploads, rate=256 * 1024))
    try:
        for _ in range(TAKEOVERS):
            now = services[-1]
            for _ in range(10):
                (folder(program) / f"f{count}").write_bytes(os.urandom(50_000))
                count += 1
            wait_for(partial(child, now.pid, "worker"), f"it delivers\n{program.text()[-3000:]}")
            services.append(program.start())
            pause(rng.uniform(0.3, 1.2), "the moment of the kill")
            family = [psutil.Process(now.pid), *psutil.Process(now.pid).children(recursive=True)]
            now.kill()  # and not yet reaped
            killed = time.monotonic()

            def taken_over() -> bool:
                if services[-1].poll() is not None:
                    assert services[-1].returncode == 1, program.text()[-3000:]
                    services.append(program.start())
                return holder(program) == f"artifactd run (pid {services[-1].pid})"

            wait_for(taken_over, f"the next one works\n{program.text()[-3000:]}")
            assert not [p for p in family if can_work(p)], "two at work"
            took.append(time.monotonic() - killed)
        wait_stored(program, count)
        services[-1].terminate()
        assert services[-1].wait(30) == 0
    finally:
        for service in services:
            if service.poll() is None:
                os.killpg(service.pid, signal.SIGKILL)
                service.wait()
    assert "Traceback" not in program.text()
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("killed with a successor at the door", TAKEOVERS, 0, 0, proxy.counts.repeats, 0, max(took)))
