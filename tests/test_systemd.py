"""What systemd is told, over real sockets, and the unit file that it is told to run."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.systemd import Notifier

UNIT = Path(__file__).parent.parent / "systemd" / "artifactd.service"


class Manager:
    """systemd's end of the line."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)
        self.env = {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def heard(self) -> str:
        return self.socket.recv(4096).decode()

    def hears_nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder:
        manager = Manager(f"{folder}/notify" if request.param == "path" else f"\0artifactd-test-{uuid.uuid4()}")
        yield manager
        manager.socket.close()


def test_says_how_the_service_is(manager: Manager) -> None:
    notifier = Notifier(manager.env)
    notifier.ready()
    assert manager.heard() == "READY=1"
    notifier.watchdog()
    assert manager.heard() == "WATCHDOG=1"
    notifier.watchdog()
    assert manager.heard() == "WATCHDOG=1"
    notifier.stopping()
    assert manager.heard() == "STOPPING=1"


def test_a_reload_carries_the_time_of_its_beginning(manager: Manager) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier(manager.env).reloading()
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.heard())
    assert found
    assert before <= int(found[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_is_one_clean_line_and_not_repeated(manager: Manager) -> None:
    notifier = Notifier(manager.env)
    notifier.status("3 waiting\nfor http://u:geheim@h \x1b[31m\udcff é")
    assert manager.heard() == "STATUS=3 waiting for http://u:***@h ?[31m? é"
    notifier.status("3 waiting\nfor http://u:geheim@h \x1b[31m\udcff é")
    assert manager.hears_nothing()
    notifier.status("nothing waiting")
    assert manager.heard() == "STATUS=nothing waiting"
    notifier.status("🎉" * 5_000)
    told = manager.heard()
    assert told.startswith("STATUS=🎉🎉")
    assert len(told.encode()) < 4096


def test_a_status_that_was_not_heard_is_said_again() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notifier = Notifier({"NOTIFY_SOCKET": f"{folder}/notify"})
        notifier.status("waiting")
        manager = Manager(f"{folder}/notify")
        notifier.status("waiting")
        assert manager.heard() == "STATUS=waiting"
        manager.socket.close()


@pytest.mark.parametrize(
    "env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/nowhere/at/all"}]
)
def test_nothing_happens_without_systemd(env: dict[str, str]) -> None:
    notifier = Notifier(env)
    notifier.ready()
    notifier.status("x")
    notifier.watchdog()
    notifier.reloading()
    notifier.stopping()
    assert notifier.watchdog_interval is None


@pytest.mark.parametrize(
    ("env", "interval"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_wants_half_its_time(env: dict[str, str], interval: float | None) -> None:
    assert Notifier(env).watchdog_interval == interval


def test_reads_the_processs_environment(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.env["NOTIFY_SOCKET"])
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    notifier = Notifier()
    notifier.ready()
    assert manager.heard() == "READY=1"
    assert notifier.watchdog_interval == 1.0


# --- the unit ----------------------------------------------------------------------------------------------------


def directives() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_holds_what_the_service_relies_on() -> None:
    unit = directives()
    expected = {
        "Type": "notify",
        "User": "artifactd",
        "StateDirectory": "artifactd",
        "StateDirectoryMode": "0700",
        "WatchdogSec": "60s",
        "TimeoutStopSec": "30s",
        "Restart": "always",
        "RestartPreventExitStatus": "2",
        "StartLimitIntervalSec": "0",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "Slice": "-.slice",
        "ProtectSystem": "strict",
        "ProtectHome": "read-only",
        "CapabilityBoundingSet": "",
    }
    assert {key: unit[key] for key in expected} == {key: [value] for key, value in expected.items()}
    (command,) = unit["ExecStart"]
    assert command.startswith("/")
    assert command.endswith("/artifactd run --config /etc/artifactd/config.toml")
    # It would hide /proc/sys/fs/inotify, from which a watch limit that is too small is told.
    assert "ProcSubset" not in unit
    # Delivery processes, their lines and the stores.
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]


def test_every_line_of_the_unit_has_its_reason_above() -> None:
    lines = UNIT.read_text().splitlines()
    bare = [
        line
        for above, line in itertools.pairwise(lines)
        if "=" in line and not line.startswith("#") and (not above.startswith("# ") or above.startswith("# ---"))
    ]
    # Only the line that names the service needs none.
    assert bare == ["Description=artifactd, MLflow's drop folder"]


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd): the unit was not verified")
    unit = tmp_path / UNIT.name
    # The program is not installed where the unit expects it; everything else stays.
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    verified = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")  # an unknown value is only told on stderr
    secured = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert secured.returncode == 0, secured.stdout + secured.stderr
