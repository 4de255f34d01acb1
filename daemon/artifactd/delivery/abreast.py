"""Small files go abreast: before a store that is far away, sending one is waiting, and little else.

Threads of one worker, and not more workers: a process takes some 40 MiB of its own. Only where the store's client may
be shared by threads, and only small files: a big one has a core and a line to itself.
"""

from __future__ import annotations

from collections import deque

from artifactd.ledger.rows import DueFile

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
