"""What the live tests share: waiting for conditions, running the program, and an oracle that reads the store back."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from artifactd.cli.status import as_data
from artifactd.errors import ArtifactdError
from artifactd.ledger import Report
from artifactd.manifest import is_manifest
from artifactd.names import decode_path
from artifactd.standing import read
from made_store import copy_store
from schemas import hold

T = TypeVar("T")

_PAUSES = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Seconds. Three tests that ask each 0.02 s take a core."""

_REST = 6
"""How many times as long as a question took the pause after it is at least."""

_LONGEST_PAUSE = 0.5
"""Seconds, however long a question takes."""

NOBODY = 65_534

_READY_WITHIN = 10.0
"""Seconds that a service gets to say that it is ready; one that is kept from it is asked without that."""


def wait_for(
    condition: Callable[[], T | None], what: str, deadline: float = 30.0, *, pauses: Sequence[float] = _PAUSES
) -> T:
    """Poll until `condition` is true, with ever longer `pauses`; fail with `what` after `deadline`. All are seconds.

    What takes long to ask, as a server does, is asked less often: it takes processors from what is waited for.
    """
    end = time.monotonic() + deadline
    longer = itertools.chain(pauses, itertools.repeat(pauses[-1]))
    while True:
        asked = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"not within {deadline:.0f} s: {what} (last: {value!r})")
        time.sleep(max(next(longer), min(_REST * (now - asked), _LONGEST_PAUSE)))


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


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that other users can reach; pytest's own are below one that they can't."""
    with tempfile.TemporaryDirectory(prefix="artifactd-test-") as name:
        os.chmod(name, 0o755)  # noqa: S103 (that is the point)
        yield Path(name)


@contextlib.contextmanager
def as_somebody() -> Iterator[None]:
    """As a user who may not read everything: root becomes one for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has set nothing: no variable of ours or of MLflow leaks into a test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ARTIFACTD_", "MLFLOW_"))}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


class Program:
    """artifactd as a user runs it: the real command, one config file, one state folder.

    Args:
        base: For the drop folder, the state folder, the configuration and the log.
        tracking_uri: A server's, or a database's; None for the embedded store, which is there and empty.
        new: Leave the embedded store to be made by what is run.

    Attributes:
        wrapper: A command that changes what the service may do, and then becomes it.
        python: The interpreter of another environment that it is installed in; "" for this one's.
    """

    wrapper: tuple[str, ...] = ()
    python: str = ""

    def __init__(
        self, base: Path, *, tracking_uri: str | None = None, watch: str = "", more: str = "", settle: float = 0.3,
        new: bool = False,
    ) -> None:  # fmt: skip
        self.base = base
        self.drop = base / "drop"
        self.state = base / "state"
        self.config = base / "config.toml"
        self.drop.mkdir(parents=True, exist_ok=True)
        target = "" if tracking_uri is None else f'[mlflow]\ntracking_uri = "{tracking_uri}"\n'
        self.config.write_text(
            f'state_dir = "{self.state}"\n{target}{more}\n[[watch]]\npath = "{self.drop}"\n'
            f'settle = "{settle}s"\n{watch}\n'
        )
        if tracking_uri is None and not new and not self.state.exists():
            copy_store(self.state / "mlflow.db", (self.state / "artifacts").as_uri())
        self.log = base / "service.log"
        self._service: subprocess.Popen[bytes] | None = None
        self._ready_after: int | None = None

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
        """What ``artifactd status --json`` prints, by its own code: asked all the time, starts would take a core.

        A service that was just started is asked once it is ready, as whoever starts it by a service manager would.
        """
        self._wait_ready()
        try:
            with contextlib.closing(Report(self.state)) as report:
                data: dict[str, Any] = json.loads(json.dumps(as_data(read(report, self.state))))
        except (ArtifactdError, sqlite3.Error):
            return {}
        hold(data, "status")
        return data

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        command = [self.python or sys.executable, "-m", "artifactd", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self._ready_after = log.tell()
            self._service = subprocess.Popen(
                [*self.wrapper, *command, "--log-format", "json"],
                env=environment(**env), stdout=subprocess.DEVNULL, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self._service

    def _wait_ready(self) -> None:
        """Until the service that was started last says so, has ended, or is kept from it for long; once for each."""
        service, begins = self._service, self._ready_after
        if service is None or begins is None:
            return
        self._ready_after = None

        def ready() -> bool:
            with self.log.open("rb") as log:
                log.seek(begins)
                return b'"event": "ready"' in log.read() or service.poll() is not None

        with contextlib.suppress(AssertionError):
            wait_for(ready, "it is ready", _READY_WITHIN)

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


_WITH_CONFIG = frozenset({"sync", "check", "doctor", "explain", "status", "retry", "verify", "ls", "pull", "ui"})


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
        """Everything in a run but its manifests, names decoded, as MLflow's client downloads it."""
        to.mkdir(parents=True, exist_ok=True)
        if not self.client.list_artifacts(run_id):
            return {}
        copy = self.client.download_artifacts(run_id, "", str(to))
        files = {os.fsdecode(k): v for k, v in tree(Path(copy)).items()}
        return {decode_path(k): v for k, v in files.items() if not is_manifest(k)}
