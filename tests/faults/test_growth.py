"""What the service's process holds does not grow with what it has delivered."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import time
from pathlib import Path

import pytest

from artifactd.memory import give_back
from test_engine import Bench

CYCLES, WARM = 16, 8
RUNS, FILES = 4, 25
CACHE = 256
"""KiB of the ledger that SQLite may keep: with its usual 2,000, it would take ten thousand files until it is full."""


class _Allocated(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33 and newer, in bytes."""

    _fields_ = [("before", ctypes.c_size_t * 7), ("uordblks", ctypes.c_size_t), ("after", ctypes.c_size_t * 2)]


def allocated() -> int:
    """Bytes that are in use by what C allocates: SQLite's memory, and all of Python's that is over 512 bytes."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Allocated
    give_back()
    return int(ask().uordblks)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_runs_that_come_and_go_leave_nothing_in_memory(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settle='"0.1s"', scan_interval='"1s"')
    bench.engine.ledger._con.execute(f"PRAGMA cache_size = -{CACHE}")
    numbers, held = itertools.count(), []
    for cycle in range(1, CYCLES + 1):
        # A reload begins the caches of folders anew, which would otherwise fill for a long while, up to their bounds.
        bench.engine.use(bench.config(settle='"0.1s"', scan_interval='"1s"'))
        runs = [bench.drop / "e" / f"run-{next(numbers)}" for _ in range(RUNS)]
        for run in runs:
            (run / "plots").mkdir(parents=True)
            for n in range(FILES):
                (run / "plots" / f"{n}.bin").write_bytes(os.urandom(100))
            (run / ".done").touch()
        want = cycle * RUNS * (FILES + 1)
        bench.turn_until(lambda: bench.at_rest() and sum(bench.totals().states.values()) >= want, f"{want} files")  # noqa: B023
        for run in runs:
            shutil.rmtree(run)
        end = time.monotonic() + 1.5  # a scan that finds them gone
        while time.monotonic() < end:
            bench.engine.turn(0.1)
        held.append(allocated())
    bench.engine.close()
    warm = held[WARM:]
    grown = max(warm[-3:]) - max(warm[:3])
    assert grown < 8 * (CYCLES - WARM) * RUNS * FILES, f"bytes a file; all: {held}"
