"""A server that a test may stop, freeze and start again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_server, start_server
from mlflow_servers import Forked
from support import free_port


class OwnServer:
    """An ``mlflow server`` of one test, on one port for all its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: Forked | None = None

    def start(self) -> None:
        self._process = start_server(self.folder, self.port)

    def stop(self) -> None:
        if self._process is not None:
            end_server(self._process)
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = OwnServer(folder)
    yield server
    if server._process is not None:
        server.signal(signal.SIGCONT)
    server.stop()
