from __future__ import annotations

import base64
import json

import pytest

from artifactd.doctor import ends
from artifactd.doctor.finding import Level

NOW = 1_769_877_000.0
"""2026-01-31 16:30 UTC."""


def jwt(claims: object) -> str:
    """A token of which nobody checks the signature."""
    parts = [json.dumps(part).encode() for part in ({"alg": "x"}, claims)]
    return ".".join([base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts] + ["c2lnbmF0dXJl"])


@pytest.mark.parametrize("end", [1, NOW, 2e9])
def test_the_end_of_a_token(end: float) -> None:
    assert ends.of_jwt(jwt({"exp": end, "sub": "me"})) == end


@pytest.mark.parametrize(
    "token",
    [
        "",
        "secret",
        "a.b.c",
        "a.!.c",
        *map(jwt, ({}, {"exp": "soon"}, {"exp": None}, {"exp": 1e999}, {"exp": 10**400}, [1], "exp")),
    ],
)
def test_a_token_of_another_kind_has_none(token: str) -> None:
    assert ends.of_jwt(token) is None


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-01-31T16:30:00Z", NOW),
        ("2026-01-31T17:30:00+01:00", NOW),
        ("2026-01-31 16:30:00", NOW),
        ("2026-01-31T16:30:00UTC", NOW),
        ("1769877000", NOW),
        ("1712011500", 1_712_011_500.0),
        (" 2026-01-31T16:30Z ", NOW),
        ("2026-01-31", NOW - 16.5 * 3600),
        ("soon", None),
        ("", None),
    ],
)
def test_moments_as_tools_write_them(text: str, end: float | None) -> None:
    assert ends.of_text(text) == end


@pytest.mark.parametrize(
    ("connection", "end"),
    [
        ("BlobEndpoint=https://a;SharedAccessSignature=sv=2022-11-02&se=2026-01-31T16%3A30%3A00Z&sig=x%3D%3D", NOW),
        ("sharedaccesssignature=?sig=x&se=2026-01-31T16:30Z;BlobEndpoint=https://a", NOW),
        ("BlobEndpoint=https://a;SharedAccessSignature=si=policy&sig=x", None),
        ("AccountName=a;AccountKey=c2U9MjAyNg==", None),
        ("", None),
    ],
)
def test_the_end_of_a_shared_access_signature(connection: str, end: float | None) -> None:
    assert ends.of_sas(connection) == end


@pytest.mark.parametrize(
    ("end", "level", "says"),
    [
        (NOW - 7200, Level.WRONG, "it ended 2h ago (2026-01-31 14:30 UTC)"),
        (NOW + 7200, Level.NOTICE, "it lasts for 2h (2026-01-31 18:30 UTC)"),
        (NOW + 5 * 86_400, Level.OK, "it lasts for 5d"),
        (None, Level.OK, "until when it lasts does not stand there"),
        (1e300, Level.OK, "it lasts for"),
    ],
)
def test_what_is_made_of_it(end: float | None, level: Level, says: str) -> None:
    found = ends.lasting("credentials", "it", end, NOW, cure="Set new ones")
    assert found.level is level
    assert says in found.detail
    assert found.cure == ("" if level is Level.OK else "Set new ones")
