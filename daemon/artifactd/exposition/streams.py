"""Those who listen to what goes on (server-sent events): a bounded number, each told the same, none waited for."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST = 16
"""Who listens at a time."""

EVERY = 1.0
"""Seconds between two looks at what there is to say."""

STILL = 15.0
"""Seconds of silence after which a sign of life is sent: one who went away without a word is found by it."""

LIFE = 600.0
"""Seconds that one may listen; a browser comes again by itself, and shows its token again."""

_SIGN_OF_LIFE = b":\n\n"


@dataclass(slots=True)
class _Ear:
    line: socket.socket
    until: float
    told: bytes = b""
    told_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Stream:
    """What is told to those who listen.

    Attributes:
        path: Where.
        news: What there is to say now: one line of text. Called once a second while somebody listens.
        unheard: Called when the last one has left.
    """

    path: str
    news: Callable[[], bytes]
    unheard: Callable[[], None]


class Streams:
    """Used from one thread.

    Args:
        stream: What is told; None: nothing, and nobody listens.
        leave: Called with the line of each that is told no more; closes it.
    """

    def __init__(self, stream: Stream | None, leave: Callable[[socket.socket], None]) -> None:
        self._stream, self._leave = stream, leave
        self._ears: list[_Ear] = []
        self._next = 0.0

    def __len__(self) -> int:
        return len(self._ears)

    @property
    def room(self) -> bool:
        """Whether one more may listen."""
        return len(self._ears) < MOST

    @property
    def wait(self) -> float | None:
        """Seconds until there may be something to say; None while nobody listens."""
        return max(0.0, self._next - time.monotonic()) if self._ears else None

    def add(self, line: socket.socket) -> None:
        """One more listens, and is told at once."""
        line.setblocking(False)
        self._ears.append(_Ear(line, time.monotonic() + LIFE))
        self._next = 0.0

    def turn(self) -> None:
        """Say what there is to say, where it is time; whoever does not keep up is left."""
        now = time.monotonic()
        if self._stream is None or not self._ears or now < self._next:
            return
        self._next = now + EVERY
        message = b"data: " + self._stream.news() + b"\n\n"
        for ear in list(self._ears):
            if not self._tell(ear, message, now):
                self.drop(ear.line)

    def heard(self, line: socket.socket) -> bool:
        """One who listens said something, or went away; whether they are still there. What they say is not read."""
        try:
            there = bool(line.recv(65536))
        except BlockingIOError:
            there = True
        except OSError:
            there = False
        if not there:
            self.drop(line)
        return there

    def drop(self, line: socket.socket) -> None:
        """Tell this one no more."""
        self._ears = [ear for ear in self._ears if ear.line is not line]
        self._leave(line)
        if not self._ears and self._stream is not None:
            self._stream.unheard()

    def close(self) -> None:
        """Tell nobody any more."""
        for ear in list(self._ears):
            self.drop(ear.line)

    def _tell(self, ear: _Ear, message: bytes, now: float) -> bool:
        if now >= ear.until:
            return False
        if message == ear.told:
            if now - ear.told_at < STILL:
                return True
            message = _SIGN_OF_LIFE
        else:
            ear.told = message
        ear.told_at = now
        try:
            return ear.line.send(message) == len(message)
        except OSError:
            return False
