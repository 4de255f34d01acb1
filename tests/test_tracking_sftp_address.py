"""SFTP's URLs, and what OpenSSH's configuration says beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.errors import DeliveryError, Kind
from artifactd.tracking import sftp, sftp_address
from artifactd.tracking.sftp_address import Place, parse, resolve

SECRET = "hunter2/@:%#"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sftp_address, "SYSTEM_CONFIG", str(tmp_path / "ssh_config"))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


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
