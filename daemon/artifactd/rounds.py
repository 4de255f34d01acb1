"""What of a root is to be walked, a slice of time at a time: the full scan now and then, and folders that events name.

Knows when and how far, and nothing of what a listing means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from artifactd.watching.scan import Listing

Walk = Generator[Listing, None, None]

DUTY = 0.05
"""The part of a core that full scans may take: those of ten million files come less often than was asked for."""

IDLE_DUTY = 0.0002
"""The same where events tell of changes, and a full scan is there for what makes no event."""


def scan_pause(cost: float, interval: float, longest: float) -> float:
    """Seconds until the next full scan.

    Args:
        cost: Seconds of a core that the last one took.
        interval: Seconds between two.
        longest: Seconds that may become of that so that they cost next to nothing.
    """
    return max(interval, min(longest, cost / IDLE_DUTY), cost / DUTY)


class Rounds:
    """The walks of one root.

    Args:
        walk: Walks a folder and everything below it.
        start: Where the full scan begins, relative to the root.
        pause: Seconds between two full scans, given the seconds of a core that the last one took.
    """

    def __init__(self, walk: Callable[[bytes], Walk], start: bytes, pause: Callable[[float], float]) -> None:
        self.scans = 0
        self.scan_began = 0.0
        """When the last full scan began, unix seconds."""
        self._begin = walk
        self._start = start
        self._pause = pause
        self._cost = 0.0
        self._next_scan = 0.0
        self._scan: Walk | None = None
        self._again = False
        self._walk: Walk | None = None
        self._folders: dict[bytes, None] = {}  # in the order of the first mark

    @property
    def begun(self) -> bool:
        """Whether a full scan was made, or is under way."""
        return bool(self.scans) or self._scan is not None

    def to_do(self, *, scan: bool) -> bool:
        """Whether there is something to walk now; `scan` says that a full scan may begin."""
        walking = self._walk is not None or bool(self._folders) or self._scan is not None
        return walking or (scan and self._next_scan <= time.monotonic())

    def scan_soon(self) -> None:
        """Look at everything; once more, where that is under way, since it has been to some folders already."""
        self._next_scan = 0.0
        self._again = self._scan is not None

    def below(self, rel: bytes) -> None:
        """Look at a folder and everything below it."""
        self._folders[rel] = None

    def go_on(self, seconds: float, apply: Callable[[Listing], None], *, scan: bool) -> None:
        """Walk on: folders that were named for one slice of time, the full scan for another.

        Args:
            seconds: Of each slice.
            apply: Takes each listing.
            scan: A full scan may begin.
        """
        end = time.monotonic() + seconds
        while (self._walk is not None or self._folders) and time.monotonic() < end:
            if self._walk is None:
                rel = next(iter(self._folders))
                del self._folders[rel]
                self._walk = self._begin(rel)
            if _through(self._walk, end, apply):
                self._walk = None
        if self._scan is None and scan and self._next_scan <= time.monotonic():
            self._scan, self.scan_began, self._cost = self._begin(self._start), time.time(), 0.0
        if self._scan is not None:
            before = time.thread_time()
            over = _through(self._scan, time.monotonic() + seconds, apply)
            self._cost += time.thread_time() - before
            if over:
                self._scan = None
                self.scans += 1
                self._next_scan = 0.0 if self._again else time.monotonic() + self._pause(self._cost)
                self._again = False

    def drop(self) -> None:
        """Give up what is under way; the next thing to do is a full scan."""
        for walk in (self._scan, self._walk):
            if walk is not None:
                walk.close()
        self._scan = self._walk = None
        self._folders.clear()
        self._next_scan = 0.0


def _through(walk: Walk, end: float, apply: Callable[[Listing], None]) -> bool:
    """Whether the walk came to its end before `end` (monotonic seconds)."""
    for listing in walk:
        apply(listing)
        if time.monotonic() > end:
            return False
    return True
