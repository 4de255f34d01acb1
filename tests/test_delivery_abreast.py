"""Small files go abreast, big ones alone; in order, and no more than are wanted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

import pytest

from artifactd.delivery.abreast import MOST, SMALL, each, take
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


def test_they_are_under_way_at_the_same_time_and_come_back_in_order() -> None:
    together = threading.Barrier(MOST)

    def do(file: DueFile) -> int:
        together.wait(30)
        return int(file.id.name)

    wanted = list(range(2 * MOST))
    assert each([due(n) for n in wanted], do, enough=lambda _: False) == wanted


def test_no_more_are_begun_once_one_came_to_enough() -> None:
    begun = []

    def do(file: DueFile) -> int:
        begun.append(int(file.id.name))
        return begun[-1]

    came = each([due(n) for n in range(1000)], do, enough=lambda n: n == 0)
    assert 0 in came
    assert sorted(came) == sorted(begun)
    assert len(begun) < 1000


@pytest.mark.parametrize("count", [1, 5])
def test_what_is_raised_is_raised_here(count: int) -> None:
    def do(_file: DueFile) -> int:
        raise ValueError("of the upload")

    with pytest.raises(ValueError, match="of the upload"):
        each([due(n) for n in range(count)], do, enough=lambda _: False)


def test_where_there_is_no_memory_for_threads_they_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", none)
    assert each([due(n) for n in range(9)], lambda file: int(file.id.name), enough=lambda _: False) == list(range(9))
