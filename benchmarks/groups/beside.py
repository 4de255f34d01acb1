"""Training beside the service: how much slower it becomes, while files are delivered and while all is at rest."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from costs import MIB
from dropping import Service, write_files
from rows import OURS, Goal, Row, interleaved
from setting import Setting

from support import environment, wait_for

_ALONE = "without artifactd"
_TRAINING = Path(__file__).parents[1] / "training.py"
_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_SHARE = 5
"""``CPUWeight=`` of the unit; 100 is everybody's."""


def measure(setting: Setting) -> Iterator[Row]:
    """A row each for processors and disk, while files are delivered, and one at rest."""
    scale = setting.scale
    base = setting.folder("beside")
    data = write_files(base / "data", 16, max(1, scale.hashing_mib // 16) * MIB)
    with ExitStack() as ends:
        wrapper, how = as_the_unit(ends)
        service = Service(base / "service", setting.form("local"), experiment="beside", wrapper=wrapper)
        ends.enter_context(service)
        for n in range(1 if setting.hasty else 3):
            service.drop(write_files(base / f"first-{n}", 8 if setting.hasty else 300, 4096))

        # It is there for both sides: for the one it is stopped.
        def alone(kind: str, _n: int) -> float:
            os.killpg(service.pid, signal.SIGSTOP)
            try:
                return _trained(kind, data, scale.training_seconds)
            finally:
                os.killpg(service.pid, signal.SIGCONT)

        def delivering(kind: str, n: int) -> float:
            source = write_files(base / f"source-{kind}-{n}", scale.training_files, 4096)
            return _trained(kind, data, scale.training_seconds, lambda: service.drop(source))

        for kind, what in (("matmul", "NumPy on all cores"), ("loader", "a data loader on the same disk")):
            work = f"{what}: a step while files are delivered"
            yield _row(scale.rounds, work, partial(alone, kind), partial(delivering, kind), 1.01, how)
        if not setting.hasty:
            service.rests()
        beside = partial(_at_rest, data, scale.training_seconds)
        work = "NumPy on all cores: a step while all is at rest"
        yield _row(scale.rounds, work, partial(alone, "matmul"), beside, 1.001, how)


def _at_rest(data: Path, seconds: float, _n: int) -> float:
    return _trained("matmul", data, seconds)


def _removed(group: Path) -> bool:
    """Whether it could be: what was in it may still be about to end."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def _row(
    rounds: int, work: str, alone: Callable[[int], float], beside: Callable[[int], float], most: float, how: str
) -> Row:
    values = interleaved(rounds, {OURS: beside, _ALONE: alone})
    return Row("beside", work, "ms", values, [Goal("costs", most, _ALONE)], limit=_ALONE, note=how)


def _trained(kind: str, data: Path, seconds: float, meanwhile: Callable[[], object] | None = None) -> float:
    """Milliseconds of a step of training that lasts so long, or as long as what is done meanwhile."""
    call = [sys.executable, str(_TRAINING), kind, str(data)]
    with subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if meanwhile is None:
            time.sleep(seconds)
        else:
            meanwhile()
        answer, _ = process.communicate()
    return float(answer)


def as_the_unit(ends: ExitStack) -> tuple[tuple[str, ...], str]:
    """The command before a service that gives it what the unit says (nice, IO class, CPU weight), and what that is."""
    nice = ("nice", "-n", "10", *(("ionice", "-c2", "-n7") if shutil.which("ionice") else ()))
    for root, file, value in ((_V1, "cpu.shares", 1024 * _SHARE // 100), (_V2, "cpu.weight", _SHARE)):
        group = root / f"artifactd-bench-{os.getpid()}"
        try:
            if not (root / "cgroup.procs").exists():
                continue
            group.mkdir()
            ends.callback(wait_for, partial(_removed, group), "the control group is empty")
            (group / file).write_text(str(value))
        except OSError:
            continue
        enter = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        return ("sh", "-c", enter, "sh", *nice), f"nice 10, a control group with {_SHARE} of 100 shares"
    # Sessions share a machine out before niceness counts, where the kernel groups by session.
    enter = 'echo 10 > /proc/self/autogroup 2>/dev/null; exec "$@"'
    return ("sh", "-c", enter, "sh", *nice), "nice 10, no control group could be made"
