"""The records of a TFRecord file, which TensorBoard's event files are: length, its checksum, bytes, their checksum.

A file that is being written, and one whose writer was killed, ends anywhere: what is no whole record yet is left. What
is wrong before that is named by its place, and read on behind where the length can be trusted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longest record that is read: a longer one is a graph, a picture or an embedding, and is passed by."""

_HEADER = struct.Struct("<QI")
_LENGTH_BYTES = 8
_SUM = struct.Struct("<I")
_BLOCK = 1024 * 1024
_MASK = 0xA282EAD8

Crc32c = Callable[[int, bytes], int]
"""CRC-32C of what was summed up so far (0 for nothing) and of these bytes after it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record, or why there is none.

    Attributes:
        offset: Bytes before it in the file.
        data: What it holds; None if it is damaged or longer than ``MAX_RECORD_BYTES``.
        damage: What is wrong with it; empty for nothing.
    """

    offset: int
    data: bytes | None = None
    damage: str = ""


def records(stream: BinaryIO, crc32c: Crc32c, *, ended: bool) -> Iterator[Record]:
    """Read records; memory is bounded by the longest one that is read.

    Args:
        stream: At its start, buffered.
        crc32c: The checksum.
        ended: Nothing will be added to the file. Until then, damage at its very end, and zeros up to it, are taken for
            what is being written.

    Returns:
        All whole ones. Behind one whose length is damaged no other can be found: it is the last.
    """
    offset = 0
    while len(header := stream.read(_HEADER.size)) == _HEADER.size:
        length, said = _HEADER.unpack(header)
        if said != _masked(crc32c(0, header[:_LENGTH_BYTES])):
            if ended or any(header) or _has_content(stream):
                yield Record(offset, damage="its length is damaged, and nothing behind it can be read")
            return
        if length <= MAX_RECORD_BYTES:
            body = stream.read(length + _SUM.size)
            if len(body) < length + _SUM.size:
                return
            data = body[:length]
            is_right = _SUM.unpack_from(body, length)[0] == _masked(crc32c(0, data))
        else:
            data = None
            passed = _pass_by(stream, length, crc32c)
            if passed is None:
                return
            is_right = passed
        if is_right:
            yield Record(offset, data)
        else:
            behind = stream.read(1)
            if not behind and not ended:
                return
            yield Record(offset, damage="its checksum is wrong")
            if behind:
                stream.seek(-1, 1)
        offset += _HEADER.size + length + _SUM.size


def _masked(crc: int) -> int:
    # As in TensorFlow's lib/hash/crc32c.h: a checksum of bytes that hold checksums says little.
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def _pass_by(stream: BinaryIO, length: int, crc32c: Crc32c) -> bool | None:
    """Whether the checksum of a long record is right; None if it is not all there."""
    crc, left = 0, length
    while left:
        block = stream.read(min(left, _BLOCK))
        if not block:
            return None
        crc, left = crc32c(crc, block), left - len(block)
    said = stream.read(_SUM.size)
    return _SUM.unpack(said)[0] == _masked(crc) if len(said) == _SUM.size else None


def _has_content(stream: BinaryIO) -> bool:
    """Whether anything but zeros follows."""
    while block := stream.read(_BLOCK):
        if block.strip(b"\0"):
            return True
    return False
