"""A wall clock that jumps by a day, and files whose times are odd: nothing waits for a day, nothing is sent for a time.

libfaketime stands between the real program and its wall clock; the monotonic clock, and the times that the kernel gives
to files, stay true.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from artifactd.ledger import FileView, Report, State
from artifactd.pace import FREE_SENDS
from artifactd.watching.signature import Signature
from conftest import MlflowServer
from faults.proxy import Fault, Proxy, uploads
from faults.table import Row
from support import Oracle, Program, environment, tree, wait_for

DAY = 86_400
SETTLE = 1.0
RETRY = '[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'

# libfaketime 0.9 makes nonsense of a sleep until a moment of the true monotonic clock, which is how Python sleeps.
_SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"

_PROBE = """
import os, sys, time
with open("stamp", "w") as f:
    f.write("x")
begun = time.monotonic()
time.sleep(0.1)
assert 0.05 < time.monotonic() - begun < 60, "it cannot sleep"
print(time.time() - os.stat("stamp").st_mtime)
"""


class Clock:
    """The wall clock of the programs that run with `env`."""

    def __init__(self, folder: Path) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            pytest.skip("libfaketime is not installed")
        folder.mkdir()
        self._file = folder / "offset"
        (folder / "sitecustomize.py").write_text(_SLEEP)
        self.env = {
            "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }  # fmt: skip
        self.set(1)
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment(**self.env), cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert DAY <= float(done.stdout) < DAY + 60, "the clock, and only the clock, is a day ahead"
        self.set(0)

    def set(self, days: int) -> None:
        """So many days ahead of the truth, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{days * DAY:+d}\n")
        new.replace(self._file)


@dataclass
class Site:
    """A service with a clock of its own, before a server with a proxy between them; and one run folder."""

    program: Program
    proxy: Proxy
    oracle: Oracle
    clock: Clock
    folder: Path
    begun: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        with ExitStack() as after, self.program.running(**self.clock.env) as service:
            after.callback(self._clean, service.pid)
            try:
                yield psutil.Process(service.pid)
            finally:
                self.clock.set(0)

    @staticmethod
    def _clean(pid: int) -> None:
        """What libfaketime leaves in memory of a process that was killed."""
        for left in Path("/dev/shm").glob(f"*faketime_*_{pid}"):
            left.unlink(missing_ok=True)

    def sent(self) -> Counter[str]:
        return Counter(e["artifact_path"] for e in self.program.events() if e["event"] == "stored")

    def put(self, name: str) -> None:
        """Write a file whose arrival `arrived` then tells."""
        self.begun[name] = self.sent()[name]
        (self.folder / name).write_bytes(os.urandom(3000))

    def arrived(self, *names: str) -> bool:
        sent = self.sent()
        return all(sent[name] > self.begun[name] for name in names)

    def view(self, name: str) -> FileView | None:
        """What the service knows of the file."""
        with closing(Report(self.program.state)) as report:
            return next(iter(report.files(below=os.fsencode(self.folder / name))), None)

    def waits(self, name: str) -> FileView | None:
        """The file, if it is due at a time that is still to come by the true clock, or held back until then."""
        found = self.view(name)
        if found is None or found.state is not State.DUE:
            return None
        until = max(found.due_at or 0.0, 0.0 if found.blockage is None else found.blockage.next_try)
        return found if until > time.time() + 0.1 else None

    def rests(self, name: str) -> bool:
        """Whether the service has stored the file as it is."""
        found = self.view(name)
        now = Signature.of((self.folder / name).stat())
        return found is not None and found.state is State.STORED and found.signature == now

    def jump(self, service: psutil.Process, days: int, waiting: Callable[[], object]) -> float:
        """Set the clock while the service stands still, at a moment at which something is waited for; that moment."""

        def done() -> bool:
            service.send_signal(signal.SIGSTOP)
            try:
                wait_for(lambda: service.status() == psutil.STATUS_STOPPED, "it stands still")
                if not waiting():
                    return False
                self.clock.set(days)
                return True
            finally:
                service.send_signal(signal.SIGCONT)

        wait_for(done, "there is something that waits")
        return time.monotonic()

    def assert_exact(self, to: Path) -> None:
        run = self.oracle.run(self.folder.parent.name, self.folder.name)
        assert self.oracle.files(run.info.run_id, to) == tree(self.folder)
        assert "Traceback" not in self.program.text()


@pytest.fixture
def site(proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    """A service that is still to be started, and one file for it."""
    program = Program(tmp_path, tracking_uri=proxy.uri, more=RETRY)
    config = program.config.read_text()
    program.config.write_text(config.replace('settle = "0.3s"', f'settle = "{SETTLE}s"'))
    folder = program.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    made = Site(program, proxy, Oracle(mlflow_server.uri), Clock(tmp_path / "clock"), folder)
    made.put("first")
    return made


def bad(method: str, path: str) -> bool:
    """Uploads of one file."""
    return uploads(method, path) and path.endswith("/bad")


@pytest.mark.parametrize("days", [1, -1])
def test_files_come_to_rest_and_changes_are_seen_over_a_jump_of_the_clock(
    days: int, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    def both_wait() -> bool:
        if site.arrived("resting"):  # sooner than the clock could be set: another one
            site.put("resting")
        return bool(site.waits("resting") and site.waits("open"))

    with site.running() as service:
        wait_for(lambda: site.arrived("first"), "the service works")
        site.put("open")
        with (site.folder / "open").open("ab"):
            site.put("resting")
            moment = site.jump(service, days, both_wait)
        wait_for(lambda: site.arrived("resting", "open"), "what waited is stored")
        site.put("first")
        site.put("new")
        wait_for(lambda: site.arrived("first", "new"), "what comes then is stored")
        took = time.monotonic() - moment
    site.assert_exact(tmp_path / "back")
    record(Row(f"clock {days:+d} day, files come to rest", 1, 0, 0, site.proxy.counts.repeats, 0, took))


HELD = {
    "a file": Fault("answer", bad, status=500, body=b"{}"),
    "the target": Fault("refuse"),
}


@pytest.mark.parametrize("days", [1, -1])
@pytest.mark.parametrize("what", HELD)
def test_what_waits_for_its_next_try_is_tried_over_a_jump_of_the_clock(
    what: str, days: int, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    def held() -> bool:
        view = site.waits("bad")
        return view is not None and bool(view.attempts if what == "a file" else view.blockage)

    with site.running() as service:
        wait_for(lambda: site.arrived("first"), "the service works")
        with site.proxy.misbehaving(HELD[what]):
            site.put("bad")
            site.jump(service, days, held)
        healed = time.monotonic()
        wait_for(lambda: site.arrived("bad"), "it is tried again")
        took = time.monotonic() - healed
    site.assert_exact(tmp_path / "back")
    record(Row(f"clock {days:+d} day, {what} is held back", 1, 0, 0, site.proxy.counts.repeats, 0, took))


@pytest.mark.timeout(240)
def test_a_file_that_is_rewritten_often_is_spaced_out_but_sent_over_a_clock_set_back(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """It rests long enough to be sent, but never for as long as its uploads are to be apart."""
    due = 0.0

    def rewritten_until(times: int) -> bool:
        nonlocal due
        if time.monotonic() >= due:
            (site.folder / "often").write_bytes(os.urandom(3000))
            due = time.monotonic() + 2 * SETTLE
        return site.sent()["often"] >= times

    with site.running() as service:
        wait_for(lambda: rewritten_until(FREE_SENDS + 1), "it is sent so often that the next is spaced out", 60)
        moment = site.jump(service, -1, lambda: rewritten_until(0) and site.waits("often"))
        times = site.sent()["often"]
        wait_for(lambda: rewritten_until(times + 1), "it is sent on", 60)
        took = time.monotonic() - moment
        wait_for(lambda: site.rests("often"), "its last content is stored", 60)
    site.assert_exact(tmp_path / "back")
    record(Row("clock -1 day, a file is rewritten often", 1, 0, 0, site.proxy.counts.repeats, 0, took))


def test_a_clock_set_back_while_the_service_waits_for_its_ledger(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    """Another process that writes into the ledger stops the loop in the middle of a turn."""
    with site.running() as service:
        wait_for(lambda: site.arrived("first"), "the service works")
        with closing(sqlite3.connect(site.program.state / "ledger.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            site.put("early")  # the reason for a turn
            asleep = Path(f"/proc/{service.pid}/wchan")
            wait_for(lambda: "nanosleep" in asleep.read_text(), "SQLite sleeps between two tries", 8)
            site.put("new")
            seen = time.monotonic() + 0.3
            wait_for(lambda: time.monotonic() >= seen, "the event is read, by a thread of its own")
            site.clock.set(-1)
        moment = time.monotonic()
        wait_for(lambda: site.arrived("new"), "it is stored")
        took = time.monotonic() - moment
    site.assert_exact(tmp_path / "back")
    record(Row("clock -1 day in the middle of a turn", 1, 0, 0, site.proxy.counts.repeats, 0, took))


@pytest.mark.parametrize("second", ["run", "sync"])
def test_a_clock_that_was_a_day_ahead_in_the_last_life_delays_nothing(
    second: str, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    site.clock.set(1)
    with site.running():
        wait_for(lambda: site.arrived("first"), "the service works")
        site.put("open")
        with site.proxy.misbehaving(HELD["a file"]), (site.folder / "open").open("ab"):
            site.put("bad")
            wait_for(lambda: site.waits("open") and site.waits("bad"), "one is held open")
            wait_for(lambda: "not delivered" in site.program.text(), "one cannot be uploaded")
            site.proxy.heal()
            site.proxy.start(Fault("refuse"))
            site.put("held")
            wait_for(lambda: (v := site.waits("held")) and v.blockage, "the server is gone")
            assert site.program.stop() == 0
    site.put("first")
    site.put("new")
    moment = time.monotonic()
    if second == "sync":
        done = site.program.call("sync", timeout=60, **site.clock.env)
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        with site.running():
            everything = ("first", "open", "bad", "held", "new")
            wait_for(lambda: site.arrived(*everything), "all is stored")
    took = time.monotonic() - moment
    site.assert_exact(tmp_path / "back")
    record(Row(f"clock a day ahead in the last life, then {second}", 1, 0, 0, site.proxy.counts.repeats, 0, took))


# -- times of files ----------------------------------------------------------------------------------------------


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder whose disk keeps every time; ext4 knows no year after 2446."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("there is no /dev/shm to write into")
    folder = Path(tempfile.mkdtemp(prefix="artifactd-times-", dir=shm))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def test_odd_times_of_files_are_no_reason_to_lose_or_to_send(
    in_memory: Path, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    times = {
        "1970": 0, "1901": -2_177_452_800 * 10**9 + 1, "1969": -1, "2500": 16_725_225_600 * 10**9 + 999_999_999,
        "tomorrow": time.time_ns() + DAY * 10**9,
    }  # fmt: skip
    program = Program(
        in_memory, tracking_uri=proxy.uri, watch='scan_interval = "1s"', more=RETRY + '[log]\nlevel = "debug"\n'
    )  # a touch gives no event: the scan sees it
    folder = program.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    paths = {folder / name: ns for name, ns in times.items()}
    for path, ns in paths.items():
        path.write_bytes(os.urandom(3000))
        os.utime(path, ns=(ns, ns))
        assert path.stat().st_mtime_ns == ns

    def told(event: str) -> int:
        return sum(e["event"] == event for e in program.events())

    def uploaded() -> int:
        return sum(n for (method, path), n in list(proxy.counts.requests.items()) if uploads(method, path))

    with program.running():
        wait_for(lambda: told("stored") == len(times), "all are stored")
        for path, ns in zip(paths, (*list(times.values())[1:], 0), strict=True):
            os.utime(path, ns=(ns, ns))
        wait_for(lambda: told("unchanged") == len(times), "the touches are seen")
        assert uploaded() == len(times), "a touch is no change"
        for path, ns in paths.items():
            before = path.stat().st_mtime_ns
            path.write_bytes(os.urandom(3000))
            os.utime(path, ns=(before, before))
            assert path.stat().st_mtime_ns != ns
        wait_for(lambda: told("stored") == 2 * len(times), "changes are")
    oracle = Oracle(mlflow_server.uri)
    assert oracle.files(oracle.run(tmp_path.name, "r").info.run_id, tmp_path / "back") == tree(folder)
    assert "Traceback" not in program.text()
    assert uploaded() == 2 * len(times)
    record(Row("odd times of files", len(times), 0, 0, proxy.counts.repeats, 0))
