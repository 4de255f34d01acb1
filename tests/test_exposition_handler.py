"""Requests as bytes to answers as bytes: who is answered, and with which headers."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from artifactd.exposition.asked import Answer, Asked
from artifactd.exposition.handler import Door, Reply, reply


def seen(asked: Asked) -> Answer:
    return Answer(200, "text/plain", repr(dict(asked.query)).encode(), "default-src 'self'")


def ask(
    door: Door | None = None, path: str = "/page", method: str = "GET", *, room: bool = True, **headers: str
) -> Reply:
    given = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    names = frozenset({"localhost"})
    return reply("\r\n".join(lines).encode("latin-1"), door or Door({"/page": seen}, None, names, "/events"), room=room)


def status(answer: Reply) -> int:
    return int(answer.said.split(b" ", 2)[1])


def test_headers_hold_a_browser_to_what_is_meant() -> None:
    said = ask().said
    for line in (
        b"Content-Security-Policy: default-src 'self'", b"X-Content-Type-Options: nosniff", b"Cache-Control: no-store",
        b"Referrer-Policy: no-referrer", b"X-Frame-Options: DENY", b"Cross-Origin-Resource-Policy: same-origin",
    ):  # fmt: skip
        assert said.count(line + b"\r\n") == 1
    assert b"Access-Control" not in said


def test_a_query_is_read_with_its_last_values_and_may_not_be_endless() -> None:
    assert ask(path="/page?text=a%20%3C&x=1&x=2").said.endswith(b"{'text': 'a <', 'x': '2'}")
    assert status(ask(path="/page?" + "x" * 5000)) == 414
    assert status(ask(path="http://[")) == 400
    assert ask(path="/page?text=%ff%00&x=%26").said.endswith(repr({"text": "\ufffd\0", "x": "&"}).encode())


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_from_elsewhere_is_not_answered_but_a_link_may_lead_here(site: str) -> None:
    assert status(ask(Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script")) == 403
    assert status(ask(path="/events", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors", Sec_Fetch_Dest="empty")) == 403
    assert status(ask(Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")) == 403
    assert status(ask(Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")) == 200
    assert status(ask(Sec_Fetch_Site="same-origin")) == status(ask(Sec_Fetch_Site="none")) == 200


def test_what_goes_on_has_no_length_and_takes_room() -> None:
    answer = ask(path="/events")
    assert answer.goes_on
    assert b"text/event-stream" in answer.said
    assert b"Content-Length" not in answer.said
    assert not ask(path="/events", method="HEAD").goes_on
    full = ask(path="/events", room=False)
    assert (status(full), full.goes_on) == (503, False)
    assert status(ask(Door({"/page": seen}), path="/events")) == 404


def test_a_browser_shows_the_token_as_its_password(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sésame:1\n")
    door = Door({"/page": seen}, file, None, "/events")

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert status(ask(door, Authorization=basic("anybody:sésame:1"))) == 200
    assert status(ask(door, Authorization=basic(":sésame:1"))) == 200
    assert ask(door, path="/events", Authorization=basic(":sésame:1")).goes_on
    for wrong in (basic("sésame:1"), basic("sésame:1:"), basic("x:y"), basic(""), "Basic", "Basic !", "Digest x"):
        answer = ask(door, Authorization=wrong)
        assert (status(answer), answer.goes_on) == (401, False)
        assert b'WWW-Authenticate: Basic realm="artifactd"' in answer.said
        assert b"WWW-Authenticate: Bearer" in answer.said
    assert status(ask(door, path="/events")) == status(ask(door, path="/page?token=s%C3%A9same:1")) == 401
    file.write_text("")
    assert status(ask(door, Authorization=basic("x:"))) == 401


@pytest.mark.parametrize(
    "head", [b"\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\n\n"]
)
def test_what_is_no_request_is_no_harm(head: bytes) -> None:
    assert not reply(head, Door({"/page": seen})).goes_on
