"""SFTP against real sshd's: what is stored, what a crash leaves, and what is said when it fails in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.tracking import sftp
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.steady import ChangedError
from stores import sftp_support
from stores.line import slow_line
from stores.sftp_support import MIB, Nth, artifacts, failure, files, put, root
from stores.sshd import Sshd, know, sshd
from support import environment, wait_for

pytestmark = pytest.mark.stores

one_server, server, at_home = sftp_support.one_server, sftp_support.server, sftp_support.at_home

# -- what is stored --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 255 * 1024 - 1, 255 * 1024, 255 * 1024 + 1, 64 * MIB])
def test_a_file_comes_back_as_it_went(server: Sshd, tmp_path: Path, size: int) -> None:
    store, content = artifacts(server.uri), os.urandom(size)
    put(store, content, "a/b c/file.bin", tmp_path)
    assert store.sizes("a/b c") == {"file.bin": size}
    assert (root(server) / "a/b c/file.bin").read_bytes() == content
    store.download("a/b c/file.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert files(server) == {"file.bin"}


NAMES = [
    "hash#1", "what?", "100%", "pct%20x", "plus+", "and&", "back\\slash", "new\nline", "tab\t", " spaces ", "equals=",
    "a" * 255, "é nfc", "e\u0301 nfd", "emoji🎉", ".hidden", "UPPER", "upper", "semi;colon", "quote'\"", "-dash",
    "~tilde", "back\udcffslash", "[x]", "*",
]  # fmt: skip


def test_every_name_is_kept_exactly(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    for n, name in enumerate(NAMES):
        put(store, b"%d" % n, f"names/{name}", tmp_path)
    assert store.sizes("names") == {name: len(str(n)) for n, name in enumerate(NAMES)}
    on_disk = {
        os.fsdecode(p): (root(server) / "names" / os.fsdecode(p)).read_bytes()
        for p in os.listdir(os.fsencode(root(server) / "names"))
    }
    assert on_disk == {name: b"%d" % n for n, name in enumerate(NAMES)}
    for n, name in enumerate(NAMES):
        store.download(f"names/{name}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"%d" % n


def test_listing_a_tree_follows_no_link(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    for path in ("top", "a/one", "a/b/two"):
        put(store, path.encode(), path, tmp_path)
    (root(server) / "a/loop").symlink_to(root(server))
    (root(server) / "link").symlink_to(root(server) / "top")
    os.mkfifo(root(server) / "pipe")
    assert store.tree() == [("a/b/two", 7), ("a/one", 5), ("top", 3)]
    assert store.sizes("nowhere") == store.sizes("nowhere/below") == store.sizes("top") == {}
    store._repo.delete_artifacts("a")
    assert store.tree() == [("top", 3)]
    store._repo.delete_artifacts()
    store._repo.delete_artifacts("not there")
    assert not root(server).exists()


def test_a_folder_is_logged_with_all_that_is_in_it(server: Sshd, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "x/y").mkdir(parents=True)
    for name in ("one", "x/two", "x/y/three"):
        (source / name).write_text(name)
    store = artifacts(server.uri)
    store._repo.log_artifacts(str(source), "in")
    assert store.tree("in") == [("in/one", 3), ("in/x/two", 5), ("in/x/y/three", 9)]
    store._repo.log_artifacts(str(source))
    assert len(store.tree()) == 6


@pytest.mark.parametrize("options", ["", "-P posix-rename", "-P fsync,posix-rename,statvfs,limits"])
def test_an_overwrite_leaves_one_content_whole(
    tmp_path: Path, options: str, at_home: Callable[[Sshd], RunArtifacts]
) -> None:
    with sshd(tmp_path, sftp=options) as server:
        store = at_home(server)
        contents = [bytes([n]) * (3 * MIB + n) for n in range(4)]
        put(store, contents[0], "f", tmp_path)
        with (root(server) / "f").open("rb") as reader:
            head = reader.read(100)
            for content in contents[1:]:
                put(store, content, "f", tmp_path)
                assert store.sizes("") == {"f": len(content)}
                assert (root(server) / "f").read_bytes() == content
            assert head + reader.read() == contents[0], "a reader keeps the content that it began with"
        assert files(server) == {"f"}
        assert os.listdir(root(server)) == ["f"]


def test_a_reader_never_meets_a_part_or_nothing(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    put(store, bytes(2 * MIB), "f", tmp_path)
    seen: set[tuple[int, int]] = set()
    over = threading.Event()
    troubles: list[OSError] = []

    def read() -> None:
        try:
            while not over.is_set():
                content = (root(server) / "f").read_bytes()
                seen.update((len(content), byte) for byte in set(content))
        except OSError as exc:
            troubles.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(1, 20):
            put(store, bytes([n]) * (2 * MIB), "f", tmp_path)
    finally:
        over.set()
        reader.join()
    assert not troubles
    assert seen <= {(2 * MIB, n) for n in range(20)}
    assert len(seen) > 1


def test_a_file_that_changes_leaves_the_old_content(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    put(store, b"old", "f", tmp_path)
    with pytest.raises(ChangedError) as caught:
        put(store, bytes(8 * MIB), "f", tmp_path, Nth(5, lambda: None, answer=False))
    assert 0 < caught.value.sent < 8 * MIB
    assert (root(server) / "f").read_bytes() == b"old"
    assert files(server) == {"f"}
    with pytest.raises(ChangedError):  # at its last byte
        put(store, b"newer", "f", tmp_path, lambda: False)
    assert (root(server) / "f").read_bytes() == b"old"
    sessions = len(server.sessions())
    put(store, b"new", "f", tmp_path)
    assert len(server.sessions()) == sessions, "the connection was kept"
    assert (root(server) / "f").read_bytes() == b"new"


@pytest.mark.parametrize("path", ["f/x", "d"])
def test_a_file_in_a_folders_place_is_said(server: Sshd, tmp_path: Path, path: str) -> None:
    store = artifacts(server.uri)
    put(store, b"1", "f", tmp_path)
    put(store, b"2", "d/x", tmp_path)
    found = failure(lambda: put(store, b"3", path, tmp_path))
    assert (found.kind, found.scope) == (Kind.PERMANENT, Scope.FILE)
    assert "folder" in found.error
    assert files(server) == {"f", "x"}


def test_a_name_that_is_too_long_is_said(server: Sshd, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError) as caught:
        artifacts(server.uri)._repo.log_artifact(str(_file(tmp_path, b"x")), "n" * 256)
    assert (caught.value.failure.kind, caught.value.failure.scope) == (Kind.PERMANENT, Scope.FILE)
    assert "too long" in caught.value.failure.error


def test_what_is_not_there_any_more_is_said(server: Sshd, tmp_path: Path) -> None:
    found = failure(lambda: artifacts(server.uri).download("gone", tmp_path / "back"))
    assert (found.kind, found.scope) == (Kind.TRANSIENT, Scope.FILE)
    assert os.listdir(tmp_path) == []


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "f"
    path.write_bytes(content)
    return path


# -- what a crash leaves ---------------------------------------------------------------------------------------------

_UPLOADER = """
import os, sys
from artifactd.tracking.artifacts import RunArtifacts
store = RunArtifacts(sys.argv[1] + "/1/0123/artifacts", "http://127.0.0.1:1")
asked = 0
def unchanged():
    global asked
    asked += 1
    if asked == 6:
        print("in the middle", flush=True)
        sys.stdin.read()
    return True
with open(sys.argv[2], "rb") as f:
    store.upload(f.fileno(), os.stat(sys.argv[2]).st_size, "", "f", unchanged)
"""


def test_a_killed_uploader_leaves_the_old_content_and_a_name_that_the_next_one_removes(
    server: Sshd, tmp_path: Path
) -> None:
    store = artifacts(server.uri)
    put(store, b"old", "f", tmp_path)
    new = _file(tmp_path, os.urandom(16 * MIB))
    command = [sys.executable, "-c", _UPLOADER, server.uri, str(new)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(HOME=str(server.home), PYTHONPATH=":".join(sys.path)),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in the middle\n"
        process.kill()
    part = sftp.temporary(b"f").decode()
    wait_for(lambda: files(server) == {"f", part}, "the temporary file")
    assert (root(server) / "f").read_bytes() == b"old"
    assert store.sizes("") == {"f": 3}
    assert store.tree() == [("f", 3)]
    put(store, new.read_bytes(), "f", tmp_path)
    assert files(server) == {"f"}
    assert (root(server) / "f").read_bytes() == new.read_bytes()


def test_what_another_host_left_for_a_week_is_removed_by_who_delivers_there(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    put(store, b"1", "f", tmp_path)
    names = [f".artifactd-{c * 32}.part" for c in "0123"]
    for name, age in zip(names, (8, 8, 6, 0), strict=True):
        (root(server) / name).write_bytes(b"x")
        os.utime(root(server) / name, (time.time() - age * 86400,) * 2)
    (root(server) / "mine.part").write_bytes(b"x")
    os.utime(root(server) / "mine.part", (0, 0))
    assert artifacts(server.uri).sizes("") == {"f": 1, "mine.part": 1}
    assert len(files(server)) == 6, "who only reads removes nothing"
    assert store.sizes("") == {"f": 1, "mine.part": 1}
    assert files(server) == {"f", "mine.part", *names[2:]}


# -- a server that fails in the middle -------------------------------------------------------------------------------


def test_a_server_killed_in_the_middle_is_said_and_the_next_try_goes_through(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    put(store, b"old", "f", tmp_path)
    content = os.urandom(32 * MIB)
    found = failure(lambda: put(store, content, "f", tmp_path, Nth(6, lambda: server.signal(signal.SIGKILL))))
    assert (found.kind, found.scope) == (Kind.TRANSIENT, Scope.RUN)
    assert "lost in the middle" in found.error
    assert (root(server) / "f").read_bytes() == b"old"
    assert store.sizes("") == {"f": 3}
    put(store, content, "f", tmp_path)
    assert (root(server) / "f").read_bytes() == content
    assert files(server) == {"f"}


def test_a_listing_of_a_server_that_is_gone_is_no_empty_list(
    tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]
) -> None:
    with sshd(tmp_path) as server:
        store = at_home(server)
        put(store, b"x", "f", tmp_path)
        assert store.sizes("") == {"f": 1}
        server.signal(signal.SIGKILL, listener=True)
        server.process.wait()
        for _ in range(2):
            for act in (
                lambda: store.sizes(""),
                lambda: store.sizes("nowhere"),
                lambda: store._repo.delete_artifacts("f"),
                lambda: store.download("f", tmp_path / "back"),
            ):
                assert failure(act).kind is Kind.TRANSIENT
    with sshd(tmp_path) as server:
        assert at_home(server).sizes("") == {"f": 1}


def test_a_connection_that_died_in_idleness_is_made_anew(server: Sshd, tmp_path: Path) -> None:
    store = artifacts(server.uri)
    put(store, b"x", "f", tmp_path)
    first = {p.pid for p in server.sessions()}
    server.signal(signal.SIGKILL)
    (kept,) = sftp._kept.values()
    wait_for(lambda: not kept._transport.is_active(), "its end is noticed")
    assert store.sizes("") == {"f": 1}
    second = {p.pid for p in server.sessions()}
    assert second
    assert not first & second


def test_a_connection_that_hangs_after_idleness_is_replaced(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = artifacts(server.uri)
    put(store, b"x", "f", tmp_path)
    monkeypatch.setattr(sftp, "_LOOK_AGAIN", 0.0)
    monkeypatch.setattr(sftp, "_TRY", 1.0)
    stopped = server.sessions()
    server.signal(signal.SIGSTOP)
    assert store.sizes("") == {"f": 1}
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def test_a_server_that_stands_still_for_a_while_does_not_cut_the_upload(server: Sshd, tmp_path: Path) -> None:
    store, content = artifacts(server.uri), os.urandom(32 * MIB)

    def stop() -> None:
        server.signal(signal.SIGSTOP)
        threading.Timer(7.0, lambda: server.signal(signal.SIGCONT)).start()

    begun = time.monotonic()
    put(store, content, "f", tmp_path, Nth(6, stop))
    assert time.monotonic() - begun >= 7.0
    assert (root(server) / "f").read_bytes() == content


def test_a_server_that_stands_still_for_good_is_known_in_time(server: Sshd, tmp_path: Path) -> None:
    store, content = artifacts(server.uri), os.urandom(32 * MIB)
    put(store, b"old", "f", tmp_path)
    found = failure(lambda: put(store, content, "f", tmp_path, Nth(6, lambda: server.signal(signal.SIGSTOP))))
    assert found.kind is Kind.TRANSIENT
    assert "nothing for 12 s" in found.error
    assert (root(server) / "f").read_bytes() == b"old"
    put(store, b"another", "g", tmp_path)  # by another connection, while that one still stands
    server.signal(signal.SIGCONT)
    put(store, content, "f", tmp_path)
    wait_for(lambda: files(server) == {"f", "g"}, "what the stopped one left is gone")
    assert (root(server) / "f").read_bytes() == content


def test_a_slow_line_is_never_cut(server: Sshd, tmp_path: Path) -> None:
    content = os.urandom(600 * 1024)
    with slow_line(server.port, 20 * 1024) as port:
        know(server.home, port, server.folder / "host_key")
        store = artifacts(f"sftp://127.0.0.1:{port}{server.data}")
        begun = time.monotonic()
        put(store, content, "f", tmp_path)
        took = time.monotonic() - begun
        sftp.close()
    assert took > 25, "slower than any wait"
    assert (root(server) / "f").read_bytes() == content
