"""``artifactd run``: what it refuses, how it stops."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_support import call, own_environment
from support import environment, wait_for


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


def shown(base: Path) -> str:
    return call("status", "--state-dir", base / "state").stdout


def test_a_service_stops_by_sigterm_and_a_folder_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    done = call("run", tmp_path / "nowhere")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"artifactd: {tmp_path}/nowhere does not exist\n")
    assert call("sync", tmp_path / "nowhere").exit_code == 2
    assert call("run", tmp_path, "--settle", "soon").exit_code == 2

    drop = tmp_path / "drop"
    drop.mkdir()
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "artifactd", "run", "drop", "--state-dir", "state", "--log-format", "json"],
            cwd=tmp_path, env=environment(MLFLOW_TRACKING_URI="http://127.0.0.1:9"), stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        wait_for(lambda: '"watching"' in (tmp_path / "log").read_text(), "it watches")
        wait_for(lambda: "events" in shown(tmp_path), "status shows how")
        assert f"artifactd run (pid {service.pid}) is working" in shown(tmp_path)
        assert str(drop) in shown(tmp_path)
        service.send_signal(signal.SIGTERM)
        out, _ = service.communicate(timeout=20)
    finally:
        service.kill()
        service.wait()
    assert (service.returncode, out) == (0, b"")
