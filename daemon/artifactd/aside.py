"""Work in threads of its own, where there is memory for them.

``threading.Thread.start`` waits for the thread to begin, and for ever where memory ran out before it did (CPython
3.11): who is to say that there is no memory would hang instead. What is begun here has begun, or never will.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

_LOOK_EVERY = 0.1
"""Seconds between two looks at how far the work is."""
_BEGINS_WITHIN = 5.0
"""Seconds; on a machine that is busy too."""


class Aside:
    """Something under way in another thread."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._began, self._ended = _thread.allocate_lock(), _thread.allocate_lock()
        self._began.acquire()
        self._ended.acquire()
        self._wanted = True
        self._then = then
        self.over = False
        """Whether the work has ended."""

    def wait(self, seconds: float = -1) -> bool:
        """Until it has ended, what is called then too, or so many seconds (-1: without limit); whether it has."""
        if not self._ended.acquire(timeout=seconds):
            return False
        self._ended.release()
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            self._began.release()
            if self._wanted:
                work()
                self.over = True
                self._then()
        finally:
            self.over = True
            self._ended.release()

    def _came(self) -> bool:
        if self._began.acquire(timeout=_BEGINS_WITHIN):
            return True
        self._wanted = False
        return self._began.acquire(blocking=False)  # at this very moment: it may have seen that it was wanted


def begin(work: Callable[[], None], then: Callable[[], None] = lambda: None) -> Aside | None:
    """Begin `work`, which must not raise, in a thread of its own; None where there is no memory for one.

    Args:
        work: What is to be done.
        then: Called there when the work is over: whoever is told by it finds it so.
    """
    aside = Aside(then)
    try:
        _thread.start_new_thread(aside._run, (work,))
    except (RuntimeError, MemoryError):
        return None
    return aside if aside._came() else None


def each(
    things: Sequence[S],
    do: Callable[[S], T],
    *,
    width: int,
    enough: Callable[[T], bool] = lambda _: False,
    look: Callable[[], None] | None = None,
) -> list[T]:
    """Do the same with several things at a time.

    Args:
        things: In order.
        do: Called with each.
        width: At a time, at most.
        enough: Whether to begin no more, by what came of one.
        look: Called several times a second and at the end, in the thread that asked, which does nothing else then;
            None: that one does its part.

    Returns:
        What came of each, in order; those not begun when one came to enough are left out.

    Raises:
        BaseException: What `do` raised first; then no more is begun.
    """
    waiting = deque(enumerate(things))
    results: dict[int, T] = {}
    raised: list[BaseException] = []

    def pull() -> None:
        try:
            while waiting:
                try:
                    number, thing = waiting.popleft()
                except IndexError:  # another thread took the last one
                    return
                results[number] = do(thing)
                if enough(results[number]):
                    waiting.clear()
        except BaseException as exc:  # noqa: BLE001 (raised below, in the thread that asked)
            raised.append(exc)
            waiting.clear()

    hands = min(width, len(things)) - (look is None)
    asides = [aside for _ in range(hands) if (aside := begin(pull)) is not None]
    try:
        if look is None or not asides:
            pull()
        for aside in asides:
            while not aside.wait(-1 if look is None else _LOOK_EVERY):
                if look is not None:
                    look()
    finally:
        waiting.clear()
    if look is not None:
        look()
    if raised:
        raise raised[0]
    return [results[number] for number in sorted(results)]
