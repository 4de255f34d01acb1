"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02), over a channel of an SSH connection.

paramiko speaks it too, but drops the answers to the last hundred pipelined writes (a full disk passes for a success),
which extensions the server has, and the number of a refusal; and its prefetching leaves a thread behind that spins when
the connection dies. Here each answer is read, names are bytes, and a silence has an end.
"""

from __future__ import annotations

import enum
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

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
_INIT, _VERSION_IS, _STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED_REPLY = 1, 2, 101, 102, 103, 104, 105, 201
_OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT, _OPENDIR, _READDIR = 3, 4, 5, 6, 7, 8, 11, 12
_REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT, _RENAME, _EXTENDED = 13, 14, 15, 16, 17, 18, 200
_FOR_READING, _CREATE_NEW = 0x01, 0x02 | 0x08 | 0x20

FSYNC = "fsync@openssh.com"
POSIX_RENAME = "posix-rename@openssh.com"
STATVFS = "statvfs@openssh.com"
_LIMITS = "limits@openssh.com"


class Code(enum.IntEnum):
    """Why a server refuses."""

    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    OP_UNSUPPORTED = 8
    ALREADY_EXISTS = 11  # of later versions; some servers say it in this one too


class StatusError(Exception):
    """The server refuses one request; the connection is well."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text or 'no reason'} (SFTP {code})")
        self.code = code
        self.text = text


class ConnectionLostError(Exception):
    """The connection is of no more use: it ended, fell silent, or what came over it is no SFTP."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a server says of a file; None for what it does not say."""

    size: int | None = None
    mode: int | None = None
    mtime: int | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.mode is not None and stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True)
class Space:
    """Room on a filesystem: bytes and names that are left for us, and whether it takes any."""

    free: int
    names: int
    read_only: bool


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
        self._put(struct.pack(">BI", _INIT, _VERSION))
        kind, answer = self._packet(SILENCE)
        if kind != _VERSION_IS or len(answer) < 4:
            raise ConnectionLostError("it does not answer as an SFTP server")
        self.extensions = dict(_pairs(_Fields(answer[4:])))
        self._read_block, self._write_block = self._limits()

    # -- requests ------------------------------------------------------------------------------------------------

    def create(self, path: bytes) -> bytes:
        """Make a new file and open it for writing: its handle. One that stands there is refused."""
        return self._handle(_OPEN, _text(path) + struct.pack(">II", _CREATE_NEW, 0))

    def open(self, path: bytes) -> bytes:
        """Open a file for reading: its handle."""
        return self._handle(_OPEN, _text(path) + struct.pack(">II", _FOR_READING, 0))

    def close(self, handle: bytes, patience: float = SILENCE) -> None:
        """Close a file or a listing."""
        self._do(_CLOSE, _text(handle), patience)

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
                number = self._send(_WRITE, _text(handle) + struct.pack(">QI", offset, len(block)), block)
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
            numbers.append(self._send(_EXTENDED, _text(FSYNC.encode()) + _text(handle)))
        numbers += self._send(_CLOSE, _text(handle)), self._send(_LSTAT, _text(path))
        *statuses, looked = [self._answer(number, patience) for number in numbers]
        for kind, answer in statuses:
            if kind == _STATUS:
                _refuse(answer, unless=Code.OP_UNSUPPORTED)
        return _expect(_ATTRS, *looked).attributes()

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
                if kind == _STATUS:
                    _refuse(answer, unless=Code.EOF)
                    at_end = True
                    continue
                data = _expect(_DATA, kind, answer).text()
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
        handle = self._handle(_OPENDIR, _text(path))
        entries: list[tuple[bytes, Attributes]] = []
        pending: deque[int] = deque()
        ahead, refusal = 1, b""  # few folders are long
        while pending or not refusal:
            while not refusal and len(pending) < ahead:
                pending.append(self._send(_READDIR, _text(handle)))
            kind, answer = self._answer(pending.popleft())
            if kind == _STATUS:
                refusal = refusal or answer
                continue
            fields = _expect(_NAME, kind, answer)
            for _ in range(fields.number()):
                name, _long = fields.text(), fields.text()
                attributes = fields.attributes()
                if name not in (b".", b".."):
                    entries.append((name, attributes))
            ahead = min(_LISTING_AHEAD, 2 * ahead)
        self.close(handle)
        _refuse(refusal, unless=Code.EOF)
        return entries

    def stat(self, path: bytes) -> Attributes:
        """What stands there, links followed."""
        return self._attributes(self._send(_STAT, _text(path)))

    def lstat(self, path: bytes) -> Attributes:
        """What stands there; of a link, the link itself."""
        return self._attributes(self._send(_LSTAT, _text(path)))

    def mkdir(self, path: bytes) -> None:
        """Make a folder."""
        self._do(_MKDIR, _text(path) + struct.pack(">I", 0))

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        self._do(_RMDIR, _text(path))

    def remove(self, path: bytes) -> None:
        """Remove a file or a link."""
        self._do(_REMOVE, _text(path))

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename as the protocol has it: servers refuse a name that is taken."""
        self._do(_RENAME, _text(old) + _text(new))

    def replace(self, old: bytes, new: bytes) -> None:
        """Rename over what stands there, in one step; for servers that offer `POSIX_RENAME`."""
        self._do(_EXTENDED, _text(POSIX_RENAME.encode()) + _text(old) + _text(new))

    def space(self, path: bytes) -> Space | None:
        """The room that is left where `path` is; None if the server does not tell."""
        if STATVFS not in self.extensions:
            return None
        kind, answer = self._answer(self._send(_EXTENDED, _text(STATVFS.encode()) + _text(path)))
        if kind == _STATUS:
            return None
        _, size, _, _, free, _, _, names, _, flags, _ = struct.unpack(">11Q", answer[:88])
        return Space(free * size, names, bool(flags & 1))

    def ping(self, patience: float) -> None:
        """Ask for something, to see whether it answers."""
        self._answer(self._send(_REALPATH, _text(b".")), patience)

    # -- packets -------------------------------------------------------------------------------------------------

    def _limits(self) -> tuple[int, int]:
        if _LIMITS not in self.extensions:
            return _BLOCK, _BLOCK
        kind, answer = self._answer(self._send(_EXTENDED, _text(_LIMITS.encode())))
        if kind != _EXTENDED_REPLY or len(answer) < 32:
            return _BLOCK, _BLOCK
        _, most_read, most_write, _ = struct.unpack(">4Q", answer[:32])
        return min(most_read or _BLOCK, _MOST_IN_BLOCK), min(most_write or _BLOCK, _MOST_IN_BLOCK)

    def _ask(self, handle: bytes, offset: int, length: int) -> int:
        return self._send(_READ, _text(handle) + struct.pack(">QI", offset, length))

    def _handle(self, kind: int, body: bytes) -> bytes:
        answer = self._answer(self._send(kind, body))
        return _expect(_HANDLE, *answer).text()

    def _attributes(self, number: int) -> Attributes:
        return _expect(_ATTRS, *self._answer(number)).attributes()

    def _do(self, kind: int, body: bytes, patience: float = SILENCE) -> None:
        self._done(self._send(kind, body), patience)

    def _done(self, number: int, patience: float = SILENCE) -> None:
        _expect(_STATUS, *self._answer(number, patience))

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


class _Fields:
    """Reads an answer's fields, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self._take(size))

    def text(self) -> bytes:
        return self._take(self.number())

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.number(8) if flags & 0x1 else None
        if flags & 0x2:
            self._take(8)
        mode = self.number() if flags & 0x4 else None
        mtime = None
        if flags & 0x8:
            _, mtime = self.number(), self.number()
        if flags & 0x80000000:
            for _ in range(2 * self.number()):
                self.text()
        return Attributes(size, mode, mtime)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise ConnectionLostError("it does not answer as an SFTP server")
        self._at += size
        return taken


def _pairs(fields: _Fields) -> Iterator[tuple[str, bytes]]:
    while fields:
        yield fields.text().decode("utf-8", "replace"), fields.text()


def _expect(wanted: int, kind: int, answer: bytes) -> _Fields:
    if kind == _STATUS:
        _refuse(answer)
    if kind != wanted:
        raise ConnectionLostError(f"it answers with a packet of kind {kind} instead of {wanted}")
    return _Fields(answer)


def _refuse(answer: bytes, unless: int = 0) -> None:
    """Raise what a status says, if it is a refusal."""
    fields = _Fields(answer)
    code = fields.number()
    if code not in (0, unless):
        raise StatusError(code, fields.text().decode("utf-8", "replace") if fields else "")


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
