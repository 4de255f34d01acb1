"""A service whose files are all at rest: its processor time, its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from statistics import median

from costs import cpu_of_all, peak_of, pss
from dropping import Service
from rows import OURS, Goal, Row
from seed import BELOW, name_of, seed
from setting import Setting

from artifactd.config import WatchConfig
from artifactd.rounds import scan_pause
from support import environment

_BARE = "python with mlflow-skinny's client imported"
_HOLDING = "import mlflow.tracking.client, sys; print('ready', flush=True); sys.stdin.read()"


def measure(setting: Setting) -> Iterator[Row]:
    """While they are delivered, at rest with events, at rest with scans alone: both for the same minutes."""
    scale = setting.scale
    files = scale.rest_files
    interval = f'scan_interval = "{scale.short_scan_interval}s"\n'
    form = setting.form("local")
    scanning = Service(
        setting.folder("rest-scan"), form, experiment="rest, scan", watch=f'{interval}mode = "scan"\n'
    )  # fmt: skip
    seed(scanning, files)
    begun, most = [], []
    for n in range(scale.rounds):
        events = Service(setting.folder("rest-events"), form, experiment=f"rest, events {n}")
        with ExitStack() as ends:
            ends.enter_context(events)
            time.sleep(0.2 if setting.hasty else 2)
            begun.append(pss(events.pid))
            with peak_of(events.pid) as peak:
                _at_rest(events, files)
            most.append(peak.pss)
    note = f"{median(begun):.0f} MiB before, {median(most):.0f} at most"
    beyond = [after - before for before, after in zip(begun, most, strict=True)]
    yield Row("rest", f"memory beyond that at the start, {files:,} files due", "MiB", {OURS: beyond},
              [Goal("value", 90)], note=note)  # fmt: skip
    with events, scanning:
        if not setting.hasty:
            time.sleep(60)  # the scans of their starts
        yield from _idle(setting, events, scanning)


def _idle(setting: Setting, events: Service, scanning: Service) -> Iterator[Row]:
    """Rows of processor time and memory, of as many stretches as there are rounds."""
    scale = setting.scale
    files = scale.rest_files
    shares: dict[Service, list[float]] = {events: [], scanning: []}
    scans, taken = [], []
    for _ in range(scale.rounds):
        before = {service: cpu_of_all(service.pid) for service in shares}
        since = time.monotonic()
        time.sleep(scale.rest_seconds / scale.rounds)
        took = time.monotonic() - since
        by_events, by_scans = (cpu_of_all(service.pid) - was for service, was in before.items())
        scans.append(max(0.0, by_scans - by_events) / (took / scale.short_scan_interval))
        taken.append(pss(events.pid))
        shares[events].append(by_events / took)
    one = median(scans)
    # Those minutes seldom hold one of the scans that a service with events makes: its part of one is added.
    pause = scan_pause(one, scale.scan_interval, WatchConfig(path=events.run).longest_scan_interval)
    minutes = f"over {scale.rest_seconds / 60:.3g} minutes"
    note = f"{minutes}, and the part of a scan of {one:.2g} s each {pause:,.0f} s; Litestream says 0.0067 of itself"
    yield Row("rest", f"idle processor time, {files:,} files, events mode", "% of a core",
              {OURS: [100 * (share + one / pause) for share in shares[events]]}, [Goal("value", 0.05)],
              note=note)  # fmt: skip
    note = f"{minutes}; a scan each {scale.short_scan_interval} s, and counted as seldom"
    yield Row("rest", f"idle processor time, {files:,} files, scan mode, scans every {scale.scan_interval} s",
              "% of a core",
              {OURS: [100 * (s + scan / scale.scan_interval) for s, scan in zip(shares[events], scans, strict=True)]},
              [Goal("value", 1.0)], note=note)  # fmt: skip
    yield memory(files, taken, 60)


def _at_rest(service: Service, files: int) -> None:
    """Make the files, and wait until all are stored."""
    for folder in range(max(1, files // BELOW)):
        path = service.experiment / f"run-{folder // 100}" / f"folder-{folder}"
        path.mkdir(parents=True)
        for n in range(min(files, BELOW)):
            (path / name_of(n)).touch()
    service.program.wait_idle(1200)


def memory(files: int, ours: list[float], most: float) -> Row:
    """The row of idle memory."""
    sides = {OURS: ours, _BARE: [bare()] * len(ours)}
    return Row("rest", f"idle memory, {files:,} files", "MiB", sides, [Goal("value", most)])


@cache
def bare() -> float:
    """MiB of a Python that has imported MLflow's client and does nothing."""
    call = [sys.executable, "-c", _HOLDING]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = pss(process.pid)
        process.communicate()
    return taken
