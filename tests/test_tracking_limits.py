"""The largest body: found to the byte by announcements alone, whatever answers them; nginx itself stands in stores/."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from artifactd.tracking import limits
from support import free_port


@contextmanager
def gateway(limit: int) -> Iterator[tuple[str, list[int]]]:
    """A web server that compares the announced length before anything else; notes bytes that came after the head."""
    bodies: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_expect_100(self) -> bool:
            self.send_response_only(413 if int(self.headers["Content-Length"]) > limit else 100)
            self.end_headers()
            bodies.append(len(self.rfile.read()))  # until the asker hangs up
            self.close_connection = True
            return False

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}/prefix/", bodies
        finally:
            httpd.shutdown()
            thread.join()


@pytest.mark.parametrize("limit", [0, 1, 10**6, 2**20, 2**31, 2**40 + 7, limits.LARGEST - 1])
def test_it_is_found_to_the_byte_and_no_byte_of_a_body_is_sent(limit: int) -> None:
    with gateway(limit) as (uri, bodies):
        assert limits.largest_body(uri) == limit
        assert limits.refuses(uri, limit) is False
        assert limits.refuses(uri, limit + 1) is True
    assert set(bodies) == {0}


def test_who_takes_more_than_any_upload_has_no_limit() -> None:
    with gateway(limits.LARGEST) as (uri, _):
        assert limits.largest_body(uri) is None


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """Something that says this to whoever connects, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answering() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(answer)

        thread = threading.Thread(target=answering)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x03\x00\x02\x02\x50"])
def test_from_what_is_no_web_server_nothing_is_learnt(answer: bytes) -> None:
    with saying(answer) as uri:
        assert limits.refuses(uri, 1) is None


def test_a_silent_server_holds_nobody_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert limits.largest_body(f"http://127.0.0.1:{silent.getsockname()[1]}") is None
        assert time.monotonic() - begun < 15


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{}", "http://127.0.0.1:x", "http://", "https://"])
def test_where_nobody_answers_nothing_is_learnt(uri: str) -> None:
    assert limits.refuses(uri.format(free_port()), 1) is None
