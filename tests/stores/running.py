"""A server of a test: started on 127.0.0.1, waited for, ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from mlflow_servers import Forked

START_SECONDS = 90.0

Process: TypeAlias = subprocess.Popen[bytes] | Forked


class NotThereError(Exception):
    """A server cannot be started here; the text, which the run's last lines show, says what is missing and the cure."""


def or_skipped() -> Generator[None, None, None]:
    """For a hook around a test or its set-up: what cannot be had fails no test."""
    try:
        return (yield)
    except NotThereError as exc:
        pytest.skip(str(exc))  # which the run's last lines tell


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], object], *, env: Mapping[str, str] | None = None,
    cwd: Path | None = None, user: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """Run a server while the block lasts.

    Args:
        command: Program and arguments.
        log: Takes what it says.
        ready: Polled until it is true; what it raises of ``OSError`` counts as not yet.
        env: Its whole environment; None inherits ours.
        cwd: Its working folder.
        user: Run as this user id, where the server refuses root.

    Raises:
        AssertionError: It ended, or was not ready in time; with the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd, user=user,
            start_new_session=True,
        )  # fmt: skip
    with waited_for(process, command[0], log, ready):
        yield process


@contextlib.contextmanager
def waited_for(process: Process, name: str, log: Path, ready: Callable[[], object]) -> Iterator[None]:
    """Wait until this server is ready, and end it after the block; as in `running`."""
    try:
        end = time.monotonic() + START_SECONDS
        while not _is_ready(ready):
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-3000:]
                raise AssertionError(f"{name} did not start (exit code {process.poll()}):\n{said}")
            time.sleep(0.05)
        yield
    finally:
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            if number != signal.SIGCONT:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)


def _is_ready(ready: Callable[[], object]) -> bool:
    try:
        return bool(ready())
    except OSError:
        return False


def answers(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
