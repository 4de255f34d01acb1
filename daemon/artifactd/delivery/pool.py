"""The service's end of delivery: bears and ends worker processes, hands out jobs, tells slow from stuck."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from artifactd import __version__, failpoint
from artifactd.delivery.messages import Answer, Deliver, Job, JobFailed, Outcomes, Wrap
from artifactd.errors import ArtifactdError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.throttle import NEWS, Shared
from artifactd.tracking.environment import (
    ARTIFACTS,
    EMBEDDED,
    IN_FLIGHT,
    REQUEST_TIMEOUT,
    SLOWEST,
    SPOOL_RATE,
    STATE,
    UNFINISHED,
)
from artifactd.whose import make_folders

STUCK_AFTER = 2 * (REQUEST_TIMEOUT + IN_FLIGHT // SLOWEST)
"""Seconds without a byte moved after which a worker is ended; plus the time its largest file may be spooled."""

MOVING_WITHIN = 5.0
"""Seconds without a byte after which an upload no longer counts as moving."""

SENDING = 64 * 1024
"""Bytes between two looks that are an upload and not a process's small talk."""

NURSERY = "artifactd.delivery.nursery"

BIRTH_DEADLINE = 120.0
"""Seconds of processor time in which the nursery must have imported MLflow (2-4 s), and seconds that it may have none.

Beside a training that keeps all cores busy, its share may be some thousandths of one.
"""


@dataclass(slots=True)
class Worker:
    """A worker process as the service sees it."""

    line: Connection
    pid: int
    pidfd: int
    process: psutil.Process | None
    job: Job | None = None
    largest: int = 0
    wrapping: bool = False
    moved: int = 0
    moved_at: float = 0.0
    sending_at: float = float("-inf")


@dataclass(slots=True)
class _Nursery:
    """The process that bears workers, and our line to it; `ready` once MLflow is imported there."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    grown_at: float
    grown: float = 0.0
    ready: bool = False


class Pool:
    """Up to `size` worker processes, born when there is work.

    Args:
        size: Most workers at a time.
        tracking_uri: Given to the nursery, to prepare MLflow before its import.
        keep: Descriptors that live as long as any worker (the state lock).
        staging: Folder for temporary files in the state folder, made if need be, and removed with all that is in it
            while there is no delivery process; None for the system's.
        limits: What the workers keep to together.
        artifacts: Where new experiments keep theirs, so that what talks to it is imported once; None: the server says.
        embedded: The embedded store's artifact folder, where that is what is used.
    """

    def __init__(
        self,
        size: int,
        tracking_uri: str,
        keep: Sequence[int] = (),
        staging: Path | None = None,
        limits: Shared | None = None,
        artifacts: str | None = None,
        embedded: Path | None = None,
    ) -> None:
        self.size = size
        self._limits = [] if limits is None else [limits.fd]
        self._staging = staging
        self._uri = tracking_uri
        self._artifacts = urlsplit(artifacts).scheme or "file" if artifacts else ""
        self._keep = tuple(keep)
        self._embedded = "" if embedded is None else str(embedded)
        self._nursery: _Nursery | None = None
        self._workers: dict[Connection, Worker] = {}
        self._tidy()

    @property
    def busy(self) -> int:
        """Workers with a job."""
        return len(self.jobs())

    @property
    def free(self) -> int:
        """Jobs that can be handed out now."""
        return self.size - self.busy if self._nursery is not None and self._nursery.ready else 0

    @property
    def moving(self) -> bool:
        """Whether a worker moved bytes in the last seconds."""
        now = time.monotonic()
        return any(now - w.sending_at < MOVING_WITHIN for w, _ in self._at_work())

    @property
    def starting(self) -> bool:
        """Whether delivery processes are still to come up: ``end_stuck`` ends that, should it take too long."""
        return self._nursery is not None and not self._nursery.ready

    @property
    def alive(self) -> bool:
        """Whether any delivery process exists."""
        return self._nursery is not None

    def jobs(self) -> list[Job]:
        """The jobs under way."""
        return [job for _, job in self._at_work()]

    def waitables(self) -> list[Connection | socket.socket]:
        """What to wait on (``multiprocessing.connection.wait``) for answers or for the nursery's readiness."""
        lines: list[Connection | socket.socket] = [w.line for w, _ in self._at_work()]
        if self._nursery is not None and not self._nursery.ready:
            lines.append(self._nursery.control)
        return lines

    def warm(self) -> None:
        """Bear the nursery if it is not there; it is ready some seconds later."""
        if self._nursery is not None:
            return
        temporary = {}
        if self._staging is not None:
            make_folders(self._staging, 0o700)
            temporary["TMPDIR"] = str(self._staging)
            temporary[UNFINISHED] = str(self._staging.with_name("unfinished"))
            temporary[STATE] = str(self._staging.parent)
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", NURSERY, *map(str, (theirs.fileno(), os.getpid(), *self._limits))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # stdout is for data; MLflow prints
            pass_fds=(theirs.fileno(), *self._keep, *self._limits),
            env={
                **os.environ,
                **failpoint.for_children(),
                **temporary,
                "MLFLOW_TRACKING_URI": self._uri,
                ARTIFACTS: self._artifacts,
                EMBEDDED: self._embedded,
            },
            cwd="/",
        )
        theirs.close()
        failpoint.reach("nursery.born")
        ours.setblocking(False)
        self._nursery = _Nursery(process, ours, time.monotonic())

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker, bearing one if need be. Only when ``free`` is positive."""
        worker = next((w for w in self._workers.values() if w.job is None), None)
        if worker is not None and not _accepts(worker, job):
            self._drop(worker)  # it died while idle
            worker = None
        if worker is None:
            worker = self._bear()
            _accepts(worker, job)  # one that has died since says so by the end of its line
        worker.job, worker.wrapping, worker.moved, worker.moved_at = job, False, 0, time.monotonic()
        worker.largest = max((f.signature.size for f in job.files), default=0) if isinstance(job, Deliver) else 0

    def answers(self) -> list[tuple[Job, Answer]]:
        """What the workers said since the last call. A worker that died says so by a ``JobFailed``."""
        self._greet_nursery()
        said: list[tuple[Job, Answer]] = []
        for worker, job in self._at_work():
            try:
                while worker.job is not None and worker.line.poll():
                    answer: Answer = worker.line.recv()
                    said.append((job, answer))
                    worker.moved_at = time.monotonic()
                    if not isinstance(answer, Outcomes):
                        worker.job = None
            except (EOFError, OSError):
                said.append((job, JobFailed(_died(job))))
                self._drop(worker)
        return said

    def end_stuck(self) -> list[tuple[Job, Answer]]:
        """End workers that moved no byte for too long, and a nursery that does not come up.

        Progress is what a process read and wrote (/proc/PID/io): a file that goes out slowly is read slowly, so an
        upload that moves is never cut, whatever its size.
        """
        ended: list[tuple[Job, Answer]] = []
        now = time.monotonic()
        for worker, job in self._at_work():
            moved = _bytes_moved(worker.process)
            if worker.moved and moved > worker.moved + SENDING:
                worker.sending_at = now
            if moved != worker.moved:
                worker.moved, worker.moved_at = moved, now
            patience = STUCK_AFTER + worker.largest / SPOOL_RATE
            if now - worker.moved_at > patience:
                self._kill(worker)
                ended.append((job, JobFailed(_stuck(job, patience))))
        if self._nursery is not None and not self._nursery.ready and not _grows(self._nursery, now):
            self.stop()
            raise NurseryError(
                "the delivery process does not start",
                "See whether the disk with its environment answers; the service manager starts the service again",
            )
        return ended

    def wrap_up(self, jobs: Collection[Job]) -> None:
        """Ask the workers that have these jobs to finish the file in hand and report; once each."""
        for worker, job in self._at_work():
            if not worker.wrapping and any(job is j for j in jobs):
                worker.wrapping = True
                with contextlib.suppress(OSError):
                    worker.line.send(Wrap())

    def tell_limits(self) -> None:
        """There are limits now, and were none: have uploads that are under way keep to them, too."""
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(worker.pidfd, NEWS)

    def stop(self) -> None:
        """End all delivery processes now; jobs under way are to be looked at again."""
        for worker in list(self._workers.values()):
            self._kill(worker)
        if self._nursery is not None:
            self._nursery.control.close()
            self._nursery.process.kill()
            self._nursery.process.wait()
            self._nursery = None
        self._tidy()

    def _tidy(self) -> None:
        """Remove all temporary files: there is no process that uses them."""
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _at_work(self) -> list[tuple[Worker, Job]]:
        return [(w, w.job) for w in self._workers.values() if w.job is not None]

    def _greet_nursery(self) -> None:
        if self._nursery is None or self._nursery.ready:
            return
        try:
            word = self._nursery.control.recv(32)
        except BlockingIOError:
            return
        if not word:
            code = self._nursery.process.wait()
            self.stop()
            raise NurseryError(
                f"the delivery process did not start (exit code {code})", "Its last words are above this line"
            )
        if word.decode().strip() != __version__:
            self.stop()
            raise NurseryError(
                f"the installed artifactd is {word.decode().strip()} now, and this service is {__version__}",
                "It ends, so that the service manager starts the new one; nothing is lost",
            )
        self._nursery.control.settimeout(10)
        self._nursery.ready = True

    def _bear(self) -> Worker:
        if self._nursery is None:
            raise NurseryError("there is no process to bear a worker")
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._nursery.control, [b"B"], [theirs.fileno()])
            theirs.close()
            said, descriptors, _, _ = socket.recv_fds(self._nursery.control, 12, 1)
        except OSError as exc:
            raise NurseryError(f"the delivery process ended or hangs ({exc})", _LAST_WORDS) from exc
        if not said:
            raise NurseryError("the delivery process ended", _LAST_WORDS)
        worker = Worker(Connection(ours.detach()), int(said), descriptors[0], _process(int(said)))
        self._workers[worker.line] = worker
        return worker

    def _kill(self, worker: Worker) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(worker.pidfd, signal.SIGKILL)
        self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        del self._workers[worker.line]
        worker.line.close()
        os.close(worker.pidfd)
        if self._staging is not None:
            shutil.rmtree(self._staging / str(worker.pid), ignore_errors=True)


class NurseryError(ArtifactdError):
    """The process that bears workers cannot be had; the service ends and is started again."""


_LAST_WORDS = "Out of memory? See the kernel's log (dmesg); the service manager starts the service again"


def _grows(nursery: _Nursery, now: float) -> bool:
    with contextlib.suppress(psutil.Error):  # it has ended: its line says so
        times = psutil.Process(nursery.process.pid).cpu_times()
        if (grown := times.user + times.system) != nursery.grown:
            nursery.grown, nursery.grown_at = grown, now
    return now - nursery.grown_at <= BIRTH_DEADLINE and nursery.grown <= BIRTH_DEADLINE


def _accepts(worker: Worker, job: Job) -> bool:
    try:
        worker.line.send(job)
    except OSError:
        return False
    return True


def _stuck(job: Job, patience: float) -> Failure:
    return Failure(
        Kind.TRANSIENT,
        Scope.TARGET,
        f"{mask(job.target.uri)} took no byte for {patience:.0f} s; the try was ended",
        "See whether the server or a gateway before it hangs; it is tried again by itself",
    )


def _died(job: Job) -> Failure:
    # A file that kills its worker must not take the target with it: it backs off alone.
    what = f"run {job.run_id}" if isinstance(job, Deliver) else "the run"
    return Failure(
        Kind.TRANSIENT, Scope.FILE, f"the delivery process died while it worked on {what}",
        "Out of memory? See the kernel's log (dmesg); it is tried again by itself",
    )  # fmt: skip


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:  # it has died: the end of its line says so
        return None


def _bytes_moved(process: psutil.Process | None) -> int:
    """What a process has read and written so far; asked at each turn, so of an object that is made once."""
    if process is None:
        return 0
    try:
        io = process.io_counters()
    except psutil.Error:
        return 0
    return int(io.read_chars + io.write_chars)
