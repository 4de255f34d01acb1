"""Two readers of one big file keep near each other, so that the disk gives each byte once.

What is new is hashed while it is sent, by a thread that reads it by itself: the second to come finds in memory what the
first has read. With a file larger than the memory that holds only while they are near. So who is ahead by more than
``APART`` waits for the other. That is about cost alone: whoever does not know of it reads as before.

Stores say how far they are where they read, or where an SDK tells them. What reads large pieces at once (S3 ten parts
of 8 MiB, Google 100 MiB) is ahead by these.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

APART = 16 * 2**20
"""Bytes between the two, at most; little beside what any machine keeps of a file that was just read."""


class Sums(Protocol):
    """What is made of a content, part by part."""

    part: int
    """Bytes of each but the last; 0: there are no parts."""

    def made(self, number: int, *, all_fed: bool = False) -> bytes | None:
        """The sum of a part, counted from 1; None if it is not known. `all_fed`: the last one is all there."""
        ...


class Tether:
    """What holds the one who hashes and the one who sends together, until either has ended.

    Args:
        sums: What is made by hashing, for the one who sends.
    """

    def __init__(self, sums: Sums | None = None) -> None:
        self._sums = sums
        self._moved = threading.Condition()
        self._lead = 0  # of the one who sends
        self._hashed = self._needed = 0  # bytes from the beginning
        self._through = False
        self._waiting = Counter[int]()
        self._loose = False

    def sent(self, count: int) -> None:
        """So many more bytes were read to be sent (fewer than 0: they will be read again); waits where that is far."""
        self._go_on(count, 1)

    def hashed(self, count: int) -> None:
        """So many more bytes were read to be hashed; waits where that is far ahead, and nobody waits for their sum."""
        self._go_on(count, -1)

    def made(self, number: int) -> bytes | None:
        """The sum of a part, counted from 1; waits until it is hashed. None where nobody hashes it meanwhile."""
        sums = self._sums
        if sums is None:
            return None
        with self._moved:
            self._need(number * sums.part)
            self._moved.wait_for(lambda: self._loose or sums.made(number) is not None)
            return sums.made(number, all_fed=self._through)

    def begun(self, end: int) -> None:
        """The bytes before `end` are in the sender's memory, and on their way: they may be hashed meanwhile."""
        with self._moved:
            self._need(end)

    def _need(self, end: int) -> None:
        self._needed = max(self._needed, end)
        self._moved.notify_all()

    def _go_on(self, count: int, side: int) -> None:
        with self._moved:
            self._lead += side * count
            part_ends = side < 0 and self._hash(count)
            # Who waits goes on when half the way is free: to be woken by each of the other's blocks, of some KiB, costs
            # more than to send them.
            if part_ends or (self._waiting[-side] and side * self._lead >= -APART // 2):
                self._moved.notify_all()
            if self._is_far(side, APART):
                self._waiting[side] += 1
                self._moved.wait_for(lambda: self._loose or not self._is_far(side, APART // 2))
                self._waiting[side] -= 1

    def _hash(self, count: int) -> bool:
        """Whether a part that somebody waits for ends in these bytes."""
        before, self._hashed = self._hashed, self._hashed + count
        part = 0 if self._sums is None else self._sums.part
        return part > 0 and before < self._needed and before // part < self._hashed // part

    def _is_far(self, side: int, most: int) -> bool:
        return side * self._lead > most and not (side < 0 and self._hashed < self._needed)

    def let_go(self, *, through: bool = False) -> None:
        """From now on neither waits for the other.

        Args:
            through: All was hashed.
        """
        with self._moved:
            self._loose = True
            self._through = self._through or through
            self._moved.notify_all()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have the upload in this block tell how far it is, from whichever thread. One at a time in a process."""
        global _held  # noqa: PLW0603 (SDKs read in threads of their own)
        _held = self
        try:
            yield
        finally:
            _held = None
            self.let_go()


_held: Tether | None = None


def sent(count: int) -> None:
    """As ``Tether.sent``, of the upload that is under way; nothing where it is on its own."""
    tether = _held
    if tether is not None:
        tether.sent(count)


def made(number: int) -> bytes | None:
    """As ``Tether.made``, of the upload that is under way."""
    tether = _held
    return None if tether is None else tether.made(number)


def let_go() -> None:
    """The upload that is under way reads its file at once, or does not tell how far it is: nobody waits."""
    tether = _held
    if tether is not None:
        tether.let_go()


class Pieces(io.FileIO):
    """A file for who reads a large piece into memory, sends it, and reads the next: sent is what came before."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "rb")
        self._told = 0

    def read(self, size: int | None = -1, /) -> bytes:  # noqa: D102 (as of any file)
        at = self.tell()
        told, self._told = self._told, at
        sent(at - told)
        piece = super().read(-1 if size is None else size) or b""
        if (tether := _held) is not None:
            tether.begun(at + len(piece))
        return piece
