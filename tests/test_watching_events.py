from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.metadata
import inspect
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from watchdog.observers import inotify_c
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from artifactd.watching import events
from artifactd.watching.events import EventWatch, WatchError
from artifactd.watching.hints import Hints
from artifactd.watching.inside import open_file, open_root
from artifactd.watching.mounts import count_folders
from artifactd.watching.scan import look, walk
from support import wait_for
from test_watching_inside import descriptors, without_rights

MAX_QUEUED = 16384
"""fs.inotify.max_queued_events as it is everywhere."""


Mark = tuple[bytes, bytes | None, bool]
"""Folder, one name in it or all, with everything below."""


def covered(marks: set[Mark], folder: bytes, name: bytes) -> bool:
    return any(
        not rel or folder == rel or folder.startswith(rel + b"/") if deep else rel == folder and only in {None, name}
        for rel, only, deep in marks
    )


class Watching:
    """A watch on a folder, and what it has marked."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.hints = Hints(lambda: None)
        self.watch = EventWatch(str(top), self.hints)

    def take(self) -> set[Mark]:
        return {(hint.rel, name, hint.deep) for hint in self.hints.take() for name in hint.names or (None,)}

    def settle(self) -> set[Mark]:
        """Wait until all that has happened is marked, and take it: events come in order, so a last one tells."""
        marks: set[Mark] = set()
        while True:
            last = f"settled-{time.monotonic_ns()}".encode()
            with open(bytes(self.top) + b"/" + last, "wb"):
                pass
            new: set[Mark] = set()
            while not covered(new, b"", last):
                new |= wait_for(self.take, "the last event")
            os.unlink(bytes(self.top) + b"/" + last)
            marks |= new
            if (b"", last, False) in new:  # by its name, not by a wider mark from before
                return {mark for mark in marks if not (mark[1] or b"").startswith(b"settled-")}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def watching(top: Path) -> Iterator[Watching]:
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/old").write_text("old")
    made = Watching(top)
    made.watch.start()
    yield made
    assert made.watch.trouble() is None or not top.exists()
    made.watch.stop()


def kernel_watches() -> set[str]:
    """The inotify watches of this process with their numbers, as the kernel tells them."""
    watches = set[str]()
    for fd in os.listdir("/proc/self/fdinfo"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/self/fdinfo/{fd}") as info:
            watches |= {f"{fd} {line}" for line in info if line.startswith("inotify wd:")}
    return watches


def write(path: Path) -> None:
    path.write_text("content")


def write_and_rename(path: Path) -> None:
    write(path.with_name("temporary"))
    path.with_name("temporary").rename(path)


def link(path: Path) -> None:
    os.link(path.with_name("old"), path)


@pytest.mark.parametrize("make", [write, write_and_rename, link, Path.touch])
def test_a_new_file_is_marked_by_name(watching: Watching, make: Callable[[Path], None]) -> None:
    make(watching.top / "a/b/new")
    assert watching.settle() - {(b"a/b", b"temporary", False)} == {(b"a/b", b"new", False)}


def change(path: Path) -> None:
    path.write_text("changed")


def append(path: Path) -> None:
    with path.open("a") as stream:
        stream.write("more")


def move_away(path: Path) -> None:
    path.rename(path.parents[3] / "moved")


@pytest.mark.parametrize("alter", [change, append, Path.unlink, move_away])
def test_a_file_that_changes_or_goes_is_marked_by_name(watching: Watching, alter: Callable[[Path], None]) -> None:
    alter(watching.top / "a/b/old")
    assert watching.settle() == {(b"a/b", b"old", False)}


def test_names_come_through_as_the_filesystem_has_them(watching: Watching) -> None:
    names = [b"\xff\xfe", b"new\nline", b"x" * 255, b" ", "é😀".encode()]
    for name in names:
        with open(bytes(watching.top) + b"/a/" + name, "wb"):
            pass
    assert watching.settle() == {(b"a", name, False) for name in names}


def test_looking_and_reading_make_no_events(watching: Watching) -> None:
    root = open_root(bytes(watching.top))
    for _ in range(3):
        look(root, b"a/b")
        os.close(open_file(root, b"a/b/old"))
    os.close(root)
    assert watching.settle() == set()


def test_a_new_folder_is_marked_with_all_below_it_and_watched(watching: Watching) -> None:
    (watching.top / "a/new/deep").mkdir(parents=True)
    assert (b"a/new", None, True) in watching.settle()
    write(watching.top / "a/new/deep/f")
    assert watching.settle() == {(b"a/new/deep", b"f", False)}


def test_a_tree_that_is_moved_in_is_marked_deeply_and_watched(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "made/outside/deep").mkdir(parents=True)
    write(tmp_path / "made/outside/deep/f")
    (tmp_path / "made").rename(watching.top / "a/in")
    assert watching.settle() == {(b"a/in", None, True)}
    write(watching.top / "a/in/outside/deep/later")
    assert watching.settle() == {(b"a/in/outside/deep", b"later", False)}


def test_a_tree_that_is_copied_in_is_covered_whole(watching: Watching, tmp_path: Path) -> None:
    rels = [f"{i}/{j}/{k}" for i in range(5) for j in range(5) for k in range(5)]
    for rel in rels:
        (tmp_path / "tree" / rel).mkdir(parents=True)
        write(tmp_path / "tree" / rel / "f")
    for copy in ("one", "two"):
        subprocess.run(["cp", "-r", tmp_path / "tree", watching.top / copy], check=True)
        marks = watching.settle()
        assert all(covered(marks, f"{copy}/{rel}".encode(), b"f") for rel in rels)
        write(watching.top / copy / rels[-1] / "later")
        assert watching.settle() == {(f"{copy}/{rels[-1]}".encode(), b"later", False)}


def test_a_folder_that_is_renamed_is_marked_at_both_ends_and_watched_at_the_new_one(watching: Watching) -> None:
    before = kernel_watches()
    (watching.top / "a").rename(watching.top / "z")
    assert watching.settle() == {
        (b"", None, False),
        (b"a", None, True),
        (b"z", None, True),
    }
    write(watching.top / "z/b/later")
    assert watching.settle() == {(b"z/b", b"later", False)}
    assert kernel_watches() == before


def test_folders_that_change_places_again_and_again_are_watched_where_they_end(watching: Watching) -> None:
    (watching.top / "c/d").mkdir(parents=True)
    for _ in range(101):
        (watching.top / "a").rename(watching.top / "t")
        (watching.top / "c").rename(watching.top / "a")
        (watching.top / "t").rename(watching.top / "c")
        (watching.top / "a").rename(watching.top / "t")
        (watching.top / "t").rename(watching.top / "a")
    watching.settle()
    write(watching.top / "c/b/f")
    assert watching.settle() == {(b"c/b", b"f", False)}
    write(watching.top / "a/d/f")
    assert watching.settle() == {(b"a/d", b"f", False)}
    assert len(kernel_watches()) == 5


def test_a_tree_that_is_moved_out_is_marked_and_its_watches_are_given_back(watching: Watching, tmp_path: Path) -> None:
    (watching.top / "a").rename(tmp_path / "out")
    assert watching.settle() == {(b"", None, False), (b"a", None, True)}
    assert len(kernel_watches()) == 1
    write(tmp_path / "out/b/f")
    assert watching.settle() == set()
    (tmp_path / "out").rename(watching.top / "back")
    watching.settle()
    write(watching.top / "back/b/g")
    assert watching.settle() == {(b"back/b", b"g", False)}


def test_a_folder_that_is_deleted_is_marked_in_its_parent_and_itself(watching: Watching) -> None:
    shutil.rmtree(watching.top / "a/b")
    assert watching.settle() >= {(b"a", None, False), (b"a/b", None, True)}
    (watching.top / "a/b").mkdir()
    watching.settle()
    write(watching.top / "a/b/again")
    assert watching.settle() == {(b"a/b", b"again", False)}


@contextlib.contextmanager
def reader_held(watching: Watching) -> Iterator[None]:
    """Keep the thread from handling what it reads, as a machine that is short of processors does."""
    assert watching.watch._reader is not None
    with watching.watch._reader._books:
        yield


def test_a_burst_that_overflows_the_queue_loses_no_file(watching: Watching, tmp_path: Path) -> None:
    folders = [f"f{n}" for n in range(20)]
    for folder in [*folders, "renamed/deep"]:
        (watching.top / folder).mkdir(parents=True)
    watching.settle()
    with reader_held(watching):
        for n in range(22_000):
            os.mknod(watching.top / folders[n % 20] / str(n))
        # All of this is lost to the reader.
        (watching.top / "unseen/deep").mkdir(parents=True)
        (watching.top / "renamed").rename(watching.top / "a/other")
        (watching.top / "f0").rename(tmp_path / "gone")
        (watching.top / "renamed/deep").mkdir(parents=True)
        write(watching.top / "a/b/late")
    wait_for(lambda: watching.watch.overflows, "an overflow", 10)
    marks = watching.settle()
    assert all(covered(marks, folders[n % 20].encode(), str(n).encode()) for n in range(20, 22_000))
    assert covered(marks, b"a/b", b"late")
    assert covered(marks, b"unseen/deep", b"f")
    assert watching.watch.overflows == 1
    root = open_root(bytes(watching.top))
    assert len(kernel_watches()) == count_folders(root, stop_at=1000)
    os.close(root)
    for rel in ("unseen/deep", "a/other/deep", "renamed/deep", "a/b", "f1"):
        watching.settle()
        write(watching.top / rel / "later")
        assert watching.settle() == {(rel.encode(), b"later", False)}
    write(tmp_path / "gone/later")
    assert watching.settle() == set()
    shutil.rmtree(watching.top)
    shutil.rmtree(tmp_path / "gone")


def test_what_is_made_while_the_watch_starts_is_found_by_a_look_or_by_events(top: Path) -> None:
    for n in range(300):
        (top / f"before/{n}").mkdir(parents=True)
    files = [(f"new{n}/deep".encode(), b"f") for n in range(200)]
    files += [(f"before/{n}/deep".encode(), b"f") for n in range(200)]
    begun = threading.Event()

    def make() -> None:
        for folder, name in files:
            os.makedirs(bytes(top) + b"/" + folder)
            with open(bytes(top) + b"/" + folder + b"/" + name, "wb"):
                begun.set()

    maker = threading.Thread(target=make)
    maker.start()
    begun.wait(10)
    watching = Watching(top)
    watching.watch.start()
    root = open_root(bytes(top))
    seen = {(listing.rel, name) for listing in walk(root) for name in listing.files}
    os.close(root)
    maker.join()
    marks = watching.settle()
    assert all(file in seen or covered(marks, *file) for file in files)
    watching.watch.stop()


def test_a_linked_folder_is_not_followed(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    before = kernel_watches()
    (watching.top / "link").symlink_to(tmp_path / "outside")
    assert watching.settle() == {(b"", b"link", False)}
    write(tmp_path / "outside/f")
    assert watching.settle() == set()
    assert kernel_watches() == before


def test_an_overflow_of_many_folders_does_not_cause_the_next_one(top: Path) -> None:
    for n in range(1500):
        (top / f"{n // 50}/{n % 50}").mkdir(parents=True)
    watching = Watching(top)
    watching.watch.start()
    watches = kernel_watches()

    def overflowed(times: int) -> bool:
        return watching.watch.overflows == times

    for n in range(1, 3):
        with reader_held(watching):
            for m in range(MAX_QUEUED // 2 + 3000):  # two events each at least
                os.mknod(top / "file")
                os.unlink(top / "file") if m % 2 else os.rename(top / "file", top / "0/file")
        wait_for(partial(overflowed, n), "an overflow", 10)
        watching.settle()
    assert watching.watch.overflows == 2
    assert kernel_watches() == watches
    watching.watch.stop()


def test_a_tree_deeper_than_recursion_and_longer_than_a_path_is_watched(watching: Watching, tmp_path: Path) -> None:
    name, levels = b"nnnnn", sys.getrecursionlimit() + 50  # some 6,300 bytes; PATH_MAX is 4,096
    os.mkdir(tmp_path / "chain")
    fd = os.open(tmp_path / "chain", os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    (tmp_path / "chain").rename(watching.top / "chain")
    assert watching.settle() == {(b"chain", None, True)}
    os.close(os.open(b"bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    assert watching.settle() == {(b"/".join([b"chain"] + [name] * levels), b"bottom", False)}
    os.unlink(b"bottom", dir_fd=fd)
    for _ in range(levels):
        above = os.open(b"..", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = above
        os.rmdir(name, dir_fd=fd)
    os.close(fd)


def test_a_root_that_is_a_link_is_watched_and_turning_it_is_trouble(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("one")
    watching = Watching(tmp_path / "link")
    watching.watch.start()
    write(tmp_path / "one/f")
    assert watching.settle() == {(b"", b"f", False)}
    assert watching.watch.trouble() is None
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    assert "is not the folder it was" in (watching.watch.trouble() or "")
    watching.watch.stop()


def test_a_root_that_goes_and_comes_again_is_trouble(watching: Watching) -> None:
    watching.settle()
    keep = os.open(watching.top, os.O_RDONLY)  # or the new folder may get the old one's number
    shutil.rmtree(watching.top)
    assert "cannot be reached any more: No such file" in (watching.watch.trouble() or "")
    watching.top.mkdir()
    assert "is not the folder it was" in (watching.watch.trouble() or "")
    os.close(keep)
    shutil.rmtree(watching.top)


def test_a_root_that_is_renamed_is_trouble(watching: Watching, tmp_path: Path) -> None:
    watching.top.rename(tmp_path / "elsewhere")
    assert "cannot be reached" in (watching.watch.trouble() or "")


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a folder whose parents are closed to others, as pytest's are."""
    fd = os.open(path, os.O_PATH)
    yield f"/proc/self/fd/{fd}"
    os.close(fd)


def test_an_unreadable_root_is_refused(top: Path) -> None:
    before = descriptors()
    for mode in (0o000, 0o111, 0o444):
        top.chmod(mode)
        with reachable(top) as path, without_rights(), pytest.raises(WatchError, match="may not be read and entered"):
            EventWatch(path, Hints(lambda: None)).start()
    assert descriptors() == before
    top.chmod(0o700)


def test_what_is_no_folder_is_refused(top: Path) -> None:
    (top / "file").touch()
    before = descriptors()
    with pytest.raises(WatchError, match="No such file"):
        EventWatch(str(top / "gone"), Hints(lambda: None)).start()
    with pytest.raises(WatchError, match="Not a directory"):
        EventWatch(str(top / "file"), Hints(lambda: None)).start()
    assert descriptors() == before


def test_a_folder_that_becomes_readable_is_marked_and_watched(top: Path) -> None:
    (top / "closed/deep").mkdir(parents=True)
    top.chmod(0o755)
    (top / "closed").chmod(0)
    with reachable(top) as path:
        watching = Watching(top)
        watching.watch = EventWatch(path, watching.hints)
        with without_rights():
            watching.watch.start()
            assert watching.watch.trouble() is None
        write(top / "closed/deep/unseen")
        assert watching.settle() == set()
        (top / "closed").chmod(0o755)
        assert watching.watch.trouble() is None
        assert watching.settle() == {(b"closed", None, True)}
        write(top / "closed/deep/seen")
        assert watching.settle() == {(b"closed/deep", b"seen", False)}
        watching.watch.stop()


LIMITED = """
import ctypes, os, sys, time
from artifactd.watching.events import EventWatch, WatchError
from artifactd.watching.hints import Hints
uid = os.geteuid()
if ctypes.CDLL(None).unshare(0x10000000) != 0:  # CLONE_NEWUSER: a namespace with limits of its own
    sys.exit(77)
with open("/proc/self/uid_map", "w") as stream: stream.write(f"0 {uid} 1")
def limit(what, number):
    with open(f"/proc/sys/user/max_inotify_{what}", "w") as stream: stream.write(str(number))
def refusal():
    before = os.listdir("/proc/self/fd")
    try: EventWatch(top, Hints(lambda: None)).start()
    except WatchError as exc:
        assert os.listdir("/proc/self/fd") == before
        return str(exc)
    raise SystemExit("not refused")
top = sys.argv[1]
for n in range(20): os.mkdir(f"{top}/{n}")

limit("instances", 0)
assert "max_user_instances" in refusal()
limit("instances", 10)

limit("watches", 15)
text = refusal()
assert "21 folders" in text and "(15 for all" in text and "sysctl fs.inotify.max_user_watches" in text, text

limit("watches", 30)
first = EventWatch(top, Hints(lambda: None))
first.start()
assert first.trouble() is None
text = refusal()  # 21 folders fit into 30, but the first watch has 21 already
assert "(30 for all" in text and "gives no events" in text, text
assert first.trouble() is None
for n in range(20): os.mkdir(f"{top}/new{n}")
end = time.monotonic() + 10
while first.trouble() is None and time.monotonic() < end: time.sleep(0.01)
text = first.trouble() or ""
assert "/new9 gives no events" in text and "sysctl" in text, text
first.stop()
"""


def test_the_limit_of_watches_is_told_before_at_and_after_the_start(top: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(top)], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("user namespaces are not allowed here")
    assert done.returncode == 0, done.stderr


def test_stopping_leaves_nothing_behind(top: Path) -> None:
    before, threads = descriptors(), threading.active_count()
    for _ in range(50):  # some of these before the thread has read for the first time
        watch = EventWatch(str(top), Hints(lambda: None))
        watch.start()
        watch.stop()
        watch.stop()
    assert (descriptors(), threading.active_count()) == (before, threads)
    assert watch.trouble() is not None
    EventWatch(str(top), Hints(lambda: None)).stop()
    events._Reader(bytes(top), Hints(lambda: None)).stop()
    assert descriptors() == before


def test_the_descriptor_does_not_reach_child_processes(watching: Watching) -> None:
    assert watching.watch._reader is not None
    assert not os.get_inheritable(watching.watch._reader._inotify_fd)


def test_stopping_does_not_wait_for_a_thread_that_hangs(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_STOP", 0.1)
    hanging, release = threading.Event(), threading.Event()

    def wake() -> None:
        hanging.set()
        release.wait(30)

    watch = EventWatch(str(top), Hints(wake))
    watch.start()
    write(top / "f")
    assert hanging.wait(10)
    begun = time.monotonic()
    watch.stop()
    assert time.monotonic() - begun < 15
    release.set()
    wait_for(lambda: not watch._reader.is_alive() if watch._reader else False, "the thread's end")
    watch.stop()


def test_a_thread_that_fails_is_trouble(top: Path) -> None:
    def wake() -> None:
        raise RuntimeError("no pipe")

    watch = EventWatch(str(top), Hints(wake))
    watch.start()
    assert watch.trouble() is None
    write(top / "f")
    wait_for(watch.trouble, "trouble")
    assert "no pipe" in (watch.trouble() or "")
    watch.stop()


# What is relied on in watchdog, whose inotify_c is not its public side: when one of these fails, read events.py anew.


def test_a_thread_that_never_begins_is_refused_and_not_waited_for(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory runs out before its first step: ``Thread.start`` waits for ever for it (CPython 3.11, 3.13)."""
    begin = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    monkeypatch.setattr(threading, begin, lambda *_, **__: 1)
    monkeypatch.setattr(events, "_BEGINS_WITHIN", 0.2)
    before = descriptors()
    watch = EventWatch(str(top), Hints(lambda: None))
    with pytest.raises(WatchError, match="no memory for the thread"):
        watch.start()
    assert descriptors() == before
    assert watch._reader is not None
    vars(watch._reader)["_started"].set()  # lets go of the one that waits


def test_contract_version() -> None:
    assert importlib.metadata.version("watchdog").startswith("7.")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("__init__", ["self"]),
        ("_create_inotify_fd", []),
        ("run", ["self"]),
        ("on_thread_stop", ["self"]),
        ("_read_event_buffer", ["self", "event_buffer_size"]),
        ("read_events", ["self", "event_buffer_size"]),
        ("_parse_event_buffer", ["event_buffer"]),
        ("start", ["self"]),
        ("stop", ["self"]),
        ("should_keep_running", ["self"]),
    ],
)
def test_contract_methods(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(InotifyFD, method)).parameters) == parameters


def test_contract_every_override_overrides_something() -> None:
    ours = {"watch_all", "retry_refused", "_take_in", "_handle_folder", "_recover", "_watch", "_refuse", "_add"}
    ours |= {"_forget", "_release"}
    defined = {name for name, value in vars(events._Reader).items() if inspect.isroutine(value)}
    assert defined - ours == {name for name in defined if hasattr(InotifyFD, name)}
    assert not [name for name in ours if hasattr(InotifyFD, name)]
    assert "_handle" not in defined, "an attribute of each thread from Python 3.13 on"


def test_contract_attributes() -> None:
    reader = InotifyFD()
    try:
        assert os.readlink(f"/proc/self/fd/{reader._inotify_fd}") == "anon_inode:inotify"
        assert reader._is_reading is True
        assert reader.daemon is True
        taken = {"_books", "_folders", "_refused", "_adrift", "_hints", "_root", "overflows", "lost", "failure"}
        assert not taken & (set(vars(reader)) | set(dir(reader)))
        reader._is_reading = False
    finally:
        reader.stop()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader._inotify_fd)


def test_contract_the_thread_asks_for_events_and_hears_of_the_overflow() -> None:
    overflow = struct.pack("iIII", -1, InotifyConstants.IN_Q_OVERFLOW, 0, 0)
    seen: list[InotifyEvent] = []

    class Reader(InotifyFD):
        def read_events(self, *, event_buffer_size: int = 4096) -> list[InotifyEvent]:
            seen.extend(super().read_events(event_buffer_size=event_buffer_size))
            self._stopped_event.set()
            return []

        def _read_event_buffer(self, event_buffer_size: int) -> bytes:
            return overflow

    reader = Reader()
    reader._is_reading = False
    reader.start()
    reader.join(10)
    reader.stop()
    assert [event.is_queue_overflow for event in seen] == [True]


def test_contract_calls_into_the_kernel(tmp_path: Path) -> None:
    fd = InotifyFD._create_inotify_fd()
    mask = InotifyConstants.IN_CREATE
    first = inotify_c.inotify_add_watch(fd, bytes(tmp_path), mask)
    assert first > 0
    assert inotify_c.inotify_add_watch(fd, bytes(tmp_path), mask) == first
    assert inotify_c.inotify_add_watch(fd, bytes(tmp_path / "gone"), mask) == -1
    assert ctypes.get_errno() == errno.ENOENT
    assert inotify_c.inotify_rm_watch(fd, first) == 0
    os.close(fd)


@pytest.mark.parametrize(
    ("constant", "value", "told_by"),
    [
        ("IN_CREATE", 0x100, "is_create"),
        ("IN_MOVED_FROM", 0x40, "is_moved_from"),
        ("IN_MOVED_TO", 0x80, "is_moved_to"),
        ("IN_IGNORED", 0x8000, "is_ignored"),
        ("IN_ISDIR", 0x40000000, "is_directory"),
        ("IN_Q_OVERFLOW", 0x4000, "is_queue_overflow"),
        ("IN_DELETE", 0x200, "is_delete"),
        ("IN_CLOSE_WRITE", 0x8, "is_close_write"),
        ("IN_ONLYDIR", 0x01000000, None),
    ],
)
def test_contract_events(constant: str, value: int, told_by: str | None) -> None:
    assert getattr(InotifyConstants, constant) == value
    event = InotifyEvent(WatchDescriptor(1), Mask(value), 7, b"name")
    assert (event.wd, event.mask, event.cookie, event.name) == (1, value, 7, b"name")
    if told_by is not None:
        assert getattr(event, told_by) is True
        assert getattr(InotifyEvent(WatchDescriptor(1), Mask(0x1), 0, b""), told_by) is False
