"""Watched folders, by real ones."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactd.config import WatchConfig
from artifactd.doctor import disk
from artifactd.doctor.disk import Tree
from artifactd.doctor.finding import Finding, Level
from artifactd.doctor.surroundings import Surroundings, user
from artifactd.watching.claim import Claim
from artifactd.watching.inside import identity
from artifactd.watching.mounts import Mount
from cures import mends
from support import as_somebody, reachable_folder

with as_somebody():
    NOBODY = user(os.geteuid())


@pytest.fixture
def top() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def watch(path: Path, **rules: Any) -> WatchConfig:
    return WatchConfig(path=path, **rules)


def looked(watched: WatchConfig, tree: Tree | None = None) -> list[Finding]:
    return list(disk.watched_folder(watched, tree, Surroundings(environ={}, uid=os.geteuid())))


def test_folders_are_counted_as_they_need_watches(top: Path) -> None:
    for name in ("e/r/a", "e/s", ".git/objects"):
        (top / name).mkdir(parents=True)
    (top / "e/file").touch()
    (top / "link").symlink_to("e")
    (tree,) = disk.survey([watch(top)], 5.0)
    assert tree == Tree(os.fsencode(top), tree.by_events, 7)


def test_where_there_is_no_time_it_is_said_that_there_are_more(top: Path) -> None:
    for number in range(20):
        (top / f"e{number}").mkdir()
    (tree,) = disk.survey([watch(top)], 0.0)
    assert (tree.folders, tree.whole) == (1, False)


def test_what_is_not_there_is_not_counted(top: Path) -> None:
    assert [tree.path for tree in disk.survey([watch(top / "none"), watch(top)], 5.0)] == [os.fsencode(top)]


def test_events_are_listened_to_as_it_is_configured(top: Path) -> None:
    events, scan = disk.survey([watch(top, mode="events"), watch(top, mode="scan")], 5.0)
    assert (events.by_events, scan.by_events) == (True, False)


def test_a_folder_that_may_not_be_read_is_named_unless_a_rule_leaves_it_out(top: Path) -> None:
    for name in ("e/r/secret", ".git/objects", "e/s"):
        (top / name).mkdir(parents=True)
    for name in ("e/r/secret", ".git"):
        (top / name).chmod(0)
    with as_somebody():
        (tree,) = disk.survey([watch(top)], 5.0)
        found = looked(watch(top), tree)
    assert tree.unreadable == (os.fsencode(top / "e/r/secret"),)
    assert found[-1].level is Level.WRONG
    assert f"may not read what is in {top}/e/r/secret" in found[-1].detail
    mends(found[-1].cure)
    assert shlex.split(found[-1].cure, comments=True) == [
        "setfacl", "-R", "-m", f"u:{NOBODY}:rX", "-m", f"d:u:{NOBODY}:rX", f"{top}/e/r/secret",
    ]  # fmt: skip


def test_of_many_such_folders_some_are_named(top: Path) -> None:
    many = tuple(os.fsencode(top / f"e{number}") for number in range(1200))
    found = looked(watch(top), Tree(os.fsencode(top), True, 1201, True, many))
    assert found[-1].detail.endswith(f"{top}/e0, {top}/e1, {top}/e2 and 1,197 more")
    assert shlex.split(found[-1].cure, comments=True)[-1] == str(top), "the folder that they share"


def test_a_root_that_may_not_be_read(top: Path) -> None:
    (top / "drop it").mkdir(mode=0)
    with as_somebody():
        (found,) = looked(watch(top / "drop it"))
    assert found.level is Level.WRONG
    mends(found.cure)
    assert shlex.split(found.cure, comments=True) == ["setfacl", "-m", f"u:{NOBODY}:rx", f"{top}/drop it"]


def test_a_root_that_cannot_be_reached(top: Path) -> None:
    (top / "of me" / "private" / "drop").mkdir(parents=True)
    (top / "drop").symlink_to("of me/private/drop")
    (top / "of me").chmod(0)
    with as_somebody():
        (found,) = looked(watch(top / "drop"))
    assert (found.level, "cannot reach it: Permission denied" in found.detail) == (Level.WRONG, True)
    mends(found.cure)
    assert shlex.split(found.cure, comments=True) == ["setfacl", "-m", f"u:{NOBODY}:x", f"{top}/of me"]


def test_a_root_that_cannot_be_reached_for_another_reason(top: Path) -> None:
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    (found,) = looked(watch(top / "a"))
    assert (found.level, found.cure.partition("  # ")[0]) == (Level.WRONG, f"namei -l {top}/a")


@pytest.mark.parametrize("name", [b"plain", b"it's", b"a b", b"$(x)", b"\\", b"\xff", b"line\nline", b"\x1b[2J'\\1"])
def test_a_shell_reads_a_path_as_it_is(name: bytes) -> None:
    said = subprocess.run(["bash", "-c", f"printf %s {disk.quoted(name)}"], capture_output=True, check=True)
    assert said.stdout == name
    assert disk.quoted(name).isprintable()


def test_a_root_that_is_not_there(top: Path) -> None:
    (found,) = looked(watch(top / "none"))
    assert (found.level, found.detail) == (Level.WRONG, "it is not there")
    mends(found.cure)
    assert shlex.split(found.cure, comments=True) == ["mkdir", "-p", f"{top}/none"]


def test_what_the_filesystem_is_good_for(top: Path) -> None:
    (found,) = looked(watch(top, mode="scan"))
    assert (found.level, "scanned as configured" in found.detail) == (Level.OK, True)
    (found,) = looked(watch(Path("/proc"), mode="scan"))
    assert "proc, scanned as configured; who has a file open cannot be asked there" in found.detail


@pytest.mark.parametrize(
    ("mode", "level", "says"),
    [
        ("auto", Level.NOTICE, "changes made elsewhere give no events here. It is scanned every 300 s"),
        ("events", Level.WRONG, 'mode = "events", although nfs4 is a network filesystem'),
    ],
)
def test_a_network_filesystem(top: Path, monkeypatch: pytest.MonkeyPatch, mode: str, level: Level, says: str) -> None:
    # Only the kernel's answer is another one: no such mount can be made here.
    monkeypatch.setattr(disk, "mount_of", lambda path: Mount(path, "nfs4", "server:/export"))
    (found,) = looked(watch(top, mode=mode))
    assert found.level is level
    assert says in found.detail
    (tree,) = disk.survey([watch(top, mode=mode)], 5.0)
    assert tree.by_events is (mode == "events")


class TestDuplicates:
    def test_each_once(self, top: Path) -> None:
        (top / "a").mkdir()
        (top / "b").mkdir()
        (found,) = disk.duplicates([watch(top / "a"), watch(top / "b"), watch(top / "none")], in_use=False)
        assert found.level is Level.OK

    def test_one_folder_under_two_names(self, top: Path) -> None:
        (top / "a").mkdir()
        (top / "b").symlink_to("a")
        (found,) = disk.duplicates([watch(top / "a"), watch(top / "b")], in_use=True)
        assert found.level is Level.WRONG
        assert found.detail == f"{top}/a and {top}/b are one folder under two names (a bind mount?)"

    def test_another_service_has_it(self, top: Path) -> None:
        number = identity(os.fsencode(top))
        assert number is not None
        claim = Claim(*number)
        try:
            (found,) = disk.duplicates([watch(top)], in_use=False)
            (ours,) = disk.duplicates([watch(top)], in_use=True)
        finally:
            claim.release()
        assert found.level is Level.WRONG
        assert f"pid {os.getpid()}" in found.detail
        assert ours.level is Level.OK, "it may be our own service's"
