"""``artifactd ui``: MLflow's UI on the embedded store, or the address of the server's."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cli_support import RUN_ID, Book, call, own_environment
from conftest import MlflowServer
from support import environment, free_port


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


def test_a_server_is_told_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:hunter22@mlflow.test/prefix")
    done = call("ui", "--state-dir", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "https://mlflow.test/prefix/\n")


@pytest.mark.live
def test_the_page_of_a_run_on_a_server(
    tmp_path: Path, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Book(tmp_path, target=mlflow_server.uri)
    book.write("ui/run-1/a")
    book.look()
    run_id = book.send(mlflow_server.uri)["run-1"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    for what in (book.drop / "ui" / "run-1", run_id):
        done = call("ui", what, "--state-dir", book.state)
        page, _, path = done.stdout.strip().partition("#")
        assert page == f"{mlflow_server.uri}/"
        assert path.startswith("/experiments/")
        assert path.endswith(f"/runs/{run_id}")
    assert call("ui", RUN_ID, "--state-dir", book.state).exit_code == 1
    book.close()


def test_without_an_embedded_store(tmp_path: Path) -> None:
    done = call("ui", "--state-dir", tmp_path)
    assert done.exit_code == 1
    assert f"there is no embedded store in {tmp_path} yet" in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = call("ui", "--port", str(port), "--state-dir", tmp_path)
    assert done.exit_code == 1
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in done.stderr


@pytest.mark.live
def test_the_embedded_store_is_shown_until_ctrl_c(tmp_path: Path, mlflow_server: MlflowServer) -> None:
    # A database that is there already saves the seconds of its sixty migrations.
    with closing(sqlite3.connect(mlflow_server.db)) as theirs, closing(sqlite3.connect(tmp_path / "mlflow.db")) as ours:
        theirs.backup(ours)
    run_id = _stored(tmp_path)
    port = free_port()
    ui = subprocess.Popen(
        [sys.executable, "-m", "artifactd", "ui", run_id, "--port", str(port), "--state-dir", str(tmp_path)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert ui.stdout is not None
        address = ui.stdout.readline().strip()
        base, _, page = address.partition("/#/")
        assert base == f"http://127.0.0.1:{port}", ui.stderr and ui.stderr.read()
        assert page.endswith(f"/runs/{run_id}")
        with urllib.request.urlopen(f"{base}/get-artifact?path=a.txt&run_uuid={run_id}", timeout=30) as answer:  # noqa: S310 (http of our own)
            assert answer.read() == b"stored"
        with urllib.request.urlopen(base, timeout=30) as answer:  # noqa: S310 (http of our own)
            assert b"<title>MLflow" in answer.read()
        ui.send_signal(signal.SIGINT)
        out, errors = ui.communicate(timeout=30)
    finally:
        ui.kill()
        ui.wait()
    assert (ui.returncode, out) == (0, "")
    assert "Traceback" not in errors
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass


def _stored(state: Path) -> str:
    """A run with one artifact in the embedded store, made by MLflow's own client."""
    code = (
        "import json, sys\n"
        "from mlflow import MlflowClient\n"
        "client = MlflowClient(f'sqlite:///{sys.argv[1]}/mlflow.db')\n"
        "e = client.create_experiment('embedded', artifact_location=f'file://{sys.argv[1]}/artifacts')\n"
        "run = client.create_run(e).info.run_id\n"
        "client.log_text(run, 'stored', 'a.txt')\n"
        "print(json.dumps(run))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(state)],
        env=environment(),
        cwd=state,
        capture_output=True,
        text=True,
        check=True,
    )
    run_id: str = json.loads(done.stdout.splitlines()[-1])
    return run_id
