from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.watching.inside import open_root
from artifactd.watching.remove import remove_unchanged
from artifactd.watching.signature import Signature


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = open_root(os.fsencode(tmp_path))
    yield fd
    os.close(fd)


def put(folder: Path, content: bytes = b"x") -> tuple[Path, Signature]:
    path = folder / "a" / "f"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path, Signature.of(path.stat())


def test_what_is_unchanged_goes_and_its_folder_stays(root: int, tmp_path: Path) -> None:
    path, sig = put(tmp_path)
    assert remove_unchanged(root, b"a/f", sig, leases=True)
    assert not path.exists()
    assert path.parent.is_dir()
    assert not remove_unchanged(root, b"a/f", sig, leases=True), "gone is gone"


def test_what_changed_stays(root: int, tmp_path: Path) -> None:
    path, sig = put(tmp_path)
    path.write_bytes(b"newer")
    assert not remove_unchanged(root, b"a/f", sig, leases=True)
    assert path.read_bytes() == b"newer"


def test_what_was_replaced_or_became_a_link_stays(root: int, tmp_path: Path) -> None:
    path, sig = put(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(b"y")
    path.unlink()
    path.symlink_to(other)
    assert not remove_unchanged(root, b"a/f", sig, leases=True)
    assert path.is_symlink()
    assert other.exists()


@pytest.mark.parametrize("mode", ["rb", "ab"])
def test_what_somebody_has_open_stays(root: int, tmp_path: Path, mode: str) -> None:
    path, sig = put(tmp_path)
    with path.open(mode):
        assert not remove_unchanged(root, b"a/f", sig, leases=True)
    assert path.exists()
    assert remove_unchanged(root, b"a/f", sig, leases=True)


def test_what_a_racing_writer_had_written_is_never_removed(root: int, tmp_path: Path) -> None:
    """A writer appends whenever the file is there; only the bare first byte, which was 'delivered', may be removed."""
    path, _ = put(tmp_path)
    stop = threading.Event()
    lost: list[str] = []

    def write() -> None:
        while not stop.is_set():
            try:
                fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            except FileNotFoundError:
                path.write_bytes(b"x")
                continue
            os.write(fd, b"y")
            if os.fstat(fd).st_nlink == 0 and os.fstat(fd).st_size != 2:
                lost.append("removed with what was written before")
            os.close(fd)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3000):
            try:
                sig = Signature.of(path.stat())
            except FileNotFoundError:
                continue
            remove_unchanged(root, b"a/f", sig, leases=True)
    finally:
        stop.set()
        writer.join()
    assert lost == []
