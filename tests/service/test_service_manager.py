"""The service as a service manager sees it: notifications on a real socket, watchdog, reload, a user of its own."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from notify_support import noted, noting
from support import Program, environment, wait_for


class Manager:
    """The service manager's end of ``$NOTIFY_SOCKET``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)
        self.said: list[tuple[float, str]] = []

    def hear(self) -> list[str]:
        while True:
            try:
                message = self._socket.recv(65536).decode()
            except BlockingIOError:
                return [line for _, line in self.said]
            self.said += [(time.monotonic(), line) for line in message.splitlines()]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    made = Program(tmp_path, new=True)
    (made.drop / "e" / "r").mkdir(parents=True)
    (made.drop / "e" / "r" / "a").write_text("a")
    return made


def test_the_life_of_a_service(program: Program, manager: Manager) -> None:
    with program.running(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="2000000") as process:
        wait_for(lambda: "READY=1" in manager.hear(), "it is ready")
        assert [e["event"] for e in program.events()].count("ready") == 1
        wait_for(lambda: manager.hear().count("WATCHDOG=1") >= 4, "it pings")
        program.wait_idle()
        wait_for(lambda: "STATUS=all stored" in manager.hear(), "one human line")
        process.send_signal(signal.SIGHUP)
        wait_for(
            lambda: "RELOADING=1" in manager.hear() and manager.hear().count("READY=1") == 2, "it says that it reloads"
        )
        good = program.config.read_text()
        program.config.write_text(good + 'layuot = "{run}"\n')
        process.send_signal(signal.SIGHUP)
        refused = "STATUS=the new configuration is wrong, the old one stays ("
        shown = wait_for(lambda: [s for s in manager.hear() if s.startswith(refused)], "the refusal is shown")
        assert "layuot" in shown[0]
        assert shown[0].endswith(") [AD801], all stored")
        program.config.write_text(good)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: [s for s in manager.hear() if "STATUS" in s][-1] == "STATUS=all stored", "it is over")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "STOPPING=1" in manager.hear()


def test_a_service_at_rest_pings_in_time_whatever_the_watchdog(program: Program, manager: Manager) -> None:
    """Also where the watchdog is shorter than the longest rest."""
    with program.running(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="2000000"):
        program.wait_idle()
        manager.hear()
        manager.said.clear()
        wait_for(lambda: manager.hear().count("WATCHDOG=1") >= 6, "it pings", 60)
    pings = [at for at, line in manager.said if line == "WATCHDOG=1"]
    assert statistics.median(b - a for a, b in itertools.pairwise(pings)) < 2.0


def test_a_reload_that_waits_for_an_upload_pings(tmp_path: Path, manager: Manager) -> None:
    program = Program(tmp_path, new=True, more='[upload]\nbandwidth_limit = "2MiB"\n')
    big = program.drop / "e" / "r" / "big"
    big.parent.mkdir(parents=True)
    with program.running(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="1000000") as process:
        wait_for(lambda: "READY=1" in manager.hear(), "it is ready")
        big.write_bytes(os.urandom(12 * 2**20))
        wait_for(lambda: program.status().get("uploading") == 1, "it goes out", 60)
        program.config.write_text(program.config.read_text().replace('"0.3s"', '"0.4s"'))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: manager.hear().count("READY=1") == 2, "the reload is done", 60)
    lines = [line for _, line in manager.said]
    begun = lines.index("RELOADING=1")
    assert lines[begun : lines.index("READY=1", begun)].count("WATCHDOG=1") >= 4


def test_messages_have_the_same_line(tmp_path: Path, manager: Manager) -> None:
    command = ", ".join(f"'{word}'" for word in noting(tmp_path))
    program = Program(tmp_path, new=True, more=f'[notify]\ncommand = [{command}]\ndisk = "0"\n')
    with program.running(NOTIFY_SOCKET=str(manager.path)) as process:
        wait_for(lambda: "STATUS=all stored" in manager.hear(), "all is well")
        program.config.write_text(program.config.read_text() + 'layuot = "{run}"\n')
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: any("[AD801]" in line for line in manager.hear()), "the refusal, with its code")
        program.drop.rmdir()
        message = wait_for(lambda: next(iter(noted(tmp_path)), None), "somebody is told", 60)
        assert [t["kind"] for t in message["troubles"]] == ["watch"]
        status = message["status"]
        assert status.startswith("the new configuration is wrong, the old one stays (")
        gone = f"watch: {program.drop}: the folder is not there; it is looked for [AD708]"
        assert status.endswith(f") [AD801], nothing waits, {gone}")
        wait_for(lambda: f"STATUS={status}" in manager.hear(), "systemd shows the same line")


def test_a_stopped_loop_stops_pinging(program: Program, manager: Manager) -> None:
    with program.running(NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="2000000") as process:
        wait_for(lambda: "WATCHDOG=1" in manager.hear(), "it pings")
        process.send_signal(signal.SIGSTOP)
        try:
            manager.hear()
            before = len(manager.said)
            end = time.monotonic() + 2.5
            wait_for(lambda: time.monotonic() > end, "more than the watchdog's time has passed")
            manager.hear()
            assert [line for _, line in manager.said[before:]].count("WATCHDOG=1") <= 1
        finally:
            process.send_signal(signal.SIGCONT)


def test_a_wrong_config_is_told_and_never_ready(program: Program, manager: Manager) -> None:
    program.config.write_text(program.config.read_text() + 'layuot = "{run}"\n[retry]\ninitial = "soon"\n')
    done = program.call("run", "--config", str(program.config), NOTIFY_SOCKET=str(manager.path))
    assert done.returncode == 2
    assert "layuot" in done.stderr
    assert "layout" in done.stderr
    assert "soon" in done.stderr, "all mistakes at once"
    assert "Traceback" not in done.stderr
    assert "READY=1" not in manager.hear()
    assert not program.state.exists(), "nothing was begun"


@pytest.mark.root
def test_a_file_that_the_service_may_not_read_is_a_failure_with_the_cure(program: Program) -> None:
    """The safetensors case: another user's file of mode 0600. Root without its capabilities is such a reader."""
    if os.getuid() != 0:
        pytest.skip("needs root, to give files to another user")
    nobody = 65534
    folder = program.drop / "e" / "r"
    closed, locked = folder / "closed.bin", folder / "locked"
    closed.write_bytes(b"22")
    locked.mkdir()
    for path in (closed, locked):
        os.chown(path, nobody, nobody)
        path.chmod(0o600)

    def sync() -> subprocess.CompletedProcess[str]:
        caps = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={caps}", sys.executable, "-m", "artifactd", "sync"]
        return subprocess.run(
            [*command, "--config", str(program.config)],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = sync()
    assert done.returncode == 3, done.stdout + done.stderr
    status = program.status()
    assert (status["stored"], status["failed"]) == (1, 2)
    assert {f["path"]: f["kind"] for f in status["failures"]} == {str(closed): "permanent", str(locked): "permanent"}
    assert "setfacl" in program.call("explain", str(closed)).stdout
    closed.chmod(0o644)
    locked.chmod(0o755)
    done = sync()
    assert done.returncode == 0, done.stdout + done.stderr
    status = program.status()
    assert (status["stored"], status["failed"]) == (2, 0)
