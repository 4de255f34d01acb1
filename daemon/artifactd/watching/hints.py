"""Where a look is worth it soon: a bounded, thread-safe set that loses precision, never a place.

Names collapse to their folder, and too many folders collapse to everything; a storm of events costs a wider look
and no memory.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_NAMES = 256
"""Names remembered in one folder before the whole folder is due."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Look here.

    Attributes:
        rel: The folder, relative to the root.
        names: These names in it; None for all of it.
        deep: And everything below it.
    """

    rel: bytes
    names: frozenset[bytes] | None
    deep: bool


class Hints:
    """Marked by the watching threads, taken by the one that looks.

    Args:
        wake: Called without a lock, in the marking thread, when there is something to take after there was nothing.
            Reset what it sets before ``take``, never after.
        limit: Folders remembered before everything is due.
        gather: Seconds after a take for which what is marked had better wait for more, so that a storm costs few wide
            looks and not many narrow ones.
    """

    def __init__(self, wake: Callable[[], None], limit: int = 10_000, gather: float = 0.0) -> None:
        self._wake = wake
        self._limit = limit
        self._gather = gather
        self._ripe_at = 0.0
        self._lock = threading.Lock()
        self._flat: dict[bytes, set[bytes] | None] = {}  # in the order of the first mark, as all dicts
        self._deep: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._flat) + len(self._deep)

    @property
    def pause(self) -> float:
        """Seconds until what is marked is worth a look; infinite while nothing is."""
        return max(0.0, self._ripe_at - time.monotonic()) if len(self) else math.inf

    def hurry(self) -> None:
        """What is marked, or will be next, is worth a look at once."""
        self._ripe_at = 0.0

    def file(self, folder: bytes, name: bytes) -> None:
        """Mark one name in a folder."""
        self.files({folder: {name}})

    def files(self, marked: Mapping[bytes, set[bytes]]) -> None:
        """Mark names, one at least, in each of some folders."""
        if not marked:
            return
        with self._lock:
            was_empty = not len(self)
            for folder, names in marked.items():
                if self._is_below_deep(folder):
                    continue
                known = self._flat.setdefault(folder, set())
                if known is not None:
                    known |= names
                    if len(known) > _NAMES:
                        self._flat[folder] = None
                self._bound()
        if was_empty:
            self._wake()

    def folder(self, rel: bytes, *, deep: bool) -> None:
        """Mark a whole folder; `deep` with everything below it."""
        with self._lock:
            was_empty = not len(self)
            if not self._is_below_deep(rel):
                if deep:
                    self._flat.pop(rel, None)
                    self._deep[rel] = None
                else:
                    self._flat[rel] = None
                self._bound()
        if was_empty:
            self._wake()

    def everything(self) -> None:
        """Mark the root and all below it."""
        self.folder(b"", deep=True)

    def take(self) -> list[Hint]:
        """What was marked since the last take, oldest first, the deep hints last."""
        with self._lock:
            flat, deep = self._flat, self._deep
            self._flat, self._deep = {}, {}
            self._ripe_at = time.monotonic() + self._gather
        hints = [
            Hint(rel, None if names is None else frozenset(names), deep=False)
            for rel, names in flat.items()
            if not any(above in deep for above in _upwards(rel))
        ]
        return hints + [Hint(rel, None, deep=True) for rel in deep if not any(a in deep for a in _above(rel))]

    def _is_below_deep(self, rel: bytes) -> bool:
        return bool(self._deep) and any(above in self._deep for above in _upwards(rel))

    def _bound(self) -> None:
        if len(self) > self._limit or b"" in self._deep:
            self._flat.clear()
            self._deep = {b"": None}


def _upwards(rel: bytes) -> Iterator[bytes]:
    """The folder itself, then every one above it, the root last."""
    yield rel
    while rel:
        rel = rel.rpartition(b"/")[0]
        yield rel


def _above(rel: bytes) -> Iterator[bytes]:
    """Every folder above, the root last."""
    steps = _upwards(rel)
    next(steps)
    yield from steps
