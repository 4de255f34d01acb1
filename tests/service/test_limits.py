"""What uploads may take, by the real command: a limit is a least time, on however busy a machine."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from artifactd.throttle import BURST
from conftest import MlflowServer
from support import Program, wait_for

pytestmark = pytest.mark.live

MIB = 2**20
LATE = BURST + 0.2
"""Seconds that are not waited for: what may be made up for, and the last pieces of all workers."""


def seconds(program: Program) -> float:
    """From the moment that the run was ready, when nothing was sent yet, to the last receipt."""
    at = {e["event"]: datetime.fromisoformat(e["timestamp"]) for e in program.events() if e["event"] in _OF_INTEREST}
    return (at["stored"] - at["run ready"]).total_seconds()


_OF_INTEREST = ("run ready", "stored")


def workers(service: subprocess.Popen[bytes]) -> set[int]:
    """The processes below the nursery."""
    return {p.pid for nursery in psutil.Process(service.pid).children() for p in nursery.children()}


def fill(program: Program, *sizes: int) -> None:
    folder = program.drop / "e" / "r"
    folder.mkdir(parents=True)
    for n, size in enumerate(sizes):
        (folder / f"{n}.bin").write_bytes(bytes(size))


def reload(program: Program, service: subprocess.Popen[bytes], old: str, new: str) -> None:
    text = program.config.read_text()
    assert old in text
    program.config.write_text(text.replace(old, new))
    service.send_signal(signal.SIGHUP)
    wait_for(lambda: [e for e in program.events() if e["event"] == "reloaded"], "the reload")


def test_a_folder_is_filled_no_faster_than_this_hour_allows_and_in_the_order_that_was_chosen(tmp_path: Path) -> None:
    limit = "00:00,2MiB 12:00,2MiB"
    program = Program(tmp_path, more=f'[upload]\nworkers = 1\nbandwidth_limit = "{limit}"\norder = "small"\n')
    fill(program, 3 * MIB, 5, 2 * MIB, 3)  # written in another order
    with program.running():
        program.wait_idle()
    assert seconds(program) > 2.5 - LATE
    stored = [e["artifact_path"] for e in program.events() if e["event"] == "stored"]
    assert stored == ["3.bin", "1.bin", "2.bin", "0.bin"]


def test_all_workers_together_keep_to_the_limit_and_a_reload_ends_it_for_an_upload_under_way(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(
        tmp_path, tracking_uri=mlflow_server.uri, more='[upload]\nworkers = 4\nbandwidth_limit = "1MiB"\n'
    )
    fill(program, *[MIB // 2] * 6)
    with program.running() as service:
        program.wait_idle()
        assert seconds(program) > 3 - LATE
        (program.drop / "e/r/big").write_bytes(bytes(200 * MIB))  # more than three minutes
        wait_for(lambda: program.status()["uploading"], "it is under way")
        at_work = workers(service)
        reload(program, service, '"1MiB"', '"0"')
        program.wait_idle()
        assert workers(service) >= at_work, "nobody was stopped for it"
    assert program.status()["bytes_sent"] == 203 * MIB


@contextlib.contextmanager
def gate(port: int, after: int) -> Iterator[tuple[int, threading.Event, threading.Event]]:
    """A relay to a local port that passes so many bytes to it and then waits to be told; its port, `shut` and `go`."""
    shut, go = threading.Event(), threading.Event()
    passed = 0
    ends: list[socket.socket] = []

    def take(source: socket.socket, target: socket.socket, *, up: bool) -> None:
        nonlocal passed
        with contextlib.suppress(OSError):
            while block := source.recv(64 * 1024):
                passed += len(block) * up
                if up and passed > after:
                    shut.set()
                    go.wait()
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                threading.Thread(target=take, args=(near, far), kwargs={"up": True}, daemon=True).start()
                threading.Thread(target=take, args=(far, near), kwargs={"up": False}, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listening.getsockname()[1], shut, go
        finally:
            go.set()
            listening.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()


def test_a_limit_that_comes_by_a_reload_holds_for_an_upload_under_way(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    with gate(int(mlflow_server.uri.rpartition(":")[2]), 4 * MIB) as (port, shut, go):
        program = Program(
            tmp_path, tracking_uri=f"http://127.0.0.1:{port}", more="[upload]\nworkers = 2\nbandwidth_limit = 0\n"
        )
        fill(program, 64 * MIB)
        with program.running() as service:
            wait_for(shut.is_set, "it is under way", 60)
            at_work = workers(service)
            reload(program, service, "bandwidth_limit = 0", 'bandwidth_limit = "16MiB"')
            opened = datetime.now().astimezone()
            go.set()
            program.wait_idle()
            assert workers(service) >= at_work
        (stored,) = (e for e in program.events() if e["event"] == "stored")
        # Up to 24 MiB may have passed, or lie in the kernel's buffers.
        assert (datetime.fromisoformat(stored["timestamp"]) - opened).total_seconds() > 40 / 16 - LATE
        assert program.status()["bytes_sent"] == 64 * MIB
