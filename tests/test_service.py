"""The one line that `systemctl status` shows, of a real engine, whatever else is told to whom."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd import watched
from artifactd.config import load_config
from artifactd.engine import Engine
from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import Blockage
from artifactd.service import _LONGEST, status_line
from artifactd.systemd import one_line
from artifactd.watching.mounts import Mount
from support import wait_for


class Desk:
    """An engine on some folders, with a server that nobody asks."""

    def __init__(self, base: Path, *names: str) -> None:
        folders = "".join(f'[[watch]]\npath = "{base / name}"\nsettle = "1h"\n' for name in names)
        file = base / "config.toml"
        file.write_text(f'state_dir = "{base}/state"\n[mlflow]\ntracking_uri = "http://127.0.0.1:9"\n{folders}')
        self.engine = Engine(load_config(file), "test")
        self.names = names
        self.base = base

    def line_when(self, condition: Callable[[str], object]) -> str:
        def turned() -> str:
            self.engine.turn(0.02)
            line = status_line(self.engine)
            return line if condition(line) else ""

        return wait_for(turned, "the line", 30, pauses=(0.02,))

    def hold(self, name: str, error: str, kind: Kind = Kind.PAUSED) -> None:
        ledger, (root, *_) = self.engine.ledger, self.engine.watched
        run = ledger.run_for(root.ident, os.fsencode(name), self.engine.target_name, name, "e", name)
        ledger.block_run(run, Blockage(kind, error, "", 1, time.time() + 60))


@pytest.fixture
def desks(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*names: str) -> Desk:
        made.append(Desk(tmp_path, *names))
        return made[-1]

    yield make
    for desk in made:
        desk.engine.close()


def is_done(line: str) -> bool:
    return "first scan" not in line


def test_a_folder_that_goes_stands_in_the_line_and_all_stored_does_not(
    desks: Callable[..., Desk], tmp_path: Path
) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    desk = desks("drop")
    assert desk.line_when(is_done) == "all stored"
    drop.rename(tmp_path / "elsewhere")
    gone = f"nothing waits, watch: {drop}: the folder is not there; it is looked for [AD708]"
    assert desk.line_when(lambda line: line != "all stored") == gone
    drop.symlink_to(tmp_path / "elsewhere")
    assert "it has become a symbolic link" in desk.line_when(lambda line: line != gone)


def test_a_folder_that_was_never_there_is_no_scan_under_way(desks: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    desk = desks("there", "never")
    line = desk.line_when(is_done)
    assert line == f"nothing waits, watch: {tmp_path}/never: the folder is not there; it is looked for [AD708]"
    assert not desk.engine.scanned, "what is to be compared with the disk waits for it"
    (tmp_path / "never").mkdir()
    desk.engine.watched[1]._next_check = 0.0
    assert desk.line_when(lambda line: "watch" not in line and is_done(line)) == "all stored"


def test_a_folder_that_can_only_be_scanned_stands_in_the_line(
    desks: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network filesystem can be mounted in a test: the mount table is what is put in its place."""
    monkeypatch.setattr(watched, "mount_of", lambda _: Mount(b"/data", "nfs4", "server:/data"))
    (tmp_path / "drop").mkdir()
    line = desks("drop").line_when(is_done)
    assert line.startswith(f"all stored, watch: {tmp_path}/drop: scan only: ")
    assert line.endswith(" [AD709]")


def test_many_folders_and_long_reasons_leave_room_for_each_other(desks: Callable[..., Desk], tmp_path: Path) -> None:
    desk = desks(*(f"never{n}" for n in range(5)))
    desk.line_when(is_done)
    assert status_line(desk.engine).endswith(", watch: 3 more folders")
    assert status_line(desk.engine).count("it is looked for") == 2
    desk.hold("r", f"s3://bucket does not permit it: {'x' * 1000}")
    said = next(part for part in status_line(desk.engine).split(", ") if "held back" in part)
    assert said.endswith("xxx… [AD204]"), "its code is there whatever the length"
    assert len(said) < 2 * _LONGEST + 40


def test_runs_that_are_held_back_stand_in_the_line_as_one(desks: Callable[..., Desk], tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    desk = desks("drop")
    desk.line_when(is_done)
    desk.hold("e/r1", "run 12 is deleted on the server", Kind.PERMANENT)
    said = f"held back: {drop}/e/r1: run 12 is deleted on the server [AD401]"
    assert status_line(desk.engine) == f"all stored, 1 run {said}"
    desk.hold("e/r2", "quite another thing")
    assert status_line(desk.engine) == f"all stored, 2 runs {said}"
    desk.engine.ledger.block_target("http://m", Blockage(Kind.PAUSED, "http://m answered 401: Who?", "", 1, 0.0))
    assert status_line(desk.engine) == f"all stored, paused: http://m answered 401: Who? [AD102], 2 runs {said}"
    shutil.rmtree(drop)
    line = desk.line_when(lambda line: "watch" in line)
    assert one_line(line) == line
    desk.engine.ledger.use_roots([b"/elsewhere"])
    assert "held back" not in status_line(desk.engine), "of what is not watched any more nobody is told"


def test_the_line_counts_each_file_once_and_calls_nothing_stored_that_failed(
    desks: Callable[..., Desk], tmp_path: Path
) -> None:
    for run in ("r1", "r2"):
        (tmp_path / "drop/e" / run).mkdir(parents=True)
        (tmp_path / "drop/e" / run / "a").write_text("x")
    desk = desks("drop")
    assert desk.line_when(lambda line: "waiting" in line) == "2 waiting"
    ledger = desk.engine.ledger
    (first, _), (second, _) = ledger.runs_with_due()
    (file,) = ledger.claim(first, time.time() + 7200, 10, 2**30)
    assert status_line(desk.engine) == "1 waiting, 1 uploading", "as `artifactd status` says it"
    ledger.claim(second, time.time() + 7200, 10, 2**30)
    assert status_line(desk.engine) == "2 uploading"
    ledger.not_delivered(file.id, Failure(Kind.PERMANENT, Scope.FILE, "no", ""), 0.0, touched=False)
    assert status_line(desk.engine) == "1 uploading, 1 failed"
    ledger.recover()
    (other,) = ledger.claim(second, time.time() + 7200, 10, 2**30)
    ledger.gone(other.id)
    assert status_line(desk.engine) == "nothing waits, 1 failed"
