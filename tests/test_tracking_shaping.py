"""Sockets that keep to a limit: plain and TLS, whichever way bytes are given to them, and files that need none."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd import throttle
from artifactd.delivery.hashing import digest_of
from artifactd.throttle import BURST, PIECE_SECONDS, Shared
from artifactd.tracking import shaping, steady
from stores.tls import make_certificate

MIB = 2**20
RATE = 4 * MIB
SIZE = 3 * MIB
LEAST = SIZE / RATE - BURST - 2 * PIECE_SECONDS
"""Seconds that it takes at least."""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    """Limits that this process keeps to until the test is over."""
    for kind, name in ((socket.socket, "send"), (socket.socket, "sendall"), (ssl.SSLSocket, "send")):
        monkeypatch.setattr(kind, name, getattr(kind, name))
    monkeypatch.setattr(throttle, "here", None)
    monkeypatch.setattr(shaping, "_installed", False)
    made = Shared()
    shaping.install(made)
    yield made
    made.close()


class Pair:
    """Two ends of a connection, and a thread that takes what comes at the other."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.ours, self._theirs = ours, theirs
        self.came = bytearray()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while block := self._theirs.recv(MIB):
            self.came += block

    def close(self) -> None:
        self.ours.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self.ours.close()
        self._theirs.close()


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs = listening.accept()[0]
    if request.param == "tls":
        made = make_certificate(tmp_path)
        here, there = ssl.create_default_context(cafile=made.ca), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        there.load_cert_chain(made.chain, made.key)
        met: list[socket.socket] = []
        thread = threading.Thread(target=lambda: met.append(there.wrap_socket(theirs, server_side=True)))
        thread.start()
        ours = here.wrap_socket(ours, server_hostname="127.0.0.1")
        thread.join(20)
        (theirs,) = met
    both = Pair(ours, theirs)
    yield both
    both.close()


def _by_send(ours: socket.socket, data: bytes) -> None:
    while data:
        data = data[ours.send(data) :]


def _by_sendall(ours: socket.socket, data: bytes) -> None:
    assert ours.sendall(data) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("give", [_by_send, _by_sendall])
@pytest.mark.parametrize("which", ["line", "reading"])
def test_bytes_go_out_whole_and_no_faster_than_the_limit(
    shared: Shared, pair: Pair, give: Callable[[socket.socket, bytes], None], which: str
) -> None:
    data = os.urandom(SIZE)
    getattr(shared, which).rate = RATE
    begun = time.monotonic()
    give(pair.ours, data)
    assert time.monotonic() - begun > LEAST
    pair.ours.shutdown(socket.SHUT_WR)
    pair._thread.join(20)
    assert pair.came == data


def test_the_limit_is_for_all_connections_together(shared: Shared) -> None:
    shared.line.rate = RATE
    pairs = [Pair(*socket.socketpair()) for _ in range(3)]
    begun = time.monotonic()
    threads = [threading.Thread(target=pair.ours.sendall, args=(bytes(SIZE // 3),)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert time.monotonic() - begun > LEAST
    for pair in pairs:
        pair.close()


def test_odd_buffers_and_nothing_go_out_as_ever(shared: Shared, pair: Pair) -> None:
    shared.line.rate = RATE
    pair.ours.sendall(b"")
    pair.ours.sendall(memoryview(bytearray(b"abcd")).cast("H"))
    pair.ours.sendall(bytearray(b"ef"))
    assert pair.ours.send(b"") == 0
    pair.ours.shutdown(socket.SHUT_WR)
    pair._thread.join(20)
    assert pair.came == b"abcdef"


def test_the_wait_is_no_part_of_a_sockets_timeout(shared: Shared, pair: Pair) -> None:
    shared.line.rate = RATE
    pair.ours.settimeout(LEAST / 2)
    pair.ours.sendall(bytes(SIZE))


def test_a_limit_of_nothing_lets_all_pass(shared: Shared, pair: Pair) -> None:
    pair.ours.sendall(bytes(SIZE))
    assert shared.line._numbers[shared.line._free_at] == 0


@pytest.mark.parametrize("which", ["line", "reading"])
@pytest.mark.parametrize("way", ["read", "pour"])
def test_a_copy_into_a_folder_keeps_to_both(shared: Shared, tmp_path: Path, which: str, way: str) -> None:
    getattr(shared, which).rate = RATE
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content := os.urandom(SIZE))
    begun = time.monotonic()
    with (
        steady.steady(str(source), SIZE, lambda: True, local=True),
        steady.opened(str(source)) as stream,
        target.open("wb") as out,
    ):
        if way == "read":
            while block := stream.read(MIB):
                out.write(block)
        else:
            while stream.pour(out.fileno()):
                pass
    assert time.monotonic() - begun > LEAST
    assert target.read_bytes() == content


def test_what_a_socket_will_send_is_not_counted_as_it_is_read(shared: Shared, tmp_path: Path) -> None:
    shared.line.rate = shared.reading.rate = 1
    source = tmp_path / "source"
    source.write_bytes(bytes(SIZE))
    with steady.steady(str(source), SIZE, lambda: True), steady.opened(str(source)) as stream:
        assert len(stream.read()) == SIZE


def test_hashing_keeps_to_the_limit_of_reading_alone(shared: Shared, tmp_path: Path) -> None:
    shared.line.rate, shared.reading.rate = 1, RATE
    source = tmp_path / "source"
    source.write_bytes(bytes(SIZE))
    begun = time.monotonic()
    with source.open("rb") as stream:
        digest_of(stream.fileno(), None)
    assert time.monotonic() - begun > LEAST
