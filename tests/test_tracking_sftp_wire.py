"""SFTP's protocol, answered by a script: in pieces, short, refused, ended."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.tracking.sftp_packets import ConnectionLostError, StatusError
from artifactd.tracking.sftp_wire import STATVFS, Wire


class Scripted:
    """A channel that answers each packet by a function; in pieces, as a network does."""

    def __init__(self, answer: Callable[[int, int, bytes], bytes], *, piece: int = 7) -> None:
        self._answer, self._piece = answer, piece
        self._sent, self._out = b"", b""

    def settimeout(self, seconds: float | None) -> None:
        pass

    def send(self, data: bytes) -> int:
        taken = data[: self._piece * 1000]
        self._sent += taken
        while len(self._sent) >= 4 and len(self._sent) >= 4 + int.from_bytes(self._sent[:4]):
            size = int.from_bytes(self._sent[:4])
            packet, self._sent = self._sent[4 : 4 + size], self._sent[4 + size :]
            if packet[0] == 1:
                self._out += struct.pack(">IBI", 5, 2, 3)
            else:
                answer = self._answer(packet[0], int.from_bytes(packet[1:5]), packet[5:])
                self._out += struct.pack(">I", len(answer)) + answer
        return len(taken)

    def recv(self, size: int) -> bytes:
        taken, self._out = self._out[: self._piece], self._out[self._piece :]
        return taken


def wire(answer: Callable[[int, int, bytes], bytes]) -> Wire:
    return Wire(Scripted(answer), lambda: 0)  # type: ignore[arg-type]


def status(number: int, code: int, text: bytes = b"") -> bytes:
    return struct.pack(">BIII", 101, number, code, len(text)) + text + struct.pack(">I", 0)


def test_a_refused_write_among_many_is_not_lost() -> None:
    asked = []

    def answer(kind: int, number: int, body: bytes) -> bytes:
        asked.append(number)
        return status(number, 4 if len(asked) == 3 else 0, b"Failure")

    session = wire(answer)
    with pytest.raises(StatusError, match="Failure"):
        session.write(b"h", io.BytesIO(bytes(8 * 32 * 1024)))
    assert len(asked) == 8
    session.remove(b"x")  # each answer was read: the session is well


def test_a_source_that_fails_leaves_the_session_well() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 100_000:
                raise OSError("the disk")
            return super().read(size)

    session = wire(lambda kind, number, body: status(number, 0))
    with pytest.raises(OSError, match="the disk"):
        session.write(b"h", Failing(bytes(200_000)))
    session.remove(b"x")


@given(st.binary(max_size=300_000), st.integers(min_value=1, max_value=40_000))
def test_short_answers_to_reads_are_completed_in_order(content: bytes, most: int) -> None:
    def answer(kind: int, number: int, body: bytes) -> bytes:
        if kind == 3:
            return struct.pack(">BII", 102, number, 1) + b"h"
        if kind == 5:
            offset, length = struct.unpack(">QI", body[-12:])
            data = content[offset : offset + min(length, most + offset % 5)]
            return struct.pack(">BII", 103, number, len(data)) + data if data else status(number, 1)
        return status(number, 0)

    target = io.BytesIO()
    assert Wire(Scripted(answer, piece=5000), lambda: 0).read(b"f", target) == len(content)  # type: ignore[arg-type]
    assert target.getvalue() == content


def names_of(text: bytes) -> bytes:
    size = struct.pack(">I", len(text))
    return size + text + size + text + struct.pack(">II", 4, 0o100644)


def test_a_long_listing_is_asked_for_ahead_and_complete() -> None:
    left = [b"n%d" % n for n in range(5000)]
    asked = 0

    def answer(kind: int, number: int, body: bytes) -> bytes:
        nonlocal asked
        if kind == 11:
            return struct.pack(">BII", 102, number, 1) + b"h"
        if kind != 12:
            return status(number, 0)
        asked += 1
        some, left[:100] = left[:100], []
        if not some:
            return status(number, 1, b"End of file")
        return struct.pack(">BII", 104, number, len(some)) + b"".join(map(names_of, some))

    session = Wire(Scripted(answer, piece=5000), lambda: 0)  # type: ignore[arg-type]
    found = session.listing(b"d")
    assert [name for name, _ in found] == [b"n%d" % n for n in range(5000)]
    assert all(attributes.is_file for _, attributes in found)
    assert 50 < asked < 70
    session.remove(b"x")


def test_a_listing_that_is_refused_in_the_middle_is_no_listing() -> None:
    asked = 0

    def answer(kind: int, number: int, body: bytes) -> bytes:
        nonlocal asked
        if kind == 11:
            return struct.pack(">BII", 102, number, 1) + b"h"
        if kind != 12:
            return status(number, 0)
        asked += 1
        if asked == 3:
            return status(number, 4, b"Failure")
        return struct.pack(">BII", 104, number, 1) + names_of(b"n")

    session = wire(answer)
    with pytest.raises(StatusError, match="Failure"):
        session.listing(b"d")
    session.remove(b"x")


def test_a_server_that_prints_is_told_from_one_that_speaks() -> None:
    class Shell(Scripted):
        def send(self, data: bytes) -> int:
            self._out = b"Welcome to the store!\n"
            return len(data)

    with pytest.raises(ConnectionLostError, match="login script"):
        Wire(Shell(lambda *_: b""), lambda: 0)  # type: ignore[arg-type]


def test_an_end_in_the_middle_is_said() -> None:
    session = wire(lambda kind, number, body: status(number, 0))
    session._channel.send = len  # type: ignore[method-assign,assignment]
    with pytest.raises(ConnectionLostError, match="ended the connection"):
        session.remove(b"x")


@pytest.mark.parametrize("reply", [b"", bytes(87)])
def test_room_that_is_told_in_part_ends_the_connection(reply: bytes) -> None:
    session = wire(lambda kind, number, body: struct.pack(">BI", 201, number) + reply)
    session.extensions[STATVFS] = b"2"
    with pytest.raises(ConnectionLostError, match="does not answer as an SFTP server"):
        session.space(b"d")
