"""SFTP against real sshd's: who is reached, known, let in and allowed to write, and what is said when not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd.errors import Kind, Scope
from artifactd.tracking import sftp
from artifactd.tracking.artifacts import RunArtifacts
from stores import sftp_support
from stores.sftp_support import MIB, artifacts, failure, files, put, root
from stores.sshd import Sshd, key, know, sshd, user
from support import environment, free_port, wait_for

pytestmark = pytest.mark.stores

one_server, server, at_home = sftp_support.one_server, sftp_support.server, sftp_support.at_home

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
