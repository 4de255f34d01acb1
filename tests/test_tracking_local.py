"""A local root: the short way into it leads nowhere else, and leaves what MLflow's own would."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.local import LocalRepository


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def repository(root: Path) -> LocalRepository:
    return LocalRepository(root.as_uri())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * 2**20 + 1))
    return path


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_content_times_and_mode_are_those_of_mlflows_own(repository: LocalRepository, root: Path, source: Path) -> None:
    source.chmod(0o640)
    os.utime(source, ns=(1, 1_600_000_000_123_456_789))
    repository.log_artifact(str(source), "mlflow")
    assert repository.put(str(source), "a/b", "name")
    theirs, ours = root / "mlflow" / "source", root / "a" / "b" / "name"
    assert ours.read_bytes() == theirs.read_bytes() == source.read_bytes()
    assert (ours.stat().st_mode, ours.stat().st_mtime_ns) == (theirs.stat().st_mode, theirs.stat().st_mtime_ns)
    assert everything(root) == {"a", "a/b", "a/b/name", "mlflow", "mlflow/source"}


@pytest.mark.parametrize("size", [10, 3 * 2**20], ids=["small", "big"])
def test_no_program_gets_our_rights_by_being_stored(root: Path, source: Path, size: int) -> None:
    """Setuid, setgid: the copy belongs to the service's user, and others may reach it."""
    source.write_bytes(os.urandom(size))
    source.chmod(0o6755)
    with source.open("rb") as f:
        RunArtifacts(root.as_uri(), "http://127.0.0.1:1").upload(f.fileno(), size, "a", "name")
    assert stat.S_IMODE((root / "a" / "name").stat().st_mode) == 0o755


def test_who_reads_the_old_content_goes_on_reading_it(repository: LocalRepository, root: Path, source: Path) -> None:
    repository.put(str(source), "", "f")
    with (root / "f").open("rb") as reader:
        before = source.read_bytes()
        source.write_bytes(b"new")
        assert repository.put(str(source), "", "f")
        assert reader.read() == before
    assert (root / "f").read_bytes() == b"new"


def test_what_a_killed_upload_left_is_gone_after_the_next(
    repository: LocalRepository, root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_args: object, **_kwargs: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(os, "unlink", lambda *_args, **_kwargs: None)
        with pytest.raises(SystemExit):
            repository.put(str(source), "", "f")
    (left,) = everything(root)
    assert left.startswith(".artifact.uploading.")
    assert repository.list_artifacts() == []
    assert repository.put(str(source), "", "f")
    assert everything(root) == {"f"}


def test_a_failed_one_leaves_nothing(repository: LocalRepository, root: Path, source: Path) -> None:
    (root / "f").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        repository.put(str(source), "", "f")
    assert everything(root) == {"f"}


@pytest.mark.parametrize("folder", ["out", "out/deep", "way", "a/../b", "./a", "a//b", "f"])
def test_a_way_that_is_not_plain_is_left_to_mlflow(
    folder: str, repository: LocalRepository, root: Path, source: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    for path in (root / "a", root / "inside", outside):
        path.mkdir(parents=True)
    (root / "out").symlink_to(outside)
    (root / "way").symlink_to("inside")
    (root / "f").write_bytes(b"a file")
    before = everything(root)
    assert not repository.put(str(source), folder, "name")
    assert everything(root) == before
    assert not list(outside.iterdir())


def test_mlflow_decides_about_links(root: Path, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    for path in (root / "inside", outside):
        path.mkdir(parents=True)
    (root / "out").symlink_to(outside)
    (root / "way").symlink_to("inside")
    artifacts = RunArtifacts(root.as_uri(), "http://127.0.0.1:1")
    size = source.stat().st_size
    with source.open("rb") as f:
        artifacts.upload(f.fileno(), size, "way", "name")
        with pytest.raises(DeliveryError):
            artifacts.upload(f.fileno(), size, "out", "name")
    assert (root / "inside" / "name").read_bytes() == source.read_bytes()
    assert not list(outside.iterdir())


def test_a_source_that_is_the_artifact_itself_stays_as_it_is(repository: LocalRepository, root: Path) -> None:
    root.mkdir()
    (root / "f").write_bytes(b"content")
    assert repository.put(str(root / "f"), "", "f")
    assert (root / "f").read_bytes() == b"content"
