"""Who is answered over HTTP, and who is not."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artifactd.errors import ArtifactdError
from artifactd.exposition.asked import Answer, Asked
from artifactd.exposition.listener import PATIENCE, Listener
from artifactd.exposition.streams import MOST, Stream
from support import wait_for

Made = Callable[..., Listener]

LARGE = b"x" * (32 << 20)


@pytest.fixture
def listening() -> Iterator[Made]:
    made: list[Listener] = []
    ended: list[bool] = []

    def make(listen: str = "127.0.0.1:0", token_file: Path | None = None) -> Listener:
        def broken(_asked: Asked) -> Answer:
            raise ValueError("the page is broken")

        def metrics(asked: Asked) -> Answer:
            return Answer(200, "text/plain", f"for {asked.accept}".encode())

        def large(_asked: Asked) -> Answer:
            return Answer(200, "text/plain", LARGE)

        pages = {"/metrics": metrics, "/broken": broken, "/large": large}
        made.append(Listener(listen, pages, lambda: ended.append(True), token_file))
        return made[-1]

    yield make
    for listener in made:
        listener.close()
        assert listener.failure is None
    assert ended == [True] * len(made)


def _answered(line: http.client.HTTPConnection) -> int:
    line.request("GET", "/events")
    return line.getresponse().status


def ask(
    listener: Listener, path: str = "/metrics", method: str = "GET", host: str | None = None, **headers: str
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)) as line:
        line.putrequest(method, path, skip_host=host is not None)
        if host is not None:
            line.putheader("Host", host)
        for name, value in headers.items():
            line.putheader(name, value)
        line.endheaders()
        answer = line.getresponse()
        assert answer.getheader("X-Content-Type-Options") == "nosniff" or answer.status >= 400
        return answer.status, answer.read()


def test_it_answers_and_says_what_else_there_is(listening: Made) -> None:
    listener = listening()
    assert ask(listener, Accept="text/x") == (200, b"for text/x")
    assert ask(listener, "/metrics?x=1#y") == (200, b"for ")
    assert ask(listener, method="HEAD") == (200, b"")
    assert ask(listener, "/") == (404, b"there is /broken, /large, /metrics\n")
    assert ask(listener, "/../metrics")[0] == 404
    assert ask(listener, method="POST")[0] == ask(listener, method="DELETE")[0] == 501


@pytest.mark.parametrize("host", ["localhost", "localhost:9464", "127.0.0.1:1", "[::1]:9464", "LOCALHOST"])
def test_it_is_called_by_a_name_of_this_machine(host: str, listening: Made) -> None:
    assert ask(listening(), host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:9464", "localhost.evil.example", "", "[::1", "@"]
)
def test_by_another_name_nobody_is_answered(host: str, listening: Made) -> None:
    """A page of a foreign name that leads here is refused: its browser would hand it the answer."""
    assert ask(listening(), host=host)[0] == 421


def test_who_must_show_a_token_is_answered_with_it_alone(listening: Made, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sesame\n")
    listener = listening(token_file=file)
    assert ask(listener, Authorization="Bearer sesame")[0] == 200
    for wrong in ("", "Bearer", "Bearer ", "Bearer sesam", "Basic sesame", "sesame", "Bearer sésame"):
        status, said = ask(listener, Authorization=wrong.encode().decode("latin-1"))
        assert (status, b"sesame" in said) == (401, False)
    file.write_text("another")
    assert ask(listener, Authorization="Bearer another")[0] == 200
    assert ask(listener, Authorization="Bearer sesame")[0] == 401
    file.write_text("")
    assert ask(listener, Authorization="Bearer ")[0] == 401
    file.unlink()
    assert ask(listener, Authorization="Bearer another")[0] == 503


def test_a_page_that_breaks_takes_nobody_with_it(listening: Made) -> None:
    listener = listening()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(listener, "/broken")
    assert ask(listener)[0] == 200


def test_those_who_say_nothing_or_half_hold_nobody_up_and_are_left_after_a_while(
    listening: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artifactd.exposition.listener.PATIENCE", 4.0)
    listener = listening()
    lines = [socket.create_connection(("127.0.0.1", listener.port), timeout=10) for _ in range(70)]
    for line in lines[::2]:
        with contextlib.suppress(OSError):  # the first ones gave way to the last
            line.sendall(b"GET /metrics HTTP/1.1\r\nHost: local")
    begun = time.monotonic()
    assert ask(listener)[0] == 200
    assert time.monotonic() - begun < 3
    for line in lines:
        with closing(line), contextlib.suppress(ConnectionResetError):
            assert line.recv(100) == b""


def test_one_who_takes_no_answer_holds_nobody_up_and_one_who_takes_it_slowly_has_the_whole(listening: Made) -> None:
    listener = listening()
    lines = [socket.create_connection(("127.0.0.1", listener.port), timeout=10) for _ in range(4)]
    for line in lines:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    slow = lines[0]
    taken = slow.recv(100)  # it is answered, and there is more of it than lies in any buffer
    begun = time.monotonic()
    assert ask(listener)[0] == 200
    assert time.monotonic() - begun < PATIENCE / 2
    while piece := slow.recv(1 << 20):
        taken += piece
    assert taken.endswith(b"\r\n\r\n" + LARGE)
    for line in lines:
        line.close()
    assert ask(listener)[0] == 200


def test_an_address_that_cannot_be_had_is_said(listening: Made) -> None:
    taken = listening()
    with pytest.raises(ArtifactdError) as caught:
        listening(f"127.0.0.1:{taken.port}")
    assert f"127.0.0.1:{taken.port}" in caught.value.problem
    assert "in use" in caught.value.problem
    with pytest.raises(ArtifactdError):
        listening("192.0.2.1:9464")


def test_it_listens_by_the_other_protocol_too(listening: Made) -> None:
    try:
        listener = listening("[::1]:0")
    except ArtifactdError:
        pytest.skip("there is no IPv6 here")
    with closing(http.client.HTTPConnection("::1", listener.port, timeout=10)) as line:
        line.request("GET", "/metrics")
        assert line.getresponse().status == 200


def test_who_listens_is_told_what_goes_on_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifactd.exposition.streams.EVERY", 0.05)
    said, unheard = [b"1"], []
    stream = Stream("/events", lambda: said[-1], lambda: unheard.append(True))
    listener = Listener("127.0.0.1:0", {}, lambda: None, None, stream)
    try:
        assert listener._wait() is None  # it sleeps until somebody calls
        lines = [socket.create_connection(("127.0.0.1", listener.port), timeout=10) for _ in range(MOST)]
        readers = [line.makefile("rb") for line in lines]
        for line, reader in zip(lines, readers, strict=True):
            line.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while reader.readline() != b"\r\n":
                pass
            assert reader.readline() == b"data: 1\n"
        assert ask(listener, "/events")[0] == 503
        said.append(b"2")
        for reader in readers:
            assert reader.readline() == b"\n"
            assert reader.readline() == b"data: 2\n"
        readers[0].close()
        lines[0].close()
        with closing(http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)) as again:
            wait_for(lambda: _answered(again) == 200, "there is room")
    finally:
        listener.close()
    for line, reader in zip(lines[1:], readers[1:], strict=True):
        assert reader.read() == b"\n"
        reader.close()
        line.close()
    assert (listener.failure, unheard) == (None, [True])


def test_news_that_break_end_the_streams_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bytes:
        raise ValueError("the news are broken")

    listener = Listener("127.0.0.1:0", {}, lambda: None, None, Stream("/events", broken, lambda: None))
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)) as line:
            line.request("GET", "/events")
            assert line.getresponse().read() == b""
        assert ask(listener, "/events")[0] == 200
    finally:
        listener.close()
    assert listener.failure is None
