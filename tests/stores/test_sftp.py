"""SFTP against real sshd's: what is stored, who is let in, and what is said when it fails."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking import sftp
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.steady import ChangedError
from stores.line import slow_line
from stores.sshd import Sshd, key, know, sshd, user
from support import environment, free_port, wait_for

pytestmark = pytest.mark.stores

SECONDS = 15.0
"""In which each trouble is known."""

MIB = 2**20


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def server(one_server: Sshd, at_home: Callable[[Sshd], RunArtifacts]) -> Sshd:
    """The shared server with an empty folder, and we at home where it is known."""
    know(one_server.home, one_server.port, one_server.folder / "host_key")
    (one_server.home / ".ssh/config").unlink(missing_ok=True)
    one_server.data = Path(tempfile.mkdtemp(dir=one_server.data.parent))
    at_home(one_server)
    return one_server


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sshd], RunArtifacts]]:
    """Moves to a server's home, and gives the artifacts of a run there; no connection outlives the test."""

    def move(server: Sshd) -> RunArtifacts:
        monkeypatch.setenv("HOME", str(server.home))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        return artifacts(server.uri)

    yield move
    sftp.close()


def artifacts(uri: str) -> RunArtifacts:
    return RunArtifacts(f"{uri}/1/0123/artifacts", "http://127.0.0.1:1")


def root(server: Sshd) -> Path:
    """The run's artifacts on the server's disk."""
    return server.data / "1/0123/artifacts"


def put(store: RunArtifacts, content: bytes, path: str, to: Path, unchanged: Callable[[], bool] = lambda: True) -> None:
    folder, _, leaf = path.rpartition("/")
    with tempfile.NamedTemporaryFile(dir=to) as source:
        source.write(content)
        source.flush()
        store.upload(source.fileno(), len(content), folder, leaf, unchanged)


def failure(act: Callable[[], object]) -> Failure:
    """What an act fails with; known in time."""
    begun = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        act()
    assert time.monotonic() - begun < SECONDS
    assert caught.value.failure.error.strip()
    assert caught.value.failure.cure.strip()
    return caught.value.failure


def files(server: Sshd) -> set[str]:
    """All names on the server's disk, ours included."""
    return {name for _, folders, names in os.walk(server.data) for name in names}


class Nth:
    """Says that a file is unchanged, and does something when it is asked for the n-th time: once a MiB."""

    def __init__(self, n: int, act: Callable[[], object], answer: bool = True) -> None:
        self._n, self._act, self._answer = n, act, answer

    def __call__(self) -> bool:
        self._n -= 1
        if self._n == 0:
            self._act()
            return self._answer
        return True


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


# -- a server that cannot be reached ---------------------------------------------------------------------------------


def test_a_closed_port_is_known_in_time(server: Sshd) -> None:
    found = failure(lambda: artifacts(f"sftp://bob:hunter2@127.0.0.1:{free_port()}/x").sizes(""))
    assert (found.kind, found.scope) == (Kind.TRANSIENT, Scope.RUN)
    assert "refuses the connection" in found.error
    assert "hunter2" not in str(found)


def test_a_host_without_a_name_is_known_in_time(server: Sshd) -> None:
    found = failure(lambda: artifacts("sftp://store.invalid/x").sizes(""))
    assert found.kind is Kind.TRANSIENT
    assert "cannot be resolved" in found.error


def test_a_server_that_says_nothing_is_known_in_time(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = failure(lambda: artifacts(f"sftp://127.0.0.1:{listener.getsockname()[1]}/x").sizes(""))
    assert found.kind is Kind.TRANSIENT
    assert "did not let us in within" in found.error


def test_a_line_that_swallows_connections_is_known_in_time(server: Sshd) -> None:
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # its queue is full: the kernel drops whoever comes
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        found = failure(lambda: artifacts(f"sftp://127.0.0.1:{listener.getsockname()[1]}/x").sizes(""))
    assert found.kind is Kind.TRANSIENT
    assert "does not answer within 10 s" in found.error


def test_a_server_stopped_as_a_whole_is_known_in_time(tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]) -> None:
    with sshd(tmp_path) as server:
        store = at_home(server)
        server.signal(signal.SIGSTOP, listener=True)
        assert failure(lambda: store.sizes("")).kind is Kind.TRANSIENT
        server.signal(signal.SIGCONT, listener=True)
        assert store.sizes("") == {}


def test_a_port_where_no_ssh_speaks_is_said(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            there, _ = listener.accept()
            with there:
                there.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        found = failure(lambda: artifacts(f"sftp://127.0.0.1:{listener.getsockname()[1]}/x").sizes(""))
        thread.join()
    assert found.kind is Kind.TRANSIENT
    assert "no SSH server" in found.error


# -- knowing the server ----------------------------------------------------------------------------------------------


def run_cure(server: Sshd, cure: str) -> None:
    """Do what a failure says: the command after the last 'if', as a person would type it."""
    command = cure[re.search(r"ssh-key(?:gen -R|scan)", cure).start() :]  # type: ignore[union-attr]
    subprocess.run(  # noqa: S602 (as typed)
        command, shell=True, check=True, env=environment(HOME=str(server.home)), capture_output=True
    )


def test_an_unknown_host_key_is_refused_with_the_next_step(server: Sshd) -> None:
    (server.home / ".ssh/known_hosts").unlink()
    store = artifacts(server.uri)
    found = failure(lambda: store.sizes(""))
    assert (found.kind, found.scope) == (Kind.PAUSED, Scope.RUN)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(server.folder / "host_key.pub")], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert shown in found.error
    assert "ssh_host_ed25519_key.pub" in found.cure
    assert not (server.home / ".ssh/known_hosts").exists(), "nothing is trusted by itself"
    run_cure(server, found.cure)
    assert store.sizes("") == {}


def test_a_changed_host_key_is_refused_with_the_next_step(server: Sshd, tmp_path: Path) -> None:
    know(server.home, server.port, key(tmp_path / "another"))
    store = artifacts(server.uri)
    found = failure(lambda: store.sizes(""))
    assert found.kind is Kind.PAUSED
    assert "another host key than before" in found.error
    assert f"{server.home}/.ssh/known_hosts line 1" in found.error
    assert found.error.count("SHA256:") == 2
    run_cure(server, found.cure)
    assert store.sizes("") == {}


def test_a_host_known_by_a_hash_or_a_pattern_or_an_alias_is_known(server: Sshd) -> None:
    hosts = server.home / ".ssh/known_hosts"
    plain = hosts.read_text()
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(hosts)], check=True, capture_output=True)
    assert "|1|" in hosts.read_text()
    _, *public = plain.split()
    for text in (hosts.read_text(), " ".join(["[127.*]:*", *public]), " ".join(["127.0.0.1", *public])):
        hosts.write_text(text + "\n")
        sftp.close()
        assert artifacts(server.uri).sizes("") == {}
    hosts.write_text(" ".join(["shelf", *public]) + "\n")
    sftp.close()
    assert failure(lambda: artifacts(server.uri).sizes("")).kind is Kind.PAUSED
    (server.home / ".ssh/config").write_text("Host 127.0.0.1\n  HostKeyAlias shelf\n")
    assert artifacts(server.uri).sizes("") == {}


def test_a_revoked_host_key_is_refused(server: Sshd) -> None:
    hosts = server.home / ".ssh/known_hosts"
    hosts.write_text(hosts.read_text() + "@revoked * " + (server.folder / "host_key.pub").read_text())
    found = failure(lambda: artifacts(server.uri).sizes(""))
    assert found.kind is Kind.PAUSED
    assert "revokes" in found.error


def test_of_several_host_keys_the_known_one_is_asked_for(
    tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]
) -> None:
    for kind in ("rsa", "ecdsa"):
        more = key(tmp_path / kind, kind)
        with sshd(tmp_path, more=f"HostKey {more}") as server:
            know(server.home, server.port, more)
            assert at_home(server).sizes("") == {}
            sftp.close()


# -- being let in ----------------------------------------------------------------------------------------------------


def fresh_home(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that knows the server, and has no key."""
    home = tmp_path / "fresh"
    (home / ".ssh").mkdir(parents=True)
    know(home, server.port, server.folder / "host_key")
    monkeypatch.setenv("HOME", str(home))
    return home


@contextlib.contextmanager
def authorized(server: Sshd, *public: Path) -> Iterator[None]:
    file = server.folder / "authorized_keys"
    before = file.read_text()
    file.write_text(before + "".join(each.read_text() for each in public))
    try:
        yield
    finally:
        file.write_text(before)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_each_kind_of_key_is_shown(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    home = fresh_home(server, tmp_path, monkeypatch)
    pair = key(home / f".ssh/id_{kind}", kind)
    with authorized(server, pair.with_suffix(".pub")):
        assert artifacts(server.uri).sizes("") == {}


def test_the_configuration_names_host_port_user_and_key(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fresh_home(server, tmp_path, monkeypatch)
    pair = key(home / "deliver")
    (home / ".ssh/config").write_text("Include hosts\n")
    (home / ".ssh/hosts").write_text(
        f"Host shelf\n  HostName 127.0.0.1\n  Port {server.port}\n  User {user()}\n  IdentityFile ~/deliver\n"
    )
    with authorized(server, home / "deliver.pub"):
        assert artifacts(f"sftp://shelf{server.data}").sizes("") == {}
        assert pair.exists()


def test_a_wrong_key_is_said(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = fresh_home(server, tmp_path, monkeypatch)
    key(home / ".ssh/id_ed25519")
    store = artifacts(server.uri)
    found = failure(lambda: store.sizes(""))
    assert (found.kind, found.scope) == (Kind.PAUSED, Scope.RUN)
    assert f"{home}/.ssh/id_ed25519 (SHA256:" in found.error
    assert f"sftp://{user()}@127.0.0.1:{server.port}" in found.error
    assert "authorized_keys" in found.cure
    with authorized(server, home / ".ssh/id_ed25519.pub"):
        assert store.sizes("") == {}, "once it is allowed, without a restart"


def test_no_key_at_all_is_said(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_home(server, tmp_path, monkeypatch)
    found = failure(lambda: artifacts(server.uri).sizes(""))
    assert found.kind is Kind.PAUSED
    assert "no key to show" in found.error
    assert "ssh-keygen" in found.cure


def test_a_key_with_a_passphrase_is_refused_in_words_unless_an_agent_holds_it(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fresh_home(server, tmp_path, monkeypatch)
    locked = key(home / ".ssh/id_ed25519", passphrase="hunter2")
    with authorized(server, home / ".ssh/id_ed25519.pub"):
        found = failure(lambda: artifacts(server.uri).sizes(""))
        assert found.kind is Kind.PAUSED
        assert "has a passphrase" in found.error
        assert "no terminal" in found.cure
        with agent(home) as address:
            subprocess.run(["ssh-keygen", "-q", "-p", "-P", "hunter2", "-N", "", "-f", str(locked)], check=True)
            subprocess.run(
                ["ssh-add", "-q", str(locked)], check=True, env=environment(SSH_AUTH_SOCK=address), capture_output=True
            )
            subprocess.run(["ssh-keygen", "-q", "-p", "-N", "hunter2", "-f", str(locked)], check=True)
            monkeypatch.setenv("SSH_AUTH_SOCK", address)
            assert artifacts(server.uri).sizes("") == {}
            sftp.close()
            (home / ".ssh/config").write_text("IdentityFile ~/.ssh/id_ed25519\nIdentitiesOnly yes\n")
            assert artifacts(server.uri).sizes("") == {}


@contextlib.contextmanager
def agent(home: Path) -> Iterator[str]:
    address = str(home / "agent")
    with subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: os.path.exists(address), "the agent")
            yield address
        finally:
            process.terminate()


def test_a_changed_configuration_is_followed_without_a_restart(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = artifacts(server.uri)
    assert store.sizes("") == {}
    monkeypatch.setattr(sftp, "_LOOK_AGAIN", 0.0)
    (server.home / ".ssh/config").write_text("Host 127.0.0.1\n  User nobody-of-that-name\n")
    found = failure(lambda: store.sizes(""))
    assert found.kind is Kind.PAUSED
    assert "nobody-of-that-name" in found.error


def test_a_certificate_beside_the_key_lets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_home: Callable[[Sshd], RunArtifacts]
) -> None:
    authority = key(tmp_path / "ca")
    with sshd(tmp_path, first=f"TrustedUserCAKeys {authority}.pub") as server:
        at_home(server)
        home = fresh_home(server, tmp_path, monkeypatch)
        pair = key(home / ".ssh/id_ed25519")
        assert failure(lambda: artifacts(server.uri).sizes("")).kind is Kind.PAUSED
        sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "artifactd", "-n", user(), f"{pair}.pub"]
        subprocess.run(sign, check=True, capture_output=True)
        assert artifacts(server.uri).sizes("") == {}


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="a password of one's own needs a shadow file of one's own")
def test_a_password_lets_in_and_stands_in_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_home: Callable[[Sshd], RunArtifacts]
) -> None:
    password = "hunter2/@ ü"
    digest = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=password.encode(), capture_output=True, check=True
    ).stdout.decode()
    shadow = tmp_path / "shadow"
    shadow.write_text(f"root:{digest.strip()}:19000:0:99999:7:::\n")
    first = "PasswordAuthentication yes\nPubkeyAuthentication no"
    with sshd(tmp_path, first=first, shadow=shadow) as server:
        at_home(server)
        place = f"127.0.0.1:{server.port}{server.data}"
        store = artifacts(f"sftp://root:hunter2%2F%40%20%C3%BC@{place}")
        put(store, b"x", "f", tmp_path)
        assert store.sizes("") == {"f": 1}
        wrong = failure(lambda: artifacts(f"sftp://root:hunter3@{place}").sizes(""))
        assert wrong.kind is Kind.PAUSED
        assert "the URL's password" in wrong.error
        assert "hunter" not in str(wrong) + repr(store._repo) + repr(sftp._kept)


# -- rights and room -------------------------------------------------------------------------------------------------


def test_a_read_only_server_is_said(tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]) -> None:
    with sshd(tmp_path, sftp="-R") as server:
        store = at_home(server)
        root(server).mkdir(parents=True)
        (root(server) / "f").write_bytes(b"x")
        assert store.sizes("") == {"f": 1}
        for path in ("f", "new/f"):
            found = failure(lambda path=path: put(store, b"y", path, tmp_path))  # type: ignore[misc]
            assert (found.kind, found.scope) == (Kind.PAUSED, Scope.RUN)
            assert str(root(server)) in found.error
            assert user() in found.error


LEAST = (
    "open,close,read,write,lstat,fstat,stat,opendir,readdir,remove,mkdir,rmdir,realpath,posix-rename,fsync,statvfs,"
    "limits"
)


def test_the_least_rights_are_enough(tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]) -> None:
    with sshd(tmp_path, first=f"ForceCommand internal-sftp -p {LEAST}") as server:
        store = at_home(server)
        for content in (b"one", b"two", os.urandom(3 * MIB)):
            put(store, content, "a/b/f", tmp_path)
            assert store.sizes("a/b") == {"f": len(content)}
        store.download("a/b/f", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        store._repo.delete_artifacts()
        assert files(server) == set()


@contextlib.contextmanager
def somebody(at_home: Callable[[Sshd], RunArtifacts]) -> Iterator[tuple[Sshd, RunArtifacts]]:
    """A server that lets in somebody who is not root, whoever we are."""
    login = "nobody" if os.getuid() == 0 else user()
    base = Path(tempfile.mkdtemp(prefix="sshd-"))  # not below pytest's, which is ours alone
    try:
        base.chmod(0o755)
        with sshd(base) as server:
            at_home(server)
            yield server, artifacts(server.uri.replace("sftp://", f"sftp://{login}@"))
            sftp.close()
    finally:
        shutil.rmtree(base)


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]) -> None:
    with somebody(at_home) as (server, store):
        server.data.chmod(0o555)
        found = failure(lambda: put(store, b"x", "f", tmp_path))
        assert (found.kind, found.scope) == (Kind.PAUSED, Scope.RUN)
        assert f"make folders in {server.data}:" in found.error
        server.data.chmod(0o777)
        put(store, b"x", "a/f", tmp_path)
        (root(server) / "a").chmod(0o555)
        if os.getuid() == 0:
            os.chown(root(server) / "a", 0, 0)
        found = failure(lambda: put(store, b"yy", "a/f", tmp_path))
        assert found.kind is Kind.PAUSED
        assert f"write into {root(server)}/a:" in found.error
        assert store.sizes("a") == {"f": 1}
        (root(server) / "a").chmod(0o000)
        found = failure(lambda: store.sizes("a"))
        assert found.kind is Kind.PAUSED
        assert f"list {root(server)}/a:" in found.error
        (root(server) / "a").chmod(0o777)
        put(store, b"yy", "a/f", tmp_path)
        assert store.sizes("a") == {"f": 2}


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="a small disk needs mount(8)")
def test_a_full_disk_is_said_and_the_old_content_stays(server: Sshd, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "artifactd-test", str(server.data)], check=True)
    try:
        store = artifacts(server.uri)
        put(store, b"old", "f", tmp_path)
        found = failure(lambda: put(store, bytes(16 * MIB), "f", tmp_path))
        assert (found.kind, found.scope) == (Kind.TRANSIENT, Scope.RUN)
        assert "no space left" in found.error
        assert files(server) == {"f"}
        assert store.sizes("") == {"f": 3}
        put(store, bytes(2 * MIB), "f", tmp_path)
        subprocess.run(["mount", "-o", "remount,ro", str(server.data)], check=True)
        found = failure(lambda: put(store, b"x", "f", tmp_path))
        assert found.kind is Kind.PAUSED
        assert "read-only filesystem" in found.error
    finally:
        sftp.close()
        subprocess.run(["umount", str(server.data)], check=True)


def test_a_server_without_sftp_is_said(tmp_path: Path, at_home: Callable[[Sshd], RunArtifacts]) -> None:
    with sshd(tmp_path, first="ForceCommand echo hello") as server:
        found = failure(lambda: at_home(server).sizes(""))
    assert found.kind is Kind.PAUSED
    assert "offers no SFTP" in found.error
