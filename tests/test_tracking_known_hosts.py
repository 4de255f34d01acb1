"""Known hosts as OpenSSH means them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from artifactd.tracking import known_hosts
from artifactd.tracking.known_hosts import Verdict

KEY, OTHER = b"\0\0\0\x0bssh-ed25519" + b"k" * 36, b"\0\0\0\x0bssh-ed25519" + b"o" * 36


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
        ("store ssh-ed25519 caf\u00e9\n" + line("store"), Verdict.KNOWN),
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
