"""Work in a thread of its own, where there is memory for one.

``threading.Thread.start`` waits for the thread to begin, and for ever where memory ran out before it did (CPython
3.11): who is to say that there is no memory would hang instead. What is begun here has begun, or never will.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable

_BEGINS_WITHIN = 5.0
"""Seconds; on a machine that is busy too."""


class Aside:
    """Something under way in another thread."""

    def __init__(self) -> None:
        self._began, self._ended = _thread.allocate_lock(), _thread.allocate_lock()
        self._began.acquire()
        self._ended.acquire()
        self._wanted = True

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._ended.locked()

    def wait(self, seconds: float = -1) -> bool:
        """Until it has ended, or so many seconds (-1: without limit); whether it has."""
        if not self._ended.acquire(timeout=seconds):
            return False
        self._ended.release()
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            self._began.release()
            if self._wanted:
                work()
        finally:
            self._ended.release()

    def _came(self) -> bool:
        if self._began.acquire(timeout=_BEGINS_WITHIN):
            return True
        self._wanted = False
        return self._began.acquire(blocking=False)  # at this very moment: it may have seen that it was wanted


def begin(work: Callable[[], None]) -> Aside | None:
    """Begin `work`, which must not raise, in a thread of its own; None where there is no memory for one."""
    aside = Aside()
    try:
        _thread.start_new_thread(aside._run, (work,))
    except (RuntimeError, MemoryError):
        return None
    return aside if aside._came() else None
