"""``mlflow server`` without its imports: forked from a process that did them once for all servers of a session.

An MLflow server spends nine seconds of a core on importing MLflow, in its command line and in uvicorn's process. Here
one process imports it, and for each server a fork of it runs MLflow's own command with the arguments, environment and
folder that it would have been started with; uvicorn, which that starts, runs in the same fork.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Forked:
    """A server's process, to be asked and ended as a ``subprocess.Popen``; its exit code is not known."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = -1

    def poll(self) -> int | None:
        """0 once it is gone, however it went."""
        return 0 if self._gone(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it is gone, for `timeout` seconds at most."""
        if not self._gone(timeout):
            raise subprocess.TimeoutExpired("mlflow server", timeout or 0)
        return 0

    def _gone(self, timeout: float | None) -> bool:
        if self._fd >= 0 and select.select([self._fd], [], [], timeout)[0]:
            os.close(self._fd)
            self._fd = -1
        return self._fd < 0


def start(arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> Forked:
    """Start ``mlflow`` with these arguments, in a session of its own; `log` takes what it says."""
    parent = _parent()
    assert parent.stdin is not None
    assert parent.stdout is not None
    wanted = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "log": str(log)}
    parent.stdin.write(json.dumps(wanted) + "\n")
    parent.stdin.flush()
    return Forked(int(parent.stdout.readline()))


_parents: list[subprocess.Popen[str]] = []


def _parent() -> subprocess.Popen[str]:
    if not _parents:
        quiet = {k: v for k, v in os.environ.items() if not k.startswith(("ARTIFACTD_", "MLFLOW_"))}
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**quiet, "MLFLOW_DISABLE_TELEMETRY": "true"}, start_new_session=True,
        )  # fmt: skip
        atexit.register(_end, process)
        _parents.append(process)
    return _parents[0]


def _end(parent: subprocess.Popen[str]) -> None:
    with parent:
        parent.kill()
    _parents.clear()


def _serve() -> None:
    # What each fork would import otherwise: this is what makes them cheap.
    import mlflow.cli
    import mlflow.server.fastapi_app  # noqa: F401
    import uvicorn.main  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(wanted: Mapping[str, Any]) -> None:
    """Be that server."""
    import mlflow.cli
    import mlflow.server
    import uvicorn.main

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, fd in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, fd)

    def in_here(command: Sequence[str], extra_env: Mapping[str, str], **_: object) -> None:
        os.environ.update(extra_env)
        # It reads the environment when it is imported, and makes metrics then, of which each may be made once.
        for name in [name for name in sys.modules if name.startswith(("mlflow.server", "prometheus_client"))]:
            del sys.modules[name]
        uvicorn.main.main(list(command[3:]))  # python -m uvicorn …

    mlflow.server._exec_cmd = in_here
    mlflow.cli.cli(list(wanted["arguments"]))


if __name__ == "__main__":
    _serve()
