"""Object stores through ``RunArtifacts``, straight: no tracking server is needed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactd.tracking import environment
from artifactd.tracking.artifacts import RunArtifacts
from stores.objects import ObjectStore

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]


@pytest.fixture
def artifacts(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunArtifacts:
    environment.prepare(f"sqlite:///{tmp_path}/mlflow.db")
    for name, value in object_store.environ.items():
        monkeypatch.setenv(name, value)
    return RunArtifacts(f"{object_store.artifact_location}/{tmp_path.name}", f"sqlite:///{tmp_path}/mlflow.db")


def put(artifacts: RunArtifacts, path: Path, content: bytes, folder: str = "") -> None:
    path.write_bytes(content)
    with path.open("rb") as stream:
        artifacts.upload(stream.fileno(), len(content), folder, path.name)


def test_there_and_back(artifacts: RunArtifacts, tmp_path: Path) -> None:
    contents = {"empty": b"", "one": b"1", "big": bytes(range(256)) * 100_000}
    for name, content in contents.items():
        put(artifacts, tmp_path / name, content, "a/b")
    assert artifacts.sizes("a/b") == {name: len(content) for name, content in contents.items()}
    for name, content in contents.items():
        artifacts.download(f"a/b/{name}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
