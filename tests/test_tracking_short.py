"""What is small is read once, and what is read is one state of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactd.tracking import short
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.steady import ChangedError


@pytest.fixture
def store(tmp_path: Path) -> RunArtifacts:
    return RunArtifacts((tmp_path / "artifacts").as_uri(), "http://127.0.0.1:1")


@pytest.mark.parametrize("size", [0, 1, short.SMALL, short.SMALL + 1])
def test_content_times_and_mode_are_the_files(size: int, store: RunArtifacts, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    source.chmod(0o640)
    os.utime(source, ns=(1, 1_600_000_000_123_456_789))
    os.setxattr(source, "user.note", b"kept")
    with source.open("rb") as f:
        store.upload(f.fileno(), size, "a/b", "f")
    there = tmp_path / "artifacts" / "a" / "b" / "f"
    assert there.read_bytes() == source.read_bytes()
    assert (there.stat().st_mode, there.stat().st_mtime_ns) == (source.stat().st_mode, source.stat().st_mtime_ns)
    assert os.getxattr(there, "user.note") == b"kept"


@pytest.mark.parametrize("size", [9, 11])
def test_another_size_than_was_seen_is_a_change(size: int, store: RunArtifacts, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 10)
    with (tmp_path / "source").open("rb") as f, pytest.raises(ChangedError) as caught:
        store.upload(f.fileno(), size, "", "f")
    assert caught.value.sent == 0
    assert not (tmp_path / "artifacts").exists()


def test_a_change_once_it_is_read_leaves_what_was_there(store: RunArtifacts, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"old")
    with source.open("rb") as f:
        store.upload(f.fileno(), 3, "", "f")
        with pytest.raises(ChangedError):
            store.upload(f.fileno(), 3, "", "f", lambda: False)
    assert (tmp_path / "artifacts" / "f").read_bytes() == b"old"
