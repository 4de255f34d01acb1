"""The packets of SFTP, version 3: their kinds, what is in them, and why a server refuses."""

from __future__ import annotations

import enum
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

FOR_READING, CREATE_NEW = 0x01, 0x02 | 0x08 | 0x20
"""How a file is opened; the second for writing."""


class Packet(enum.IntEnum):
    """What a packet asks for, or answers."""

    INIT = 1
    VERSION_IS = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


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


class Fields:
    """Reads an answer's fields, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, size: int = 4) -> int:
        """A number of `size` bytes."""
        return int.from_bytes(self._take(size))

    def text(self) -> bytes:
        """Bytes with their length before them."""
        return self._take(self.number())

    def attributes(self) -> Attributes:
        """What is said of a file."""
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


def pairs(fields: Fields) -> Iterator[tuple[str, bytes]]:
    """The names and values that are left."""
    while fields:
        yield fields.text().decode("utf-8", "replace"), fields.text()


def expect(wanted: int, kind: int, answer: bytes) -> Fields:
    """An answer's fields, if it is of the wanted kind.

    Raises:
        StatusError: It is a refusal.
        ConnectionLostError: It is of another kind.
    """
    if kind == Packet.STATUS:
        refuse(answer)
    if kind != wanted:
        raise ConnectionLostError(f"it answers with a packet of kind {kind} instead of {wanted}")
    return Fields(answer)


def refuse(answer: bytes, unless: int = 0) -> None:
    """Raise what a status says, if it is a refusal."""
    fields = Fields(answer)
    code = fields.number()
    if code not in (0, unless):
        raise StatusError(code, fields.text().decode("utf-8", "replace") if fields else "")


def text(data: bytes) -> bytes:
    """Bytes as a packet holds them."""
    return struct.pack(">I", len(data)) + data
