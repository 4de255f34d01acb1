"""The nursery: a process that imports MLflow once and forks workers on demand.

    MLFLOW_TRACKING_URI=… python -m artifactd.delivery.nursery FD PID-OF-THE-SERVICE FD-OF-THE-LIMITS

Each message on the socket FD carries one descriptor, the service's end of which is a worker's line; the answer is
the worker's pidfd, by which the service can end exactly that process. When the service goes, however it goes, the
kernel ends the nursery, and with it the workers: an orphan could finish an old upload over a newer one.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

from artifactd import __version__, throttle
from artifactd.delivery import worker
from artifactd.tracking import environment, shaping, warm
from artifactd.whose import make_folders

_PR_SET_PDEATHSIG = 1
VERSION = __version__.encode().ljust(32)
"""The nursery's first word: an upgrade under a running service must not mix two versions."""


def main(argv: list[str]) -> None:
    """Serve until the service closes its end."""
    control = socket.socket(fileno=int(argv[0]))
    die_with_parent()
    if os.getppid() != int(argv[1]):  # it was gone before the kernel knew: nobody would end us
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the service decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    logging.disable(logging.CRITICAL)  # MLflow's own words; failures are told as data
    # From the environment: a URI may hold a password, and a command line is for all to see.
    environment.prepare(os.environ["MLFLOW_TRACKING_URI"])
    warm.spare_heaps()
    gc.disable()  # its rounds would leave holes, which each process then fills for itself
    with environment.lean():
        environment.preload()
        embedded = os.environ.get(environment.EMBEDDED)
        warm.import_stores(
            os.environ["MLFLOW_TRACKING_URI"],
            os.environ.get(environment.ARTIFACTS, ""),
            Path(embedded) if embedded else None,
        )
    limits = throttle.Shared(int(argv[2])) if argv[2:] else None
    signal.signal(throttle.NEWS, lambda *_: _limit(limits))
    gc.freeze()
    gc.enable()
    control.sendall(VERSION)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            if os.getppid() != parent:
                os._exit(0)
            with contextlib.suppress(MemoryError):  # the end of the line says that it died
                _limit(limits)
                _move_in()
                worker.serve(Connection(descriptors[0]))
            os._exit(0)
        os.close(descriptors[0])
        pidfd = os.pidfd_open(pid)
        socket.send_fds(control, [str(pid).encode().ljust(12)], [pidfd])
        os.close(pidfd)


def _limit(limits: throttle.Shared | None) -> None:
    if limits is not None and limits.wanted:
        shaping.install(limits)


def _move_in() -> None:
    """Keep temporary files in a folder of this process alone: the service removes it when the process is dead."""
    if environment.STATE in os.environ:
        own = os.path.join(tempfile.gettempdir(), str(os.getpid()))
        make_folders(Path(own), 0o700)
        tempfile.tempdir = os.environ["TMPDIR"] = own


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that made it ends (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the service went in the middle of a word
        main(sys.argv[1:])
