from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.watching import scan
from artifactd.watching.inside import open_root
from artifactd.watching.mounts import counting
from artifactd.watching.scan import Listing, look, walk
from artifactd.watching.signature import Signature
from test_watching_inside import descriptors, without_rights

NAMES = [b"plain", b"new\nline", b"\xff\xfe", b"x" * 255, b" ", "é😀".encode()]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def root(top: Path) -> Iterator[int]:
    fd = open_root(bytes(top))
    yield fd
    os.close(fd)


def test_a_folder_is_listed_with_its_files_as_stat_sees_them(root: int, top: Path) -> None:
    for name in NAMES:
        with open(bytes(top) + b"/" + name, "wb") as stream:
            stream.write(name)
    (top / "sub").mkdir()
    listing = look(root, b"")
    assert listing.files == {name: Signature.of(os.stat(bytes(top) + b"/" + name)) for name in NAMES}
    assert listing.folders == (b"sub",)
    assert (listing.rel, listing.others, listing.unreadable, listing.gone, listing.whole) == (b"", {}, {}, False, True)


def test_times_that_no_clock_has_are_listed_as_signatures_fold_them(root: int, top: Path) -> None:
    years = {b"1950": -631_152_000, b"1970": 0, b"2300": 10_413_792_000}
    for name, seconds in years.items():
        path = bytes(top) + b"/" + name
        with open(path, "wb"):
            os.utime(path, (seconds, seconds))
    assert look(root, b"").files == {name: Signature.of(os.stat(bytes(top) + b"/" + name)) for name in years}


def test_what_is_no_regular_file_is_never_among_the_files(root: int, top: Path) -> None:
    (top / "target").touch()
    (top / "link").symlink_to("target")
    (top / "dangling").symlink_to("nowhere")
    (top / "linked-folder").symlink_to("..")
    os.mkfifo(top / "pipe")
    others = {
        b"link": "symbolic link",
        b"dangling": "symbolic link",
        b"linked-folder": "symbolic link",
        b"pipe": "named pipe",
        b"socket": "socket",
    }
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(top / "socket"))
        for names in (None, [*others, b"target"]):
            listing = look(root, b"", names)
            assert listing.others == others
            assert set(listing.files) == {b"target"}
            assert listing.folders == ()


def test_devices_are_told() -> None:
    dev = open_root(b"/dev")
    assert look(dev, b"", [b"null"]).others == {b"null": "device"}
    os.close(dev)


def test_some_names_are_looked_at_and_no_other(root: int, top: Path) -> None:
    (top / "a").mkdir()
    for name in ("one", "two", "three"):
        (top / "a" / name).write_text(name)
    listing = look(root, b"a", [b"one", b"two", b"gone"])
    assert {name: sig.size for name, sig in listing.files.items()} == {b"one": 3, b"two": 3}
    assert not listing.whole
    assert not listing.gone


@pytest.mark.parametrize("names", [None, [b"f"]])
def test_what_is_no_folder_is_gone(root: int, top: Path, names: list[bytes] | None) -> None:
    (top / "file").touch()
    (top / "link").symlink_to("..")
    for rel in (b"never", b"never/deeper", b"file", b"link", b"link/root"):
        assert look(root, rel, names) == Listing(rel, gone=True)


def test_a_root_that_was_removed_is_gone(root: int, top: Path) -> None:
    top.rmdir()
    assert look(root, b"") == Listing(b"", gone=True)
    assert look(root, b"", [b"f"]) == Listing(b"", gone=True)
    assert [listing.gone for listing in walk(root)] == [True]


def test_what_may_not_be_read_is_told_with_the_reason(root: int, top: Path) -> None:
    (top / "closed").mkdir()
    (top / "listed").mkdir()
    (top / "listed/f").touch()
    (top / "closed").chmod(0)
    (top / "listed").chmod(0o444)
    with without_rights():
        closed, listed, named = look(root, b"closed"), look(root, b"listed"), look(root, b"closed", [b"f"])
        walked = {listing.rel: listing for listing in walk(root)}
    assert closed.unreadable == {b"": "Permission denied"}
    assert not closed.whole
    assert not closed.gone
    assert listed.unreadable == {b"f": "Permission denied"}
    assert listed.files == {}
    assert named.unreadable == {b"f": "Permission denied"}
    assert walked[b"closed"] == closed
    assert walked[b"listed"] == listed
    (top / "closed").chmod(0o700)
    (top / "listed").chmod(0o700)


def test_a_walk_lists_every_folder_once_parents_first(root: int, top: Path) -> None:
    expected = {b""}
    for name in NAMES:
        for deeper in (b"", b"/" + name, b"/" + name + b"/z"):
            os.makedirs(bytes(top) + b"/" + name + deeper, exist_ok=True)
            expected.add(name + deeper)
            with open(bytes(top) + b"/" + name + deeper + b"/file", "wb"):
                pass
    seen = [listing.rel for listing in walk(root)]
    assert set(seen) == expected
    assert len(seen) == len(expected)
    assert all(rel.rpartition(b"/")[0] in seen[:i] for i, rel in enumerate(seen) if rel)
    assert all(listing == look(root, listing.rel) for listing in walk(root))


def test_a_walk_starts_where_it_is_told_and_leaves_out_what_it_is_told(root: int, top: Path) -> None:
    for rel in ("a/one/deep", "a/two/deep", "b"):
        (top / rel).mkdir(parents=True)
    assert [listing.rel for listing in walk(root, b"a", skip=lambda rel: rel == b"a/one")] == [
        b"a",
        b"a/two",
        b"a/two/deep",
    ]
    assert [listing.rel for listing in walk(root, b"never")] == [b"never"]


def test_a_walk_for_folders_only_does_not_claim_to_be_whole(root: int, top: Path) -> None:
    (top / "a").mkdir()
    (top / "f").touch()
    listings = list(walk(root, folders_only=True))
    assert [listing.rel for listing in listings] == [b"", b"a"]
    assert not any(listing.files or listing.whole for listing in listings)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where link counts tell, whatever disk the tests are on."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_folder_that_has_none_in_it_by_its_links_is_not_read(
    in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = in_memory
    for rel in ("a/b", "c"):
        (top / rel).mkdir(parents=True)
    root = open_root(bytes(top))
    device = counting(root)
    assert device == top.stat().st_dev
    read: list[int] = []
    scandir = os.scandir

    def reading(fd: int) -> object:
        read.append(os.fstat(fd).st_ino)
        return scandir(fd)

    monkeypatch.setattr(os, "scandir", reading)
    listings = list(walk(root, folders_only=True, counting=device))
    assert [listing.rel for listing in listings] == [b"", b"a", b"a/b", b"c"]
    assert not any(listing.whole or listing.gone for listing in listings)
    assert read == [top.stat().st_ino, (top / "a").stat().st_ino]
    read.clear()
    assert [listing.rel for listing in walk(root, folders_only=True, counting=device + 1)] == [b"", b"a", b"a/b", b"c"]
    assert len(read) == 4  # another filesystem, mounted there
    os.close(root)


def test_folders_that_vanish_or_are_renamed_during_a_walk_are_gone(root: int, top: Path) -> None:
    for name in "abcd":
        (top / name / "sub").mkdir(parents=True)
    steps = walk(root)
    assert next(steps).folders == (b"a", b"b", b"c", b"d")
    (top / "a/sub").rmdir()
    (top / "a").rmdir()
    (top / "b").rename(top / "moved")
    (top / "c/sub").rmdir()
    (top / "c").rmdir()
    (top / "c").symlink_to("d")
    assert [(listing.rel, listing.gone) for listing in steps] == [
        (b"a", True),
        (b"b", True),
        (b"c", True),
        (b"d", False),
        (b"d/sub", False),
    ]


def test_a_folder_removed_while_the_walk_is_in_it(root: int, top: Path) -> None:
    (top / "a/b/c").mkdir(parents=True)
    steps = walk(root)
    assert [next(steps).rel for _ in range(3)] == [b"", b"a", b"a/b"]
    for rel in ("a/b/c", "a/b", "a"):
        (top / rel).rmdir()
    assert [(listing.rel, listing.gone) for listing in steps] == [(b"a/b/c", True)]


def step(fd: int, to: bytes) -> int:
    other = os.open(to, os.O_RDONLY, dir_fd=fd)
    os.close(fd)
    return other


@contextlib.contextmanager
def comb(root_fd: int, levels: int) -> Iterator[None]:
    """A chain of folders `d`, a file and a folder `e` beside each; rmtree of Python 3.11 recurses, and fails on it."""
    fd = step(os.dup(root_fd), b".")
    for _ in range(levels):
        os.mkdir(b"d", dir_fd=fd)
        os.mkdir(b"e", dir_fd=fd)
        os.close(os.open(b"f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        fd = step(fd, b"d")
    try:
        yield
    finally:
        for _ in range(levels):
            fd = step(fd, b"..")
            os.rmdir(b"d", dir_fd=fd)
            os.rmdir(b"e", dir_fd=fd)
            os.unlink(b"f", dir_fd=fd)
        os.close(fd)


def test_a_tree_of_a_thousand_levels_is_walked_with_few_descriptors(root: int) -> None:
    levels = sys.getrecursionlimit() + 100
    with comb(root, levels):
        before, most, folders, files = descriptors(), 0, 0, 0
        for listing in walk(root):
            most = max(most, descriptors() if folders % 10 == 0 else 0)
            folders += 1
            files += len(listing.files)
        assert (folders, files) == (1 + 2 * levels, levels)
        assert most - before <= scan._HELD + 2
        assert most - before >= scan._HELD - 10
        assert descriptors() == before


def test_a_walk_that_is_dropped_leaves_no_descriptor(root: int, top: Path) -> None:
    (top / "a/b/c/d").mkdir(parents=True)
    before = descriptors()
    steps = walk(root)
    for _ in range(4):
        next(steps)
    assert descriptors() > before
    del steps
    assert descriptors() == before


def test_an_error_from_the_caller_in_a_walk_leaves_no_descriptor(root: int, top: Path) -> None:
    (top / "a/b").mkdir(parents=True)
    before = descriptors()

    def entering(_fd: int, rel: bytes) -> None:
        if rel == b"a/b":
            raise RuntimeError("no further")

    with pytest.raises(RuntimeError, match="no further"):
        list(walk(root, entering=entering))
    assert descriptors() == before
