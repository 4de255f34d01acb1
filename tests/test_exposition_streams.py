"""Those who listen are told what changes, are few, and are waited for by nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from artifactd.exposition import streams
from artifactd.exposition.streams import MOST, Stream, Streams


class Bench:
    def __init__(self) -> None:
        self.news = b'{"n":1}'
        self.left: list[socket.socket] = []
        self.unheard = 0
        self.others: list[socket.socket] = []
        self.streams = Streams(Stream("/events", lambda: self.news, self._unheard), self._leave)

    def _unheard(self) -> None:
        self.unheard += 1

    def _leave(self, line: socket.socket) -> None:
        self.left.append(line)
        line.close()

    def join(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.others.append(theirs)
        theirs.settimeout(5)
        self.streams.add(ours)
        return theirs

    def turn(self) -> None:
        self.streams._next = 0.0
        self.streams.turn()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.streams.close()
    for line in made.others:
        line.close()


def test_each_is_told_at_once_and_then_what_changes(bench: Bench) -> None:
    assert bench.streams.wait is None
    first = bench.join()
    bench.streams.turn()
    assert first.recv(1000) == b'data: {"n":1}\n\n'
    bench.turn()
    second = bench.join()
    bench.streams.turn()
    assert second.recv(1000) == b'data: {"n":1}\n\n'
    bench.news = b'{"n":2}'
    bench.turn()
    assert first.recv(1000) == second.recv(1000) == b'data: {"n":2}\n\n'
    assert bench.streams.wait is not None
    assert 0 < bench.streams.wait <= streams.EVERY


def test_silence_is_broken_by_a_sign_of_life(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    line = bench.join()
    bench.streams.turn()
    line.recv(1000)
    monkeypatch.setattr(streams, "STILL", 0.0)
    bench.turn()
    assert line.recv(1000) == b":\n\n"


def test_who_went_away_or_does_not_keep_up_is_left(bench: Bench) -> None:
    gone, slow, there = bench.join(), bench.join(), bench.join()
    gone.close()
    bench.turn()
    bench.news = b"x" * 10_000_000
    bench.turn()
    assert len(bench.left) == 3  # nobody takes ten megabytes at once
    assert (len(bench.streams), bench.unheard) == (0, 1)
    del slow, there


def test_they_are_few_and_come_again_after_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(MOST):
        assert bench.streams.room
        bench.join()
    assert not bench.streams.room
    bench.turn()
    monkeypatch.setattr("time.monotonic", lambda: 2.0**31)
    bench.turn()
    assert len(bench.streams) == 0
