"""What processes cost, as the kernel counts it: processor time, memory, bytes read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MIB = 2**20
_TICKS = 100
_SAMPLE = 0.1
_QUIET = 2.0
_AT_WORK = 0.03
"""Part of a core above which a service counts as at work; resting, it takes a thousandth."""


def timed(command: list[str], **environ: str) -> float:
    """Seconds of a command, from its start to its end."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def family(pid: int) -> list[int]:
    """A process and all that it started, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu(pid: int) -> float:
    """Seconds of processor time of a process, its dead threads (to the nanosecond) and its dead children (to 10 ms).

    Those that it started and that live are not in it.
    """
    # The clock of another process's processor time, as clock_getcpuclockid(3) makes its number.
    own = time.clock_gettime(~pid << 3 | 2)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) / _TICKS


def cpu_of_all(pid: int) -> float:
    """The same, of a process and of all that it started."""
    total = 0.0
    for one in family(pid):
        with contextlib.suppress(OSError):
            total += cpu(one)
    return total


def pss(pid: int) -> float:
    """MiB of memory of a process and all that it started, pages that several share counted once."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def read_bytes(pid: int) -> tuple[int, int]:
    """Bytes that a process and all that it started have read: from the disk, and from files, in memory or not."""
    disk = every = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            lines = dict(line.split(": ") for line in Path(f"/proc/{one}/io").read_text().splitlines())
            disk += int(lines["read_bytes"])
            every += int(lines["rchar"])
    return disk, every


@dataclass(slots=True)
class Peak:
    """The most memory while a block ran, MiB."""

    pss: float = 0.0
    samples: list[float] = field(default_factory=list)


@contextlib.contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Look at a service's memory four times a second."""
    peak, over = Peak(), threading.Event()

    def look() -> None:
        while not over.wait(0.25):
            peak.samples.append(pss(pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
        peak.pss = max([*peak.samples, pss(pid)])


@dataclass(frozen=True, slots=True)
class Work:
    """A stretch of work of a service.

    Attributes:
        began: Unix seconds.
        seconds: Its length.
        cpu: Seconds of processor time.
    """

    began: float
    seconds: float
    cpu: float


def one_work(pid: int, deadline: float, *, begun: float | None = None) -> Work:
    """Wait until the service begins to work, and until it rests again.

    Args:
        pid: Of the service; what it started is not looked at.
        deadline: Seconds for all of it.
        begun: It has begun already, at that time (unix seconds), from nothing.
    """
    end = time.time() + deadline
    before = 0.0 if begun is not None else cpu(pid)
    last, last_at, since = before, time.time(), begun
    ended, at_end = last_at, before
    while time.time() < end:
        time.sleep(_SAMPLE)
        now, used = time.time(), cpu(pid)
        if (used - last) / (now - last_at) > _AT_WORK:
            if since is None:
                since, before = last_at, last
            ended, at_end = now, used
        elif since is not None and now - ended > _QUIET:
            return Work(since, ended - since, at_end - before)
        last, last_at = used, now
    raise AssertionError(f"the service did not come to rest within {deadline:.0f} s")
