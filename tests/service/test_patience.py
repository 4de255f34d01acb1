"""Who waits for a service waits for its delivery process, too, however little of a processor that has."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from artifactd.config import layout_of, load_config
from artifactd.delivery.pool import NURSERY
from artifactd.explain import Watch
from artifactd.waiting import until_stored
from support import Program, wait_for

PATIENCE = 2.0


@contextlib.contextmanager
def slowed(service: int) -> Iterator[None]:
    """A delivery process that is born meanwhile has a third of a processor."""
    over = threading.Event()

    def slow() -> None:
        while not over.wait(0.01):
            for child in psutil.Process(service).children():
                with contextlib.suppress(psutil.Error):
                    if NURSERY in child.cmdline() and not child.children():
                        child.send_signal(signal.SIGSTOP)
                        over.wait(0.2)
                        child.send_signal(signal.SIGCONT)
                        time.sleep(0.1)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_delivery_process_that_comes_up_slowly_is_waited_for(tmp_path: Path) -> None:
    program = Program(tmp_path)
    run = program.drop / "e" / "r"
    run.mkdir(parents=True)
    config = load_config(program.config)
    watch = Watch(os.fsencode(program.drop), layout_of(config.watch[0]), config.watch[0].settle)
    with program.running() as service:
        wait_for(program.status, "it is ready")
        begun = time.monotonic()
        with slowed(service.pid):
            (run / "a").write_bytes(b"a")
            found = until_stored(
                program.state, watch, os.fsencode(run), deadline=60, patience=PATIENCE, despite_failures=True
            )
        assert (found.stored, found.left, found.failed) == (1, (), ())
        assert time.monotonic() - begun > PATIENCE, "it was not slow"
