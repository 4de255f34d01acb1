"""Small files go abreast, big ones alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from artifactd.delivery.abreast import MOST, SMALL, take
from artifactd.ledger.rows import DueFile, FileId
from artifactd.watching.signature import Signature


def due(number: int, size: int = 1, *, ask: bool = False) -> DueFile:
    return DueFile(
        FileId(1, b"%d" % number), b"", Signature(size, 0, 0, 0), "", "", 0, None, 0, 0.0, ask=ask
    )  # fmt: skip


def numbers(files: Iterable[DueFile]) -> list[int]:
    return [int(file.id.name) for file in files]


def groups(files: list[DueFile], abreast: int = MOST) -> list[list[int]]:
    waiting = deque(files)
    taken = []
    while waiting:
        taken.append(numbers(take(waiting, abreast)))
    return taken


def test_small_files_are_taken_together_and_others_alone() -> None:
    files = [due(1), due(2), due(3, SMALL + 1), due(4, SMALL), due(5), due(6, ask=True), due(7)]
    assert groups(files) == [[1, 2], [3], [4, 5], [6], [7]]
    assert groups(files, 1) == [[n] for n in range(1, 8)]


def test_a_group_has_an_end() -> None:
    sizes = [len(group) for group in groups([due(n) for n in range(100)])]
    assert sum(sizes) == 100
    assert max(sizes) == 4 * MOST
