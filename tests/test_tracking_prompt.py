"""A server that sends headers and body apart is not kept waiting for the word that the headers came."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3

from artifactd.tracking.prompt import acknowledge_at_once

REQUESTS = 25
DELAY = 0.04
"""Seconds that Linux may keep an acknowledgement back, at least."""


@pytest.fixture
def halting() -> Iterator[int]:
    """The port of a server with Nagle's algorithm, as asyncio leaves it on for sockets of protocol 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            line, _ = listening.accept()
            with line:
                while line.recv(65536):
                    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                    line.send(b"{}")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)
    assert not thread.is_alive()


def test_a_body_is_not_kept_back(halting: int) -> None:
    acknowledge_at_once()
    acknowledge_at_once()
    with urllib3.HTTPConnectionPool("127.0.0.1", halting) as pool:
        took = []
        for _ in range(REQUESTS):
            begun = time.monotonic()
            assert pool.request("GET", "/").data == b"{}"
            took.append(time.monotonic() - begun)
        assert pool.num_connections == 1
    assert statistics.median(took) < DELAY
