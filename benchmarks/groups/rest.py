"""A service whose files are all at rest: its processor time, its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache

from costs import cpu_of_all, peak_of, pss
from dropping import Service
from rows import OURS, Goal, Row
from seed import BELOW, name_of, seed
from setting import Setting

from support import environment

_BARE = "python with mlflow-skinny's client imported"
_HOLDING = "import mlflow.tracking.client, sys; print('ready', flush=True); sys.stdin.read()"


def measure(setting: Setting) -> Iterator[Row]:
    """While they are delivered, at rest with events, at rest with scans alone: both for the same minutes."""
    scale = setting.scale
    files = scale.rest_files
    interval = f'scan_interval = "{scale.scan_interval}s"\n'
    form = setting.form("local")
    scanning = Service(
        setting.folder("rest-scan"), form, experiment="rest, scan", watch=f'{interval}mode = "scan"\n'
    )  # fmt: skip
    seed(scanning, files)
    with ExitStack() as ends:
        events = Service(setting.folder("rest-events"), form, experiment="rest, events", watch=interval)
        ends.enter_context(events)
        time.sleep(2)
        begun = pss(events.pid)
        with peak_of(events.pid) as peak:
            _at_rest(events, files)
        note = f"{begun:.0f} MiB before, {peak.pss:.0f} at most"
        yield Row("rest", f"memory beyond that at the start, {files:,} files due", "MiB", {OURS: [peak.pss - begun]},
                  [Goal("value", 90)], note=note)  # fmt: skip
        ends.enter_context(scanning)
        if not setting.hasty:
            events.rests()
            time.sleep(30)  # the scan of the second one's start
        modes = (("events", events, 0.05), ("scan", scanning, 1.0))
        before = {mode: cpu_of_all(service.pid) for mode, service, _ in modes}
        since = time.monotonic()
        time.sleep(scale.rest_seconds)
        for mode, service, most in modes:
            part = 100 * (cpu_of_all(service.pid) - before[mode]) / (time.monotonic() - since)
            work = f"idle processor time, {files:,} files, {mode} mode, scans every {scale.scan_interval} s"
            scans = "scans included" if scale.rest_seconds >= scale.scan_interval else "too short for a scan"
            note = f"over {scale.rest_seconds / 60:.3g} minutes, {scans}; Litestream says 0.0067 of itself"
            yield Row("rest", work, "% of a core", {OURS: [part]}, [Goal("value", most)], note=note)
        yield memory(files, [pss(events.pid)], 60)


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
