"""Uploads that end when their file changes: through MLflow's own repositories, into a folder and to a real server."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.steady import ChangedError
from conftest import MlflowServer

SIZE = 5 * 2**20


@pytest.fixture(params=["local root", pytest.param("server", marks=pytest.mark.live)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RunArtifacts:
    if request.param == "local root":
        return RunArtifacts((tmp_path / "artifacts").as_uri(), "http://127.0.0.1:1")
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    run = client.create_run(client.create_experiment(tmp_path.name))
    return RunArtifacts(run.info.artifact_uri, server.uri)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


def upload(store: RunArtifacts, source: Path, unchanged: Callable[[], bool], size: int = SIZE) -> None:
    with source.open("rb") as f:
        store.upload(f.fileno(), size, "", "f", unchanged)


def test_a_file_that_stays_is_stored_whole_and_asked_about_until_its_last_byte(
    store: RunArtifacts, source: Path
) -> None:
    asked = 0

    def unchanged() -> bool:
        nonlocal asked
        asked += 1
        return True

    upload(store, source, unchanged)
    assert asked >= SIZE // 2**20
    assert store.sizes("") == {"f": SIZE}


@pytest.mark.parametrize("at", [1, 3, SIZE // 2**20])
def test_a_file_that_changes_is_not_stored_and_what_was_there_stays(
    at: int, store: RunArtifacts, source: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"old")
    with old.open("rb") as f:
        store.upload(f.fileno(), 3, "", "f")
    asked = 0

    def unchanged() -> bool:
        nonlocal asked
        asked += 1
        return asked < at

    with pytest.raises(ChangedError) as caught:
        upload(store, source, unchanged)
    assert caught.value.sent < SIZE
    assert store.sizes("") == {"f": 3}
    upload(store, source, lambda: True)
    assert store.sizes("") == {"f": SIZE}, "the next one is none the worse for it"


def test_a_file_that_is_cut_short_ends_at_once(store: RunArtifacts, source: Path) -> None:
    with pytest.raises(ChangedError):
        upload(store, source, lambda: True, SIZE + 1)
    assert store.sizes("") == {}


def test_no_byte_more_goes_out_than_was_announced(store: RunArtifacts, source: Path, tmp_path: Path) -> None:
    def grow() -> bool:
        with source.open("ab") as f:
            f.write(b"more")
        return True

    upload(store, source, grow)
    assert store.sizes("") == {"f": SIZE}


def test_the_digest_of_what_is_stored(store: RunArtifacts, source: Path) -> None:
    import hashlib

    upload(store, source, lambda: True)
    assert store.digest("f", SIZE) == hashlib.sha256(source.read_bytes()).digest()


def test_where_the_kernel_does_not_copy_the_file_is_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poured = 0

    def copy(a: int, b: int, count: int) -> int:
        nonlocal poured
        poured += 1
        if poured > 1:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return os.sendfile(b, a, None, min(count, 2**20))

    monkeypatch.setattr(os, "copy_file_range", copy)
    store = RunArtifacts((tmp_path / "artifacts").as_uri(), "http://127.0.0.1:1")
    upload(store, source, lambda: True)
    assert poured == 2
    assert (tmp_path / "artifacts" / "f").read_bytes() == source.read_bytes()


def test_a_file_that_is_cut_short_under_the_kernels_hands_is_not_taken_for_whole(source: Path, tmp_path: Path) -> None:
    store = RunArtifacts((tmp_path / "artifacts").as_uri(), "http://127.0.0.1:1")
    with source.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        real = os.copy_file_range

        def cut(a: int, b: int, count: int) -> int:
            os.truncate(source, 2**20)
            return real(a, b, count)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "copy_file_range", cut)
            with pytest.raises(ChangedError):
                store.upload(f.fileno(), size, "", "f", lambda: True)
    assert not list((tmp_path / "artifacts").iterdir())
