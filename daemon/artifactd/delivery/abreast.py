"""Small files go abreast: before a store that is far away, sending one is waiting, and little else.

Threads of one worker, and not more workers: a process takes some 40 MiB of its own. Only where the store's client may
be shared by threads, and only small files: a big one has a core and a line to itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from artifactd.aside import begin
from artifactd.ledger.rows import DueFile

T = TypeVar("T")

MOST = 4
"""Files of one worker at a time."""

SMALL = 128 * 1024
"""Bytes of a file that goes with others, at most: it changes no time limit, which are one for all in a process."""

_GROUP = 4 * MOST
"""Files between two looks at anything else."""


def take(waiting: deque[DueFile], abreast: int) -> list[DueFile]:
    """Take from the front what is to be sent next: one file, or small ones that may go together.

    What the store is to be asked about first goes alone.
    """
    group = [waiting.popleft()]
    while abreast > 1 and waiting and len(group) < _GROUP and _small(group[-1]) and _small(waiting[0]):
        group.append(waiting.popleft())
    return group


def _small(file: DueFile) -> bool:
    return file.signature.size <= SMALL and not file.ask


def each(things: Sequence[DueFile], do: Callable[[DueFile], T], *, enough: Callable[[T], bool]) -> list[T]:
    """Do the same with several things at a time.

    Args:
        things: In order.
        do: Called with each, in several threads if there are several, and memory for them.
        enough: Whether to begin no more, by what came of one.

    Returns:
        What came of each, in order; those not begun when one came to enough are left out.
    """
    waiting = deque(enumerate(things))
    results: dict[int, T] = {}
    raised: list[BaseException] = []

    def pull() -> None:
        try:
            while (next_one := _pop(waiting)) is not None:
                number, thing = next_one
                results[number] = do(thing)
                if enough(results[number]):
                    waiting.clear()
        except BaseException as exc:  # noqa: BLE001 (raised below, in the thread that asked)
            raised.append(exc)
            waiting.clear()

    asides = [begin(pull) for _ in range(min(MOST, len(things)) - 1)]
    pull()
    for aside in asides:
        if aside is not None:
            aside.wait()
    if raised:
        raise raised[0]
    return [results[number] for number in sorted(results)]


def _pop(waiting: deque[tuple[int, DueFile]]) -> tuple[int, DueFile] | None:
    try:
        return waiting.popleft()
    except IndexError:  # another thread took the last one
        return None
