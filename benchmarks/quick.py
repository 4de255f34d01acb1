"""The marks that are quick enough to compare two versions by. What is measured is what it costs: less is better."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from costs import cpu, cpu_of_all, one_work, pss, timed
from dropping import Service, write_files
from groups.latency import beyond_settle
from seed import name_of, seed, size
from setting import Setting

from support import environment

Costs = dict[str, tuple[float, str]]
"""Value and unit by mark."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the program.

    Attributes:
        path: The folder that its package lies in.
        scale: Times the sizes.
        python: The interpreter of another environment, where all that it needs is installed; "" for this one's.
    """

    path: Path
    scale: float
    python: str = ""

    @property
    def environ(self) -> dict[str, str]:
        """What has Python run it."""
        return {"PYTHONPATH": str(self.path)}

    def sized(self, number: int) -> int:
        """Scaled."""
        return max(4, round(number * self.scale))

    def service(self, setting: Setting, name: str, watch: str = "") -> Service:
        """One that runs it."""
        base = setting.folder(name)
        made = Service(base, setting.form("local"), experiment=base.name, watch=watch, environ=self.environ)
        made.program.python = self.python
        return made


def small(setting: Setting, version: Version, ends: ExitStack) -> Callable[[], Costs]:
    """Seconds and processor time of small files into a local folder."""
    service = ends.enter_context(version.service(setting, "small"))
    files = version.sized(1500)
    for n in range(3):
        service.drop(write_files(setting.folder("first") / f"first-{n}", version.sized(200), 4096))

    def measure() -> Costs:
        source = setting.folder("source")
        written = write_files(source / source.name, files, 4096)
        before = cpu_of_all(service.pid)
        seconds = service.drop(written)
        used = cpu_of_all(service.pid) - before
        return {
            "small files: time of each": (1e6 * seconds / files, "µs"),
            "small files: processor time of each": (1e6 * used / files, "µs"),
        }

    return measure


def big(setting: Setting, version: Version, ends: ExitStack) -> Callable[[], Costs]:
    """Seconds of a file of some size into a local folder."""
    service = ends.enter_context(version.service(setting, "big"))
    service.drop(write_files(setting.folder("first") / "first", 8, 4096))

    def measure() -> Costs:
        source = setting.folder("source")
        mib = version.sized(128)
        return {
            "big file: time of a MiB": (1e6 * service.drop(write_files(source / source.name, 1, mib << 20)) / mib, "µs")
        }

    return measure


def latency(setting: Setting, version: Version, ends: ExitStack) -> Callable[[], Costs]:
    """From close to stored, beyond settle."""
    service = ends.enter_context(version.service(setting, "latency"))

    def measure() -> Costs:
        taken = [beyond_settle(service, service.run / f"{setting.folder('one').name}.bin") for _ in range(5)]
        return {"close → stored, beyond settle": (1000 * median(taken), "ms")}

    return measure


def rest(setting: Setting, version: Version, _ends: ExitStack) -> Callable[[], Costs]:
    """Start and scan with all at rest, memory afterwards."""
    files = version.sized(20_000)
    service = version.service(setting, "rest", 'scan_interval = "3s"\n')
    seed(service, files)

    def measure() -> Costs:
        begun = time.time()
        with service:
            one_work(service.pid, 300, begun=begun)
            start, taken = cpu(service.pid), pss(service.pid)
            again = one_work(service.pid, 300).cpu
        return {
            "start with files at rest: processor time": (start, "s"),
            "scan again: processor time of a file": (1e6 * again / files, "µs"),
            "memory at rest": (taken, "MiB"),
        }

    return measure


def ledger(setting: Setting, version: Version, _ends: ExitStack) -> Callable[[], Costs]:
    """Bytes of a row; it is the same in each round."""
    files = version.sized(2000)
    service = version.service(setting, "ledger")
    with service:
        service.drop(write_files(setting.folder("first") / "first", files, 16, name_of))
    return lambda: {"ledger: size for each file": (size(service) / files, "B")}


def commands(setting: Setting, version: Version, ends: ExitStack) -> Callable[[], Costs]:
    """What a command takes to start."""
    service = ends.enter_context(version.service(setting, "commands"))
    service.drop(write_files(setting.folder("first") / "first", 8, 4096))
    call = [
        version.python or sys.executable,
        "-m",
        "artifactd",
        "status",
        "--json",
        "--config",
        str(service.program.config),
    ]
    return lambda: {"artifactd status": (1000 * timed(call, **environment(**version.environ)), "ms")}


QUICK: dict[str, Callable[[Setting, Version, ExitStack], Callable[[], Costs]]] = {
    measure.__name__: measure for measure in (small, big, latency, rest, ledger, commands)
}
