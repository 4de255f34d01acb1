"""A start with many files at rest, and a scan of them again, beside a bare walk of the same tree."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from costs import cpu, one_work, pss
from dropping import Service
from rows import OURS, Goal, Row
from seed import seed
from setting import Setting

from groups.rest import memory

_WALK = "os.fwalk + stat"
_DEADLINE = 900


def measure(setting: Setting) -> Iterator[Row]:
    """Rows for the start, the first new file, the scan again, and memory."""
    scale = setting.scale
    pause = 3 if setting.hasty else 20
    service = Service(
        setting.folder("start"), setting.form("local"), experiment="start", watch=f'scan_interval = "{pause}s"\n'
    )  # fmt: skip
    files = seed(service, scale.start_files)
    tree = str(service.program.drop)
    starts, again, walks, walks_cpu, fresh, taken = [], [], [], [], [], []
    sent = 0
    for n in range(scale.start_rounds):
        walks.append(walked(tree))
        before = len(service.receipts.stored())
        begun = time.time()
        with service:
            new = service.run / f"fresh-{n}.txt"
            new.write_bytes(os.urandom(100))
            closed = time.time()
            first = one_work(service.pid, _DEADLINE, begun=begun)
            starts.append(first.seconds)
            fresh.append(service.all_stored(new.name, 1, closed, 120) - closed)
            sent += len(service.receipts.stored()) - before - 1
            used = time.process_time()
            walked(tree)
            walks_cpu.append(time.process_time() - used)
            again.append(_scanned_again(service, walks_cpu[-1] / 2))
            if n == scale.start_rounds - 1:
                if not setting.hasty:
                    service.rests()
                taken.append(pss(service.pid))
    goal = [Goal("costs", 2.5, _WALK)]
    yield Row("start", f"start with {files:,} unchanged files", "s", {OURS: starts, _WALK: walks}, goal, limit=_WALK,
              note=f"{sent} files were sent again")  # fmt: skip
    whole = "the scan's end"
    yield Row("start", "first new file at that start is stored after", "s", {OURS: fresh, whole: starts},
              [Goal("costs", 1.0, whole)])  # fmt: skip
    yield Row("start", f"scan of {files:,} unchanged files again, processor time", "s",
              {OURS: again, _WALK: walks_cpu}, goal, limit=_WALK)  # fmt: skip
    yield Row("start", f"the same, part of a core at a scan every {scale.scan_interval} s", "% of a core",
              {OURS: [100 * used / scale.scan_interval for used in again]}, [Goal("value", 5)])  # fmt: skip
    row = memory(files, taken, 90)
    row.group = "start"
    yield row


def _scanned_again(service: Service, least: float) -> float:
    """Processor seconds of the next scan: of the first work that took more than some."""
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        used = one_work(service.pid, _DEADLINE).cpu
        if used > least:
            return used
    raise AssertionError("no scan was seen")


def walked(tree: str) -> float:
    """Seconds of a bare walk that stats each file."""
    begun = time.perf_counter()
    for _, _, names, fd in os.fwalk(tree):
        for name in names:
            os.stat(name, dir_fd=fd, follow_symlinks=False)
    return time.perf_counter() - begun


def scan_cpu(service: Service) -> float:
    """Processor seconds of a service's start with all at rest."""
    begun = time.time()
    with service:
        one_work(service.pid, _DEADLINE, begun=begun)
        return cpu(service.pid)
