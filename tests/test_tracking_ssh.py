"""A send to a server that takes nothing ends; one that takes little, now and then, does not."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from artifactd.tracking import ssh

BLOCK = b"x" * 2**20


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ssh._Socket, socket.socket]]:
    """Our end and the server's, which takes little at once, with paramiko's timeout on ours."""
    monkeypatch.setattr(ssh, "_STUCK_SECONDS", 1.0)
    with contextlib.ExitStack() as ends:
        listener = ends.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = ends.enter_context(ssh._Socket())
        ours.connect(listener.getsockname())
        ours.settimeout(0.1)
        theirs = ends.enter_context(listener.accept()[0])
        yield ours, theirs


def goes_out(ours: ssh._Socket) -> bool:
    """Whether something of a send did, in paramiko's tenth of a second."""
    try:
        ours.send(BLOCK)
    except TimeoutError:
        return False
    return True


def send_on(ours: ssh._Socket, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        goes_out(ours)


def fill(ours: ssh._Socket) -> None:
    while goes_out(ours):
        pass


def test_a_send_of_which_nothing_is_taken_ends(line: tuple[ssh._Socket, socket.socket]) -> None:
    ours, _ = line
    fill(ours)
    begun = time.monotonic()
    with pytest.raises(ConnectionAbortedError, match="nothing was taken"):
        send_on(ours, 10)
    assert time.monotonic() - begun >= 0.9


def test_a_send_of_which_little_is_taken_goes_on(line: tuple[ssh._Socket, socket.socket]) -> None:
    ours, theirs = line
    fill(ours)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        theirs.recv(8192)
        goes_out(ours)
