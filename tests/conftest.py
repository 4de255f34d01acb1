"""Fixtures that several test files share."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

import mlflow_servers
from made_store import copy_store
from support import environment, free_port

# A busy machine is no finding: nothing here is about how long an example takes.
settings.register_profile("artifactd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("artifactd")

START_SECONDS = 90
"""The server's own first start: imports and some sixty database migrations, on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: at the end, the other workers would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees what another left in the environment or set for the log, or the user of this machine for MLflow."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("ARTIFACTD_", "MLFLOW_")):
            monkeypatch.delenv(name)
    yield
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)
    structlog.reset_defaults()  # a command that runs in this process sets a level


@dataclass(frozen=True, slots=True)
class MlflowServer:
    """A real ``mlflow server`` on 127.0.0.1 that proxies artifacts into a folder."""

    uri: str
    artifact_root: Path
    db: Path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder for temporary files, of processes that are started too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder that other users of this machine may enter, as they may not `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Start a server when the first test asks for it; with xdist, each worker that has such a test does."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    port = free_port()
    process = start_server(folder, port)
    try:
        yield MlflowServer(f"http://127.0.0.1:{port}", folder / "artifacts", folder / "mlflow.db")
    finally:
        end_server(process)


def start_server(folder: Path, port: int, **more: str) -> mlflow_servers.Forked:
    """Start a server that keeps all it has in `folder`, with `more` in its environment; wait until it answers."""
    (folder / "artifacts").mkdir(exist_ok=True)
    database, log = folder / "mlflow.db", folder / "server.log"
    if not database.exists():
        copy_store(database, "mlflow-artifacts:")
    command = ["server", "--host", "127.0.0.1", f"--port={port}", "--workers=1", "--serve-artifacts"]
    command += [f"--backend-store-uri=sqlite:///{database}", f"--artifacts-destination={folder}/artifacts"]
    quiet = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **more)
    process = mlflow_servers.start(command, cwd=folder, env=quiet, log=log)
    try:
        _wait_until_healthy(port, process, log)
    except BaseException:
        end_server(process)
        raise
    return process


def _wait_until_healthy(port: int, process: mlflow_servers.Forked, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
    pytest.fail(f"mlflow server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def end_server(process: mlflow_servers.Forked) -> None:
    """End a server and its workers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                continue
