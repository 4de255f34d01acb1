"""What the tests of SFTP share: a server, a home where it is known, and a run's artifacts on it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError, Failure
from artifactd.tracking import sftp
from artifactd.tracking.artifacts import RunArtifacts
from stores.sshd import Sshd, know, sshd

SECONDS = 15.0
"""In which each trouble is known."""

MIB = 2**20


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(one_server: Sshd, at_home: Callable[[Sshd], RunArtifacts]) -> Sshd:
    """The shared server with an empty folder, and we at home where it is known."""
    know(one_server.home, one_server.port, one_server.folder / "host_key")
    (one_server.home / ".ssh/config").unlink(missing_ok=True)
    one_server.data = Path(tempfile.mkdtemp(dir=one_server.data.parent))
    at_home(one_server)
    return one_server


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sshd], RunArtifacts]]:
    """Moves to a server's home, and gives the artifacts of a run there; no connection outlives the test."""

    def move(server: Sshd) -> RunArtifacts:
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        return artifacts(server.uri)

    yield move
    sftp.close()


def artifacts(uri: str) -> RunArtifacts:
    return RunArtifacts(f"{uri}/1/0123/artifacts", "http://127.0.0.1:1")


def root(server: Sshd) -> Path:
    """The run's artifacts on the server's disk."""
    return server.data / "1/0123/artifacts"


def put(store: RunArtifacts, content: bytes, path: str, to: Path, unchanged: Callable[[], bool] = lambda: True) -> None:
    folder, _, leaf = path.rpartition("/")
    with tempfile.NamedTemporaryFile(dir=to) as source:
        source.write(content)
        source.flush()
        store.upload(source.fileno(), len(content), folder, leaf, unchanged)


def failure(act: Callable[[], object]) -> Failure:
    """What an act fails with; known in time."""
    begun = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        act()
    assert time.monotonic() - begun < SECONDS
    assert caught.value.failure.error.strip()
    assert caught.value.failure.cure.strip()
    return caught.value.failure


def files(server: Sshd) -> set[str]:
    """All names on the server's disk, ours included."""
    return {name for _, folders, names in os.walk(server.data) for name in names}


class Nth:
    """Says that a file is unchanged, and does something when it is asked for the n-th time: once a MiB."""

    def __init__(self, n: int, act: Callable[[], object], answer: bool = True) -> None:
        self._n, self._act, self._answer = n, act, answer

    def __call__(self) -> bool:
        self._n -= 1
        if self._n == 0:
            self._act()
            return self._answer
        return True
