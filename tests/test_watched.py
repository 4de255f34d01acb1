"""One watched root, with real inotify and a real ledger: what it sees, and what it says of its health."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from artifactd import watched as room
from artifactd.config import WatchConfig, layout_of
from artifactd.ledger import Ledger, Report, State, WatchView
from artifactd.look import Looker
from artifactd.runfolder import MARKERS
from artifactd.runs import Place
from artifactd.watched import Watched
from artifactd.watching import events
from artifactd.watching.mounts import Mount
from support import wait_for


class Post:
    """A root being watched, turned by hand."""

    made: ClassVar[list[Post]] = []

    def __init__(self, base: Path, *, start: bytes = b"", **config: object) -> None:
        self.base = base
        self.drop = base / "drop"
        self.drop.mkdir()
        self.ledger = Ledger(base)
        path = os.fsencode(self.drop)
        self.woken = threading.Event()
        settings = WatchConfig.model_validate({"path": self.drop, "settle": "5s", **config})
        ident = self.ledger.use_roots([path])[path]
        looker = Looker(self.ledger, ident, path, layout_of(settings), 5.0, Place("http://m", "h", fleet=False))
        self.watched = Watched(ident, settings, looker, self.ledger, self.woken.set, start=start)
        self.made.append(self)

    def turn(self) -> int:
        self.watched._next_check = 0.0
        with self.ledger.transaction():
            self.watched.check()
            return self.watched.look_at_hints(time.time()) + self.watched.scan_some(0.05, time.time())

    def turn_until(self, mode: str) -> WatchView:
        def there() -> WatchView | None:
            self.turn()
            view = self.view()
            settled = self.watched.scanned and not self.watched.scanning
            return view if view.mode == mode and (settled or mode == "waiting") else None

        return wait_for(there, f"mode {mode}")

    def view(self) -> WatchView:
        report = Report(self.base)
        (view,) = report.watches()
        report.close()
        return view

    def rows(self) -> int:
        return self.ledger.waiting()[0]

    def states(self) -> dict[State, int]:
        report = Report(self.base)
        states = report.totals().states
        report.close()
        return states


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while Post.made:
        post = Post.made.pop()
        post.watched.close()
        post.ledger.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")


def test_events_and_the_first_scan_find_everything(base: Path) -> None:
    post = Post(base)
    write(post.drop / "e" / "r", "before")
    assert post.turn_until("events").healthy
    assert post.rows() == 1
    write(post.drop / "e" / "r" / "new" / "deep", "after")
    wait_for(lambda: post.turn() and post.rows() == 2, "the event is a hint")
    (post.drop / "e" / "r" / "before").unlink()
    wait_for(lambda: post.turn() is not None and post.rows() == 1, "what goes is forgotten")
    post.watched.close()


def test_a_single_pass_watches_nothing(base: Path) -> None:
    post = Post(base, mode="scan", scan_interval="1h")
    write(post.drop / "e" / "r", "before")
    view = post.turn_until("scan")
    assert (view.healthy, view.detail) == (True, ""), "as configured is not degraded"
    assert post.rows() == 1
    post.watched.close()


def test_a_filesystem_whose_events_cannot_be_trusted_is_scanned_and_said(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network filesystem can be mounted in a test: the mount table is what is put in its place."""
    monkeypatch.setattr(room, "mount_of", lambda _: Mount(b"/data", "nfs4", "server:/data"))
    post = Post(base)
    view = post.turn_until("scan")
    assert not view.healthy
    assert "nfs" in view.detail
    assert not post.watched.leases
    (base / "forced").mkdir()
    forced = Post(base / "forced", mode="events")
    assert forced.turn_until("events").healthy
    post.watched.close()
    forced.watched.close()


def test_a_watch_limit_that_is_too_small_is_scanned_and_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "watch_limit", lambda: 3)
    post = Post(base)
    for n in range(10):
        write(post.drop / "e" / f"r{n}", "f")
    view = post.turn_until("scan")
    assert not view.healthy
    assert "max_user_watches" in view.detail
    assert post.rows() == 10, "nothing is lost, only later"
    post.watched.close()


def test_a_root_that_goes_comes_and_is_replaced(base: Path) -> None:
    post = Post(base)
    write(post.drop / "e" / "r", "a")
    post.turn_until("events")
    post.drop.rename(base / "away")
    view = post.turn_until("waiting")
    assert not view.healthy
    assert post.rows() == 1, "a pause, never a deletion"
    post.drop.mkdir()
    write(post.drop / "e" / "r2", "b")
    post.turn_until("events")
    assert post.rows() >= 1
    write(post.drop / "e" / "r3", "c")
    wait_for(lambda: post.turn() and b"c", "events of the new root arrive")
    post.watched.close()


def test_looking_can_be_confined_to_a_folder(base: Path) -> None:
    post = Post(base, mode="scan", start=b"e/r1")
    write(post.drop / "e" / "r1", "a")
    write(post.drop / "e" / "r2", "b")
    post.turn_until("scan")
    assert post.rows() == 1
    post.watched.close()


def test_a_scan_forgets_what_failed_or_was_ignored_in_a_folder_that_is_gone(base: Path) -> None:
    post = Post(base, mode="scan", scan_interval="1s", route=[{"match": "*.png", "artifact_path": "plots"}])
    write(post.drop / "e" / "r" / "a", "x.png")
    write(post.drop / "e" / "r" / "b" / "deep", "x.png")
    os.mkfifo(post.drop / "e" / "r" / "b" / "pipe")
    post.turn_until("scan")
    assert post.states() == {State.DUE: 1, State.FAILED: 1, State.IGNORED: 1}, "both pictures have one place"
    shutil.rmtree(post.drop / "e" / "r" / "b")
    post.watched._rounds.scan_soon()
    post.turn_until("scan")
    assert post.states() == {State.DUE: 1}
    post.watched.close()


def test_a_name_that_cannot_be_looked_at_is_not_forgotten(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from artifactd.watching.scan import Listing

    post = Post(base)
    write(post.drop / "e" / "r", "a")
    post.turn_until("events")
    monkeypatch.setattr(room, "look", lambda *_: Listing(b"e/r", unreadable={b"": "too many open files"}, whole=False))
    post.watched._hints.file(b"e/r", b"a")
    post.turn()
    assert post.rows() == 1
    post.watched.close()


def test_the_root_is_open_only_while_it_is_looked_at(base: Path) -> None:
    post = Post(base)
    write(post.drop / "e" / "r", "a")
    post.turn_until("events")
    held = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]
    assert not [path for path in held if path.startswith(str(post.drop))]
    post.watched.close()


def test_a_folder_belongs_to_one_service(base: Path) -> None:
    first = Post(base)
    first.turn_until("events")
    (base / "other").mkdir()
    second = Post(base / "other")
    second.watched.path = first.watched.path
    assert "another artifactd watches it: pid" in second.turn_until("waiting").detail
    first.watched.close()
    second.turn_until("events")
    second.watched.close()


def test_without_memory_for_its_thread_a_watch_is_scanned(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifactd.watched.begin", lambda *_: None)
    post = Post(base)
    write(post.drop / "e" / "r", "a")
    view = post.turn_until("scan")
    assert not view.healthy
    assert "no memory" in view.detail
    assert post.rows() == 1, "the scan goes on"
    post.watched.close()
    post.ledger.close()


@pytest.mark.parametrize(
    ("start", "config", "given_up"),
    [(b"", {"abandon_after": "100ms"}, True), (b"e", {"abandon_after": "100ms"}, False), (b"", {}, False)],
    ids=["after", "not by a scan of a part", "not without being told to"],
)
def test_runs_are_judged_after_a_full_scan(
    tmp_path: Path, start: bytes, config: dict[str, object], given_up: bool
) -> None:
    post = Post(tmp_path, start=start, mode="scan", scan_interval="50ms", **config)
    (post.drop / "e/r").mkdir(parents=True)
    (post.drop / "e/r/a").write_text("x")
    wait_for(lambda: post.turn() or post.watched.scanned, "the first scan")
    ((run, _),) = post.ledger.runs_with_due()
    post.ledger.set_run_id(run, "r1", "RUNNING", "")
    (file,) = post.ledger.claim(run, 9e9, 1, 10**9)
    post.ledger.delivered(file, b"d" * 32, size=1, now=0, sent=True, due_again=0)
    quiet = time.time() + 0.3
    scans = post.watched.scanned
    wait_for(lambda: post.turn() or (time.time() > quiet and post.watched.scanned > scans + 3), "some scans more")
    assert [end.status for _, end in post.ledger.runs_to_end(dict(MARKERS))] == ["KILLED"] * given_up
    post.watched.close()
    post.ledger.close()


def test_events_gather_between_two_looks(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "GATHER", 3600.0)
    post = Post(base, settle="10h")
    write(post.drop / "e" / "r", "before")
    post.turn_until("events")
    write(post.drop / "e" / "r", "first")
    wait_for(lambda: post.turn() and post.rows() == 2, "the first is looked at")
    write(post.drop / "e" / "r", "second")
    wait_for(lambda: post.watched.pause < 3600, "its event has come")
    assert post.watched.pause > 3000
    assert post.turn() == 0
    post.watched.note_delivered(b"e/r/first")
    assert post.watched.pause > 3000, "nothing of the program's own waits for it"
    post.watched._hints.hurry()
    wait_for(lambda: post.turn() and post.rows() == 3, "it is looked at")
    post.watched.close()
