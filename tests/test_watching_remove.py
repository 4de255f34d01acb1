from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.watching.inside import open_root
from artifactd.watching.remove import put_back, remove_unchanged
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


def test_a_file_that_gets_the_name_at_the_last_moment_stays(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"old")
    signature = Signature.of((tmp_path / "f").lstat())

    def replace_it(step: str) -> None:
        if step == "remove.before":
            (tmp_path / "new").write_bytes(b"new")
            (tmp_path / "new").rename(tmp_path / "f")

    monkeypatch.setattr("artifactd.failpoint.reach", replace_it)
    assert not remove_unchanged(root, b"f", signature, leases=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"f": b"new"}


@pytest.mark.parametrize("newer", [False, True])
def test_what_a_crash_left_aside_gets_its_name_back_unless_a_newer_file_has_it(
    newer: bool, root: int, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".artifactd-removing.f").write_bytes(b"aside")
    if newer:
        (tmp_path / "d" / "f").write_bytes(b"newer")
    put_back(root, b"d/.artifactd-removing.f")
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == {"f": b"newer" if newer else b"aside"}


def test_a_name_of_255_bytes_is_removed_too(root: int, tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    path.write_bytes(b"x")
    assert remove_unchanged(root, path.name.encode(), Signature.of(path.lstat()), leases=True)
    assert list(tmp_path.iterdir()) == []
