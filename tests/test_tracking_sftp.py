"""SFTP, the parts that need no server: URLs, OpenSSH's configuration, known hosts, temporary names, the wire."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.errors import DeliveryError, Kind
from artifactd.tracking import known_hosts, sftp, sftp_address
from artifactd.tracking.known_hosts import Verdict
from artifactd.tracking.sftp_address import Place, parse, resolve
from artifactd.tracking.sftp_packets import ConnectionLostError, StatusError
from artifactd.tracking.sftp_wire import Wire

SECRET = "hunter2/@:%#"
KEY, OTHER = b"\0\0\0\x0bssh-ed25519" + b"k" * 36, b"\0\0\0\x0bssh-ed25519" + b"o" * 36


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sftp_address, "SYSTEM_CONFIG", str(tmp_path / "ssh_config"))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


# -- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("sftp://host/a/b", Place("host", None, None, "/a/b")),
        ("sftp://bob@Host:2222/a/", Place("Host", 2222, "bob", "/a")),
        ("SFTP://bob:pw@host", Place("host", None, "bob", "/", "pw")),
        ("sftp://a%40b:p%2Fw%3A@host/x%20y", Place("host", None, "a@b", "/x%20y", "p/w:")),
        ("sftp://[::1]:22/a", Place("::1", 22, None, "/a")),
        ("sftp://bob:a@b@host/a@b", Place("host", None, "bob", "/a@b", "a@b")),
        ("sftp://bob:@host/a", Place("host", None, "bob", "/a", "")),
    ],
)
def test_a_url_is_taken_apart(uri: str, place: Place) -> None:
    assert parse(uri) == place


@pytest.mark.parametrize(
    "uri",
    ["sftp:///path", "sftp://@host/x", "sftp://host:0/x", "sftp://host:99999/x", "sftp://host:x/y", "s3://b/k"]
    + ["sftp:/x", "sftp:host"]
    + ["sftp://host/a?b", "sftp://host/a#b", "sftp://::1/a", "sftp://bob:hunter2#x@host/a", "sftp://bob:hunter2?@host/a"],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_its_password(uri: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        parse(uri)
    assert caught.value.failure.kind is Kind.PERMANENT
    assert "sftp://user@host" in caught.value.failure.cure
    assert "hunter2" not in str(caught.value)


@given(st.text(min_size=1), st.text())
def test_any_user_and_password_come_back_percent_decoded(user: str, password: str) -> None:
    from urllib.parse import quote

    try:
        uri = f"sftp://{quote(user, safe='')}:{quote(password, safe='')}@host/p"
    except UnicodeEncodeError:
        return
    assert parse(uri) == Place("host", None, user, "/p", password)


def test_the_password_stands_in_no_text(home: Path) -> None:
    place = parse("sftp://bob:hunter2%2F%40%3A%25%23@host/p")
    assert place.password == SECRET
    endpoint = resolve(place)
    assert endpoint.password == SECRET
    repository = sftp.SftpArtifactRepository("sftp://bob:hunter2%2F%40%3A%25%23@host/p")
    for text in (repr(place), str(endpoint), repr(endpoint), repr(repository), repr(vars(repository))):
        assert "hunter2" not in text


# -- OpenSSH's configuration -----------------------------------------------------------------------------------------


def test_the_configuration_says_what_the_url_leaves_out(home: Path) -> None:
    (home / ".ssh/more").write_text("Host other\n  User nobody-else\nHost store\n  HostKeyAlias shelf\n")
    (home / ".ssh/config").write_text(
        "Include more\nHost store\n  HostName 10.0.0.7\n  Port 2200\n  User carol\n  IdentityFile ~/.ssh/own\n"
        "  IdentitiesOnly yes\n  ConnectTimeout 3\n  UserKnownHostsFile ~/a %d/b\n"
    )
    (home / "ssh_config").write_text("Host *\n  User nobody\n  Port 1\n  GlobalKnownHostsFile /c\n")
    found = resolve(parse("sftp://store/p"))
    assert str(found) == "sftp://carol@10.0.0.7:2200"
    assert found.identities == (f"{home}/.ssh/own",)
    assert found.defaults == ()
    assert found.only_identities
    assert found.names == ("shelf",)
    assert found.user_hosts == (f"{home}/a", f"{home}/b")
    assert found.system_hosts == ("/c",)
    assert found.connect_seconds == 3
    explicit = resolve(parse("sftp://dave@store:22/p"))
    assert str(explicit) == "sftp://dave@10.0.0.7:22"
    assert str(resolve(parse("sftp://elsewhere/p"))) == "sftp://nobody@elsewhere:1"


def test_a_change_of_what_it_rests_on_makes_another_endpoint(home: Path) -> None:
    place = parse("sftp://bob@host/p")
    before = resolve(place)
    assert resolve(place) == before
    (home / ".ssh/id_rsa").write_text("a key")
    with_key = resolve(place)
    assert with_key != before
    (home / ".ssh/id_rsa").write_text("another key")
    assert resolve(place) != with_key


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Host host\n  ProxyJump bastion", "ProxyJump"),
        ("Host host\n  ProxyCommand nc %h %p", "ProxyCommand"),
        ("Host host\n  Include more", "Include"),
        ("Host host\n  Port many", "port"),
        ("nonsense", "nonsense"),
    ],
)
def test_what_is_not_supported_is_refused_in_words(home: Path, text: str, says: str) -> None:
    (home / ".ssh/config").write_text(text)
    with pytest.raises(DeliveryError, match=says) as caught:
        resolve(parse("sftp://bob@host/p"))
    assert caught.value.failure.kind is Kind.PAUSED
    assert caught.value.failure.cure


def test_a_user_id_without_a_name_needs_one_in_the_url(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(_uid: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("pwd.getpwuid", no_name)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    (home / ".ssh/config").write_text("Host *\n  Port 2200\n")
    assert str(resolve(parse("sftp://bob@host/p"))) == "sftp://bob@host:2200"
    with pytest.raises(DeliveryError, match="names no user"):
        resolve(parse("sftp://host/p"))


def test_no_proxy_is_none(home: Path) -> None:
    (home / ".ssh/config").write_text("Host host\n  ProxyJump none\n  ProxyCommand none\n  IdentityFile none\n")
    found = resolve(parse("sftp://bob@host/p"))
    assert (found.identities, found.defaults) == ((), ())


# -- known hosts -----------------------------------------------------------------------------------------------------


def line(hosts: str, key: bytes = KEY, marker: str = "") -> str:
    return f"{marker} {hosts} ssh-ed25519 {base64.b64encode(key).decode()} a comment\n"


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (line("[store]:2222"), Verdict.KNOWN),
        (line("other,[store]:2222,10.0.0.1"), Verdict.KNOWN),
        (line("store"), Verdict.KNOWN),
        (line("STORE"), Verdict.KNOWN),
        (line(hashed("[store]:2222")), Verdict.KNOWN),
        (line(hashed("store")), Verdict.KNOWN),
        (line("st?re"), Verdict.KNOWN),
        (line("[s*]:2222"), Verdict.KNOWN),
        (line("*,!store"), Verdict.KNOWN),  # for [store]:2222, which nothing excludes
        (line("*,!store,![store]:2222"), Verdict.UNKNOWN),
        (line("[store]:22"), Verdict.UNKNOWN),
        (line("s", KEY), Verdict.UNKNOWN),
        (line("[store]:2222", OTHER), Verdict.CHANGED),
        (line("store", OTHER), Verdict.CHANGED),
        (line("[store]:2222", OTHER) + line("store"), Verdict.CHANGED),
        (line("[store]:2222", OTHER) + line("[store]:2222"), Verdict.KNOWN),
        (line("[store]:2222") + line("*", KEY, "@revoked"), Verdict.REVOKED),
        (line("*", OTHER, "@revoked") + line("store"), Verdict.KNOWN),
        (line("*", KEY, "@cert-authority"), Verdict.UNKNOWN),
        ("# " + line("store") + "\n\nstore ssh-ed25519\nstore ssh-ed25519 not*base64\n|1|x|y z w\n", Verdict.UNKNOWN),
        ("", Verdict.UNKNOWN),
    ],
)  # fmt: skip
def test_a_host_is_known_as_openssh_knows_it(text: str, verdict: Verdict) -> None:
    names = known_hosts.names("Store", 2222)
    assert known_hosts.judge(known_hosts.parse(text), names, KEY)[0] is verdict


def test_an_alias_stands_for_host_and_port() -> None:
    assert known_hosts.names("store", 2222, "Shelf") == ("shelf",)
    assert known_hosts.names("Store", 22) == ("store",)


def test_the_line_that_speaks_against_a_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("# mine\n" + line("store", OTHER))
    _, found = known_hosts.judge(known_hosts.read([str(tmp_path / "none"), str(file)]), ("store",), KEY)
    assert found is not None
    assert (found.file, found.number) == (str(file), 2)


def test_the_server_is_asked_for_a_type_that_is_known() -> None:
    lines = known_hosts.parse(line("[store]:2222") + line("other"))
    assert known_hosts.types(lines, known_hosts.names("store", 2222)) == ("ssh-ed25519",)
    assert known_hosts.types(lines, known_hosts.names("nowhere", 2222)) == ()


# -- temporary names -------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=255), st.binary(min_size=1, max_size=255))
def test_a_temporary_name_follows_from_the_artifact_and_is_recognised(one: bytes, other: bytes) -> None:
    name = sftp.temporary(one)
    assert sftp._OURS.fullmatch(name)
    assert len(name) < 64
    assert (name == sftp.temporary(other)) == (one == other)


@pytest.mark.parametrize("name", [b".artifactd-x.part", b"a.part", b".artifactd-" + b"0" * 32, b"x" * 32 + b".part"])
def test_a_users_name_is_not_taken_for_one_of_ours(name: bytes) -> None:
    assert not sftp._OURS.fullmatch(name)


@pytest.mark.parametrize("path", ["../x", "a/../b", "./a", "a//b", "a\0b"])
def test_a_path_that_leaves_the_run_is_refused(home: Path, path: str) -> None:
    repository = sftp.SftpArtifactRepository("sftp://bob@host/p")
    with pytest.raises(DeliveryError, match="leaves its run") as caught:
        repository._path(path)
    assert caught.value.failure.kind is Kind.PERMANENT


# -- the wire --------------------------------------------------------------------------------------------------------


class Scripted:
    """A channel that answers each packet by a function; in pieces, as a network does."""

    def __init__(self, answer: Callable[[int, int, bytes], bytes], *, piece: int = 7) -> None:
        self._answer, self._piece = answer, piece
        self._sent, self._out = b"", b""

    def settimeout(self, seconds: float | None) -> None:
        pass

    def send(self, data: bytes) -> int:
        taken = data[: self._piece * 1000]
        self._sent += taken
        while len(self._sent) >= 4 and len(self._sent) >= 4 + int.from_bytes(self._sent[:4]):
            size = int.from_bytes(self._sent[:4])
            packet, self._sent = self._sent[4 : 4 + size], self._sent[4 + size :]
            if packet[0] == 1:
                self._out += struct.pack(">IBI", 5, 2, 3)
            else:
                answer = self._answer(packet[0], int.from_bytes(packet[1:5]), packet[5:])
                self._out += struct.pack(">I", len(answer)) + answer
        return len(taken)

    def recv(self, size: int) -> bytes:
        taken, self._out = self._out[: self._piece], self._out[self._piece :]
        return taken


def wire(answer: Callable[[int, int, bytes], bytes]) -> Wire:
    return Wire(Scripted(answer), lambda: 0)  # type: ignore[arg-type]


def status(number: int, code: int, text: bytes = b"") -> bytes:
    return struct.pack(">BIII", 101, number, code, len(text)) + text + struct.pack(">I", 0)


def test_a_refused_write_among_many_is_not_lost() -> None:
    asked = []

    def answer(kind: int, number: int, body: bytes) -> bytes:
        asked.append(number)
        return status(number, 4 if len(asked) == 3 else 0, b"Failure")

    session = wire(answer)
    with pytest.raises(StatusError, match="Failure"):
        session.write(b"h", io.BytesIO(bytes(8 * 32 * 1024)))
    assert len(asked) == 8
    session.remove(b"x")  # each answer was read: the session is well


def test_a_source_that_fails_leaves_the_session_well() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 100_000:
                raise OSError("the disk")
            return super().read(size)

    session = wire(lambda kind, number, body: status(number, 0))
    with pytest.raises(OSError, match="the disk"):
        session.write(b"h", Failing(bytes(200_000)))
    session.remove(b"x")


@given(st.binary(max_size=300_000), st.integers(min_value=1, max_value=40_000))
def test_short_answers_to_reads_are_completed_in_order(content: bytes, most: int) -> None:
    def answer(kind: int, number: int, body: bytes) -> bytes:
        if kind == 3:
            return struct.pack(">BII", 102, number, 1) + b"h"
        if kind == 5:
            offset, length = struct.unpack(">QI", body[-12:])
            data = content[offset : offset + min(length, most + offset % 5)]
            return struct.pack(">BII", 103, number, len(data)) + data if data else status(number, 1)
        return status(number, 0)

    target = io.BytesIO()
    assert Wire(Scripted(answer, piece=5000), lambda: 0).read(b"f", target) == len(content)  # type: ignore[arg-type]
    assert target.getvalue() == content


def names_of(text: bytes) -> bytes:
    size = struct.pack(">I", len(text))
    return size + text + size + text + struct.pack(">II", 4, 0o100644)


def test_a_long_listing_is_asked_for_ahead_and_complete() -> None:
    left = [b"n%d" % n for n in range(5000)]
    asked = 0

    def answer(kind: int, number: int, body: bytes) -> bytes:
        nonlocal asked
        if kind == 11:
            return struct.pack(">BII", 102, number, 1) + b"h"
        if kind != 12:
            return status(number, 0)
        asked += 1
        some, left[:100] = left[:100], []
        if not some:
            return status(number, 1, b"End of file")
        return struct.pack(">BII", 104, number, len(some)) + b"".join(map(names_of, some))

    session = Wire(Scripted(answer, piece=5000), lambda: 0)  # type: ignore[arg-type]
    found = session.listing(b"d")
    assert [name for name, _ in found] == [b"n%d" % n for n in range(5000)]
    assert all(attributes.is_file for _, attributes in found)
    assert 50 < asked < 70
    session.remove(b"x")


def test_a_listing_that_is_refused_in_the_middle_is_no_listing() -> None:
    asked = 0

    def answer(kind: int, number: int, body: bytes) -> bytes:
        nonlocal asked
        if kind == 11:
            return struct.pack(">BII", 102, number, 1) + b"h"
        if kind != 12:
            return status(number, 0)
        asked += 1
        if asked == 3:
            return status(number, 4, b"Failure")
        return struct.pack(">BII", 104, number, 1) + names_of(b"n")

    session = wire(answer)
    with pytest.raises(StatusError, match="Failure"):
        session.listing(b"d")
    session.remove(b"x")


def test_a_server_that_prints_is_told_from_one_that_speaks() -> None:
    class Shell(Scripted):
        def send(self, data: bytes) -> int:
            self._out = b"Welcome to the store!\n"
            return len(data)

    with pytest.raises(ConnectionLostError, match="login script"):
        Wire(Shell(lambda *_: b""), lambda: 0)  # type: ignore[arg-type]


def test_an_end_in_the_middle_is_said() -> None:
    session = wire(lambda kind, number, body: status(number, 0))
    session._channel.send = len  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionLostError, match="ended the connection"):
        session.remove(b"x")
