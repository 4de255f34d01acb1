"""What the live tests share: waiting for conditions, running the program, and an oracle that reads the store back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from artifactd.names import decode_path

T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str, deadline: float = 30.0) -> T:
    """Poll until `condition` is true; fail with `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:.0f} s: {what} (last: {value!r})")
        time.sleep(0.02)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    return [
        " | ".join([row[0].ljust(first), *(c.rjust(w) for c, w in zip(row[1:], others, strict=True))]) for row in cells
    ]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has set nothing: no variable of ours or of MLflow leaks into a test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ARTIFACTD_", "MLFLOW_"))}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


class Program:
    """artifactd as a user runs it: the real command, one config file, one state folder.

    Attributes:
        wrapper: A command that changes what the service may do, and then becomes it.
        python: The interpreter of another environment that it is installed in; "" for this one's.
    """

    wrapper: tuple[str, ...] = ()
    python: str = ""

    def __init__(self, base: Path, *, tracking_uri: str | None = None, watch: str = "", more: str = "") -> None:
        self.base = base
        self.drop = base / "drop"
        self.state = base / "state"
        self.config = base / "config.toml"
        self.drop.mkdir(parents=True, exist_ok=True)
        target = "" if tracking_uri is None else f'[mlflow]\ntracking_uri = "{tracking_uri}"\n'
        self.config.write_text(
            f'state_dir = "{self.state}"\n{target}{more}\n[[watch]]\npath = "{self.drop}"\nsettle = "0.3s"\n{watch}\n'
        )
        self.log = base / "service.log"
        self._service: subprocess.Popen[bytes] | None = None

    def call(self, *args: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        command = [self.python or sys.executable, "-m", "artifactd", *args]
        if "--config" not in args and args[0] in _WITH_CONFIG:
            command += ["--config", str(self.config)]
        return subprocess.run(
            command,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            errors="replace",
        )

    def status(self) -> dict[str, Any]:
        done = self.call("status", "--json")
        if done.returncode != 0:
            return {}
        data: dict[str, Any] = json.loads(done.stdout)
        return data

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        command = [self.python or sys.executable, "-m", "artifactd", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self._service = subprocess.Popen(
                [*self.wrapper, *command, "--log-format", "json"],
                env=environment(**env), stdout=subprocess.DEVNULL, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self._service

    def stop(self, number: int = signal.SIGTERM, deadline: float = 30) -> int:
        assert self._service is not None
        self._service.send_signal(number)
        code = self._service.wait(deadline)
        self._service = None
        return code

    @contextlib.contextmanager
    def running(self, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """The service, ended whatever happens, with its whole process group."""
        service = self.start(**env)
        try:
            yield service
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(service.pid, signal.SIGTERM)
            try:
                service.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(service.pid, signal.SIGKILL)
                service.wait(10)
            self._service = None

    def events(self) -> list[dict[str, Any]]:
        """The service's log, line by line."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_idle(self, deadline: float = 60) -> dict[str, Any]:
        """Until the service has stored all that it knows of."""
        return wait_for(lambda: idle(self.status()), f"all stored; log:\n{self.text()[-3000:]}", deadline)


_WITH_CONFIG = frozenset({"sync", "check", "explain", "status", "retry", "verify", "ls", "pull", "ui"})


def idle(status: dict[str, Any]) -> dict[str, Any] | None:
    done = status and status["pending"] == status["uploading"] == 0 and status["stored"] > 0
    return status if done else None


def tree(folder: Path) -> dict[bytes, bytes]:
    """Every regular file below `folder`: relative path as bytes, content."""
    root = os.fsencode(folder)
    found: dict[bytes, bytes] = {}
    for here, _, names in os.walk(root):
        for name in names:
            path = os.path.join(here, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    found[os.path.relpath(path, root)] = f.read()
    return found


class Oracle:
    """Reads the store back with MLflow's own client. It never asks artifactd."""

    def __init__(self, tracking_uri: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri, registry_uri=tracking_uri)

    def runs(self, experiment: str) -> list[Any]:
        found = self.client.get_experiment_by_name(experiment)
        return [] if found is None else list(self.client.search_runs([found.experiment_id]))

    def run(self, experiment: str, name: str) -> Any:
        runs = [r for r in self.runs(experiment) if r.info.run_name == name]
        assert len(runs) == 1, f"{experiment}/{name}: {len(runs)} runs"
        return runs[0]

    def files(self, run_id: str, to: Path) -> dict[bytes, bytes]:
        """Everything in a run, names decoded, as MLflow's client downloads it."""
        to.mkdir(parents=True, exist_ok=True)
        if not self.client.list_artifacts(run_id):
            return {}
        copy = self.client.download_artifacts(run_id, "", str(to))
        return {decode_path(os.fsdecode(k)): v for k, v in tree(Path(copy)).items()}
