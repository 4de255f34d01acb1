"""The watch under load: what comes faster than events can be read, and folders that move."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.table import Row
from support import Oracle, Program, environment, free_port, tree, wait_for

BURST = 50_000
RATE = 10_000
TRIES = 4
"""A machine with other work may not make files as fast at the first."""
FOLDERS = 50
MOVED = 100_000

_BURST = """
import os, sys, time
root, files, folders, burst = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
begun = time.monotonic()
for n in range(files):
    os.close(os.open(f"{root}/{n % folders}/f{burst}-{n}", os.O_CREAT | os.O_WRONLY, 0o600))
print(time.monotonic() - begun)
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A service that finds nobody to deliver to: what it saw stays pending."""
    return Program(tmp_path, tracking_uri=f"http://127.0.0.1:{free_port()}")


def pending(program: Program) -> int:
    return int(program.status().get("pending", 0))


def seen(program: Program, files: int) -> bool:
    return pending(program) == files


def burst(run: Path, n: int) -> float:
    """Make the `n`-th thousands of files; files/s."""
    call = [sys.executable, "-c", _BURST, str(run), str(BURST), str(FOLDERS), str(n)]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, check=True)
    return BURST / float(done.stdout)


def ready(program: Program) -> bool:
    return [watch["mode"] for watch in program.status().get("watches", ())] == ["events"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_fifty_thousand_files_at_ten_thousand_a_second_are_all_seen(
    stopped: bool, program: Program, record: Callable[[Row], None]
) -> None:
    """Also while the service is stopped (SIGSTOP): nobody reads the kernel's queue, which overflows."""
    run = program.drop / "e" / "r"
    for n in range(FOLDERS):
        (run / str(n)).mkdir(parents=True)
    with program.running() as service:
        wait_for(lambda: ready(program), "events are read")
        for n in range(1, TRIES + 1):
            if stopped:
                service.send_signal(signal.SIGSTOP)
            try:
                rate = burst(run, n)
            finally:
                service.send_signal(signal.SIGCONT)
            begun = time.monotonic()
            wait_for(partial(seen, program, n * BURST), f"all are seen: {pending(program)}", 60)
            took = time.monotonic() - begun
            if stopped or rate >= RATE:
                break
        if stopped:
            wait_for(lambda: "overflows" in program.status()["watches"][0]["detail"], "status tells of the overflow")
    assert "Traceback" not in program.text()
    record(Row(f"{BURST:,} files at {rate:,.0f}/s{', service stopped' if stopped else ''}", 1, recover=took))
    assert stopped or rate >= RATE, "the burst was too slow to prove anything"
    assert took < 20


@pytest.mark.timeout(120)
def test_a_tree_that_is_moved_in_is_seen_whole(program: Program, record: Callable[[Row], None]) -> None:
    outside = program.base / "outside"
    for n in range(MOVED):
        folder = outside / f"{n % 40}" / f"{n % 200}"
        if n < 200:
            folder.mkdir(parents=True)
        os.close(os.open(folder / f"f{n}", os.O_CREAT | os.O_WRONLY, 0o600))
    (program.drop / "e").mkdir()
    with program.running():
        wait_for(lambda: ready(program), "events are read")
        begun = time.monotonic()
        outside.rename(program.drop / "e" / "r")
        wait_for(partial(seen, program, MOVED), f"all are seen: {pending(program)}", 60)
        took = time.monotonic() - begun
    assert "Traceback" not in program.text()
    record(Row(f"tree of {MOVED:,} files moved in", 1, recover=took))


@pytest.mark.timeout(120)
def test_folders_renamed_in_loops_while_uploads_run(
    mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri, more='[retry]\ninitial = "0.2s"\nmaximum = "1s"\n')
    run = program.drop / "renamed" / "r"
    for n in range(4):
        folder = run / f"d{n}" / "deep"
        folder.mkdir(parents=True)
        for i in range(25):
            (folder / f"f{n}-{i}").write_bytes(b"%d %d" % (n, i) * 50)
    contents = {os.path.basename(path): content for path, content in tree(run).items()}
    rng = random.Random(3)  # noqa: S311  (a sequence that can be made again)
    loops = 0
    with program.running():
        wait_for(lambda: program.status().get("stored"), "uploads run")
        end = time.monotonic() + 6
        names = [run / f"d{n}" for n in range(4)]

        def swap() -> bool:
            nonlocal loops
            a, b = rng.sample(names, 2)
            spare = run / "spare"
            a.rename(spare)
            b.rename(a)
            spare.rename(b)
            loops += 1
            return time.monotonic() > end

        wait_for(swap, "the loops are over")
        (run / "sentinel").write_bytes(b"last")
        begun = time.monotonic()
        oracle = Oracle(mlflow_server.uri)
        wait_for(lambda: "sentinel" in program.text(), "the sentinel is stored")
        program.wait_idle()
        took = time.monotonic() - begun
        disk = tree(run)
        found = oracle.files(oracle.run("renamed", "r").info.run_id, tmp_path / "back")
    lost = [p for p, content in disk.items() if found.get(p) != content]
    torn = [p for p, content in found.items() if contents.get(os.path.basename(p), b"last") != content]
    record(Row("folders renamed in loops", loops, len(lost), len(torn), None, 0, took))
    assert not lost
    assert not torn
    assert "Traceback" not in program.text()
