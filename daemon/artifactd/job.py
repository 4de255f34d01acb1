"""A command run as a part of this one: terminal and input are its own, signals reach it, its words may be kept.

Knows nothing of runs. The command stays in the process group, so that a terminal's keys reach it by themselves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_THE_KERNEL = 0x80
"""SI_KERNEL: a key or a hang-up of the terminal, which the command got from there too."""

_LAST_WORDS = 2.0
"""Seconds that are waited for output after the command's end: what it started may hold the pipe for ever."""

_AT_MOST = 10.0
"""Seconds that are waited for it also while it goes on."""

_BLOCK = 65536


def run(command: Sequence[str], environment: Mapping[str, str], *, capture: Path | None = None) -> int:
    """Run a command to its end, whatever is asked of this process meanwhile.

    Args:
        command: Program (looked for in PATH) and arguments.
        environment: All of the command's.
        capture: Folder in which stdout and stderr are also written, as they come, to the end of ``stdout.log`` and
            ``stderr.log``; they are pipes then, and no terminal.

    Returns:
        Its exit code; 128 + n when signal n ended it.

    Raises:
        OSError: It cannot be started.
    """
    with contextlib.ExitStack() as stack:
        tees = [] if capture is None else [stack.enter_context(_Tee(fd, capture / name)) for fd, name in _STREAMS]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
        try:
            # What Python ignores for itself is not for the command to inherit.
            pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environment),
                file_actions=[(os.POSIX_SPAWN_DUP2, tee.end, tee.fd) for tee in tees],
                setsigmask=before,
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
            )
            for tee in tees:
                tee.start()
            return _until_its_end(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _until_its_end(pid: int) -> int:
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        asked = signal.sigtimedwait((*_FORWARDED, signal.SIGCHLD), 1.0)
        if asked is not None and asked.si_signo in _FORWARDED and asked.si_code != _BY_THE_KERNEL:
            os.kill(pid, asked.si_signo)  # not reaped yet, so it is still this process


class _Tee:
    """What the command says on one stream goes on to ours, and into a file."""

    def __init__(self, fd: int, log: Path) -> None:
        self.fd = fd
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._source, self.end = os.pipe()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._moved = time.monotonic()

    def __enter__(self) -> _Tee:
        return self

    def __exit__(self, *_: object) -> None:
        if self.end >= 0:
            os.close(self.end)
        ended = time.monotonic()
        while self._thread.is_alive() and time.monotonic() < min(self._moved + _LAST_WORDS, ended + _AT_MOST):
            self._thread.join(0.05)

    def start(self) -> None:
        """The command has its end of the pipe: ours goes, so that its end is seen."""
        os.close(self.end)
        self.end = -1
        self._moved = time.monotonic()
        self._thread.start()

    def _copy(self) -> None:
        sinks = [self.fd, self._log]
        while block := os.read(self._source, _BLOCK):
            # A reader that went away or a full disk is no reason to stop a training job: it is read on.
            sinks = [sink for sink in sinks if _write(sink, block)]
            self._moved = time.monotonic()
        os.close(self._source)
        os.close(self._log)


_STREAMS = ((1, "stdout.log"), (2, "stderr.log"))


def _write(fd: int, block: bytes) -> bool:
    view = memoryview(block)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                return False
            time.sleep(0.01)  # a terminal that somebody made non-blocking
    return True
