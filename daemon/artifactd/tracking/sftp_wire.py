"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02), over a channel of an SSH connection.

paramiko speaks it too, but drops the answers to the last hundred pipelined writes (a full disk passes for a success),
which extensions the server has, and the number of a refusal; and its prefetching leaves a thread behind that spins when
the connection dies. Here each answer is read, names are bytes, and a silence has an end.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from artifactd.tracking.sftp_packets import (
    CREATE_NEW,
    FOR_READING,
    Attributes,
    Code,
    ConnectionLostError,
    Fields,
    Packet,
    Space,
    expect,
    pairs,
    refuse,
    text,
)

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite
    from paramiko import Channel

T = TypeVar("T", int, bytes)

SILENCE = 12.0
"""Seconds in which nothing moves after which a connection counts as dead."""

_TICK = 1.0
_MOVED = 1024
"""Bytes within `SILENCE` that count as moving: less is the small talk of a connection that keeps itself alive."""

_BLOCK = 32 * 1024
"""Bytes in a request that every server takes."""

_MOST_IN_BLOCK = 255 * 1024
_IN_FLIGHT = 4 * 2**20
"""Bytes sent, or asked for, and not answered."""

_LISTING_AHEAD = 16
"""Requests for a part of a listing, each of about a hundred names, not answered."""

_PACKET = 32 * 1024 - 64
"""Bytes that paramiko gives away at once."""

_MOST_IN_PACKET = 16 * 2**20
_VERSION = 3

FSYNC = "fsync@openssh.com"
POSIX_RENAME = "posix-rename@openssh.com"
STATVFS = "statvfs@openssh.com"
_LIMITS = "limits@openssh.com"


class Wire:
    """One SFTP session. For one thread at a time.

    Args:
        channel: With the subsystem started.
        moved: Bytes that the connection's other end has taken or sent so far, as the kernel knows.

    Attributes:
        extensions: What the server offers beyond the protocol, by name.

    Raises:
        ConnectionLostError: From every method.
        StatusError: From every method that asks for something.
    """

    def __init__(self, channel: Channel, moved: Callable[[], int]) -> None:
        self._channel = channel
        self._moved = moved
        self._came = bytearray()
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._number = 0
        channel.settimeout(_TICK)
        self._put(struct.pack(">BI", Packet.INIT, _VERSION))
        kind, answer = self._packet(SILENCE)
        if kind != Packet.VERSION_IS or len(answer) < 4:
            raise ConnectionLostError("it does not answer as an SFTP server")
        self.extensions = dict(pairs(Fields(answer[4:])))
        self._read_block, self._write_block = self._limits()

    # -- requests ------------------------------------------------------------------------------------------------

    def create(self, path: bytes) -> bytes:
        """Make a new file and open it for writing: its handle. One that stands there is refused."""
        return self._handle(Packet.OPEN, text(path) + struct.pack(">II", CREATE_NEW, 0))

    def open(self, path: bytes) -> bytes:
        """Open a file for reading: its handle."""
        return self._handle(Packet.OPEN, text(path) + struct.pack(">II", FOR_READING, 0))

    def close(self, handle: bytes, patience: float = SILENCE) -> None:
        """Close a file or a listing."""
        self._do(Packet.CLOSE, text(handle), patience)

    def write(self, handle: bytes, source: SupportsRead[bytes]) -> int:
        """Write all that `source` gives, many requests at a time, each answer read.

        Returns:
            Bytes.

        Raises:
            Exception: Whatever `source` raises; the session stays well.
        """
        pending: deque[tuple[int, int]] = deque()
        offset = answered = 0
        try:
            while block := source.read(self._write_block):
                number = self._send(Packet.WRITE, text(handle) + struct.pack(">QI", offset, len(block)), block)
                pending.append((number, len(block)))
                offset += len(block)
                while offset - answered > _IN_FLIGHT:
                    number, size = pending.popleft()
                    answered += size
                    self._done(number)
            while pending:
                self._done(pending.popleft()[0])
        except ConnectionLostError:
            raise
        except Exception:
            for number, _ in pending:
                self._answer(number)
            raise
        return offset

    def finish(self, handle: bytes, path: bytes, patience: float) -> Attributes:
        """Have a written file reach the disk, close it, and look at it: one round trip.

        Args:
            handle: Of the file.
            path: Its path.
            patience: Seconds; a big file may take the server's disk a while.
        """
        numbers = []
        if FSYNC in self.extensions:
            numbers.append(self._send(Packet.EXTENDED, text(FSYNC.encode()) + text(handle)))
        numbers += self._send(Packet.CLOSE, text(handle)), self._send(Packet.LSTAT, text(path))
        *statuses, looked = [self._answer(number, patience) for number in numbers]
        for kind, answer in statuses:
            if kind == Packet.STATUS:
                refuse(answer, unless=Code.OP_UNSUPPORTED)
        return expect(Packet.ATTRS, *looked).attributes()

    def read(self, path: bytes, target: SupportsWrite[bytes]) -> int:
        """Bring a file, many requests at a time.

        Returns:
            Bytes.

        Raises:
            Exception: Whatever `target` raises; the session stays well.
        """
        handle = self.open(path)
        pending: deque[tuple[int, int, int]] = deque()
        asked = got = 0
        at_end = False
        most = _IN_FLIGHT // self._read_block
        ahead = 1  # a small file is not asked for dozens of times
        try:
            while pending or not at_end:
                while not at_end and len(pending) < ahead:
                    pending.append((self._ask(handle, asked, self._read_block), asked, self._read_block))
                    asked += self._read_block
                number, _, length = pending.popleft()
                kind, answer = self._answer(number)
                if kind == Packet.STATUS:
                    refuse(answer, unless=Code.EOF)
                    at_end = True
                    continue
                data = expect(Packet.DATA, kind, answer).text()
                if at_end:
                    continue  # it grew meanwhile
                if not data:
                    raise ConnectionLostError("it answers a read with nothing")
                target.write(data)
                got += len(data)
                ahead = min(most, 2 * ahead)
                if len(data) < length:  # the rest, before what follows it
                    rest = length - len(data)
                    pending.appendleft((self._ask(handle, got, rest), got, rest))
        except ConnectionLostError:
            raise
        except Exception:
            for number, _, _ in pending:
                self._answer(number)
            self.close(handle)
            raise
        self.close(handle)
        return got

    def listing(self, path: bytes) -> list[tuple[bytes, Attributes]]:
        """All that stands in a folder, but ``.`` and ``..``; links are not followed."""
        handle = self._handle(Packet.OPENDIR, text(path))
        entries: list[tuple[bytes, Attributes]] = []
        pending: deque[int] = deque()
        ahead, refusal = 1, b""  # few folders are long
        while pending or not refusal:
            while not refusal and len(pending) < ahead:
                pending.append(self._send(Packet.READDIR, text(handle)))
            kind, answer = self._answer(pending.popleft())
            if kind == Packet.STATUS:
                refusal = refusal or answer
                continue
            fields = expect(Packet.NAME, kind, answer)
            for _ in range(fields.number()):
                name, _long = fields.text(), fields.text()
                attributes = fields.attributes()
                if name not in (b".", b".."):
                    entries.append((name, attributes))
            ahead = min(_LISTING_AHEAD, 2 * ahead)
        self.close(handle)
        refuse(refusal, unless=Code.EOF)
        return entries

    def stat(self, path: bytes) -> Attributes:
        """What stands there, links followed."""
        return self._attributes(self._send(Packet.STAT, text(path)))

    def lstat(self, path: bytes) -> Attributes:
        """What stands there; of a link, the link itself."""
        return self._attributes(self._send(Packet.LSTAT, text(path)))

    def mkdir(self, path: bytes) -> None:
        """Make a folder."""
        self._do(Packet.MKDIR, text(path) + struct.pack(">I", 0))

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        self._do(Packet.RMDIR, text(path))

    def remove(self, path: bytes) -> None:
        """Remove a file or a link."""
        self._do(Packet.REMOVE, text(path))

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename as the protocol has it: servers refuse a name that is taken."""
        self._do(Packet.RENAME, text(old) + text(new))

    def replace(self, old: bytes, new: bytes) -> None:
        """Rename over what stands there, in one step; for servers that offer `POSIX_RENAME`."""
        self._do(Packet.EXTENDED, text(POSIX_RENAME.encode()) + text(old) + text(new))

    def space(self, path: bytes) -> Space | None:
        """The room that is left where `path` is; None if the server does not tell."""
        if STATVFS not in self.extensions:
            return None
        kind, answer = self._answer(self._send(Packet.EXTENDED, text(STATVFS.encode()) + text(path)))
        if kind == Packet.STATUS:
            return None
        if kind != Packet.EXTENDED_REPLY or len(answer) < 88:
            raise ConnectionLostError("it does not answer as an SFTP server")
        _, size, _, _, free, _, _, names, _, flags, _ = struct.unpack(">11Q", answer[:88])
        return Space(free * size, names, bool(flags & 1))

    def ping(self, patience: float) -> None:
        """Ask for something, to see whether it answers."""
        self._answer(self._send(Packet.REALPATH, text(b".")), patience)

    # -- packets -------------------------------------------------------------------------------------------------

    def _limits(self) -> tuple[int, int]:
        if _LIMITS not in self.extensions:
            return _BLOCK, _BLOCK
        kind, answer = self._answer(self._send(Packet.EXTENDED, text(_LIMITS.encode())))
        if kind != Packet.EXTENDED_REPLY or len(answer) < 32:
            return _BLOCK, _BLOCK
        _, most_read, most_write, _ = struct.unpack(">4Q", answer[:32])
        return min(most_read or _BLOCK, _MOST_IN_BLOCK), min(most_write or _BLOCK, _MOST_IN_BLOCK)

    def _ask(self, handle: bytes, offset: int, length: int) -> int:
        return self._send(Packet.READ, text(handle) + struct.pack(">QI", offset, length))

    def _handle(self, kind: int, body: bytes) -> bytes:
        answer = self._answer(self._send(kind, body))
        return expect(Packet.HANDLE, *answer).text()

    def _attributes(self, number: int) -> Attributes:
        return expect(Packet.ATTRS, *self._answer(number)).attributes()

    def _do(self, kind: int, body: bytes, patience: float = SILENCE) -> None:
        self._done(self._send(kind, body), patience)

    def _done(self, number: int, patience: float = SILENCE) -> None:
        expect(Packet.STATUS, *self._answer(number, patience))

    def _send(self, kind: int, body: bytes, block: bytes = b"") -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        head = struct.pack(">BI", kind, self._number)
        self._put(head + body + block)
        return self._number

    def _put(self, packet: bytes) -> None:
        data = struct.pack(">I", len(packet)) + packet
        for start in range(0, len(data), _PACKET):
            piece = data[start : start + _PACKET]
            while piece:
                piece = piece[self._gave(piece) :]

    def _gave(self, piece: bytes) -> int:
        return self._patiently(lambda: self._channel.send(piece), SILENCE)

    def _answer(self, number: int, patience: float = SILENCE) -> tuple[int, bytes]:
        while number not in self._answers:
            kind, packet = self._packet(patience)
            if len(packet) < 4:
                raise ConnectionLostError("it does not answer as an SFTP server")
            self._answers[int.from_bytes(packet[:4])] = (kind, packet[4:])
        return self._answers.pop(number)

    def _packet(self, patience: float) -> tuple[int, bytes]:
        self._fill(5, patience)
        size = int.from_bytes(self._came[:4])
        if not 0 < size <= _MOST_IN_PACKET:
            raise ConnectionLostError("it does not answer as an SFTP server (a login script that prints?)")
        self._fill(4 + size, patience)
        kind, packet = self._came[4], bytes(self._came[5 : 4 + size])
        del self._came[: 4 + size]
        return kind, packet

    def _fill(self, size: int, patience: float) -> None:
        while len(self._came) < size:
            self._came += self._patiently(lambda: self._channel.recv(2**18), patience)

    def _patiently(self, act: Callable[[], T], patience: float) -> T:
        """Wait as long as anything moves: what a slow line takes is acknowledged by the other end's kernel."""
        moved, since = self._moved(), time.monotonic()
        while True:
            try:
                done = act()
            except TimeoutError:
                now = self._moved()
                if now - moved >= _MOVED:
                    moved, since = now, time.monotonic()
                elif time.monotonic() - since > patience - _TICK / 2:
                    raise ConnectionLostError(f"it took and said nothing for {patience:.0f} s") from None
            except (OSError, EOFError) as exc:
                raise ConnectionLostError("the connection broke") from exc
            else:
                if not done:
                    raise ConnectionLostError("the server ended the connection")
                return done
