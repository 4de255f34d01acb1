"""A stream's lines, one at a time and never longer than is sane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from artifactd.reading.problems import Unreadable

MAX_LINE_BYTES = 1024 * 1024
"""Longest line; a longer one is no text file's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        number: From 1 on.
        text: With its end, without a byte order mark; bytes that are not UTF-8 stand in it as lone surrogates.
        broken: The place in bytes of the first one that is not UTF-8, from 1 on; 0 if there is none.
        whole: It has its newline: nothing will be added to it.
    """

    number: int
    text: str
    broken: int
    whole: bool


def lines(stream: BinaryIO) -> Iterator[Line]:
    """Read lines.

    Args:
        stream: At its start, buffered.

    Returns:
        One after another; the last one may be without its newline.

    Raises:
        Unreadable: A line is longer than ``MAX_LINE_BYTES``.
    """
    number = 0
    while data := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > MAX_LINE_BYTES:
            raise Unreadable(
                f"line {number}", f"it is longer than {MAX_LINE_BYTES // 1024} KiB", "Is this a text file?"
            )
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        broken = 0
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            text, broken = data.decode(encoding, "surrogateescape"), error.start + 1
        yield Line(number, text, broken, data.endswith(b"\n"))
