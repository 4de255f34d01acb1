"""A rate that all threads of all delivery processes share: a few numbers in a piece of memory that they inherit.

Who wants to move bytes takes them first, in small pieces, and waits until their time has come. Times are given out one
after the other, so everyone waits in line, and nobody waits for a process that was killed: what it held is a lock of
the kernel's, which goes with it. Each piece is also a write to that memory by a descriptor: what waits for its share is
seen to move (``Pool.end_stuck``).
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import threading
import time

NEWS = signal.SIGUSR1
"""Tells a delivery process that there are limits now. Until then it does without what keeps to them."""

PIECE_SECONDS = 0.02
"""Seconds of the rate that are taken at a time."""

SMALLEST = 256
"""Bytes that are taken at a time at least, unless that is more than a second's."""
LARGEST = 256 * 1024
"""Bytes that are taken at a time at most."""

UNLIMITED = 2**20
"""Bytes to move at a time where a limit may come."""

BURST = 0.4
"""Seconds that were not used and may be made up for: of ten seconds, less than the 5% within which a limit is kept. Who
wakes up late loses nothing, and little is lost while all files end at once."""

_LOOK_EVERY = 0.5
"""Seconds of waiting between two looks whether the rate is another one by now."""

_RATE, _FREE_AT = 0, 1
_NUMBERS = 2
"""Of each rate: bytes/s, 0 for no limit; and monotonic seconds at which all that was taken has gone."""
_WANTED = 4
_ALL = 5
_DOUBLE = struct.Struct("d")


class Shared:
    """The memory, and the rates in it.

    Args:
        fd: Of another process's; None to make one.

    Attributes:
        fd: To be inherited.
        line: What goes out.
        reading: What is read of the watched folders.
    """

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("artifactd-limits", os.MFD_CLOEXEC)
            os.ftruncate(fd, mmap.PAGESIZE)
        self.fd = fd
        self._numbers = (ctypes.c_double * _ALL).from_buffer(mmap.mmap(fd, mmap.PAGESIZE))
        # One for both rates: the kernel tells no threads apart, and would see a deadlock where there is none.
        lock = threading.Lock()
        self.line = Throttle(fd, self._numbers, 0, lock)
        self.reading = Throttle(fd, self._numbers, 1, lock)

    @property
    def wanted(self) -> bool:
        """Whether there is a limit, or one for some times of the day."""
        return bool(self._numbers[_WANTED])

    @wanted.setter
    def wanted(self, value: bool) -> None:
        self._numbers[_WANTED] = float(value)

    @property
    def piece(self) -> int:
        """Bytes to move at a time, for who can choose."""
        return min(self.line.piece, self.reading.piece)

    def take(self, count: int) -> None:
        """Wait until so many bytes may be read and go out."""
        self.line.take(count)
        self.reading.take(count)

    def close(self) -> None:
        """Let go of it in this process."""
        os.close(self.fd)


class Throttle:
    """One rate. ``Shared`` makes it."""

    def __init__(self, fd: int, numbers: ctypes.Array[ctypes.c_double], index: int, lock: threading.Lock) -> None:
        self._fd = fd
        self._numbers = numbers
        self._rate_at = index * _NUMBERS + _RATE
        self._free_at = index * _NUMBERS + _FREE_AT
        self._lock = lock

    @property
    def rate(self) -> float:
        """Bytes/s; 0 for no limit."""
        return float(self._numbers[self._rate_at])

    @rate.setter
    def rate(self, value: float) -> None:
        with self._lock, _Alone(self._fd):
            self._numbers[self._rate_at] = value
            # What waits at the old rate goes on at the new one at once.
            self._numbers[self._free_at] = min(self._numbers[self._free_at], time.monotonic())

    @property
    def piece(self) -> int:
        """Bytes that are taken at a time."""
        rate = self.rate
        if not rate:
            return UNLIMITED
        return int(max(min(SMALLEST, max(rate, 1)), min(rate * PIECE_SECONDS, LARGEST)))

    def take(self, count: int) -> None:
        """Wait until so many bytes may move."""
        while count > 0 and (rate := self.rate):
            piece = min(count, self.piece)
            self._wait(self._turn(piece, rate), rate)
            count -= piece

    def _turn(self, count: int, rate: float) -> float:
        """Monotonic seconds at which it may begin."""
        with self._lock, _Alone(self._fd):
            begin = max(float(self._numbers[self._free_at]), time.monotonic() - BURST)
            os.pwrite(self._fd, _DOUBLE.pack(begin + count / rate), self._free_at * _DOUBLE.size)
            return begin

    def _wait(self, until: float, rate: float) -> None:
        while (left := until - time.monotonic()) > 0 and self.rate == rate:
            time.sleep(min(left, _LOOK_EVERY))


class _Alone:
    """No other process at the same time. A lock of fcntl(2): however its holder ends, it is free again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)


here: Shared | None = None
"""What this process is to keep to; None where there is no limit, which then costs nothing."""


def read(count: int) -> None:
    """Wait until so many bytes of the watched folders may be read."""
    if here is not None:
        here.reading.take(count)


def copy(count: int) -> None:
    """Wait until so many bytes may be read, and go out without a socket."""
    if here is not None:
        here.take(count)
