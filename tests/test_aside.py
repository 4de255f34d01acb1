"""Work aside begins at once or never, and is waited for; of several things at a time, all are done in order."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable

import pytest

from artifactd import aside
from artifactd.aside import begin, each
from support import wait_for


def test_it_runs_beside_and_is_waited_for() -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(30)
        done.set()

    under_way = begin(work)
    assert under_way is not None
    assert not done.is_set()
    go.set()
    under_way.wait()
    assert done.is_set()


def test_who_is_told_that_it_is_over_finds_it_so() -> None:
    """A loop that is woken looks once; if the work were not over then, it would rest and find out much later."""
    go = threading.Event()
    found: list[bool] = []

    def work() -> None:
        go.wait(30)

    under_way = begin(work, lambda: found.append(under_way is not None and under_way.over))
    assert under_way is not None
    assert not under_way.over
    go.set()
    assert under_way.wait(30)
    assert found == [True]


def test_no_memory_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("_thread.start_new_thread", none)
    assert begin(lambda: None) is None


def test_a_thread_that_does_not_come_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory runs out before its first step; one that comes late all the same finds that it is not wanted."""
    late: list[Callable[[], None]] = []
    ran: list[int] = []
    monkeypatch.setattr("_thread.start_new_thread", lambda run, args: late.append(lambda: run(*args)))
    monkeypatch.setattr(aside, "_BEGINS_WITHIN", 0.05)
    before = time.monotonic()
    assert begin(lambda: ran.append(1)) is None
    assert time.monotonic() - before < 10
    late[0]()
    assert ran == []


def test_many_leave_nothing_behind() -> None:
    before = _thread._count()
    for _ in range(50):
        under_way = begin(lambda: None)
        assert under_way is not None
        under_way.wait()
    wait_for(lambda: _thread._count() <= before, "the threads are gone")


@pytest.fixture(params=["looking", "taking part"])
def looks(request: pytest.FixtureRequest) -> Callable[[], None] | None:
    """What the thread that asked does meanwhile."""
    return (lambda: None) if request.param == "looking" else None


def test_things_are_under_way_at_the_same_time_and_come_back_in_order(looks: Callable[[], None] | None) -> None:
    together = threading.Barrier(4)

    def do(number: int) -> int:
        together.wait(30)
        return -number

    assert each(range(8), do, width=4, look=looks) == [-number for number in range(8)]


def test_the_last_look_sees_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_LOOK_EVERY", 0.01)
    done: list[int] = []
    seen: list[int] = []
    each(range(9), done.append, width=3, look=lambda: seen.append(len(done)))
    assert seen[-1] == 9


def test_no_more_are_begun_once_one_came_to_enough(looks: Callable[[], None] | None) -> None:
    begun: list[int] = []

    def do(number: int) -> int:
        begun.append(number)
        return number

    came = each(range(100_000), do, width=4, enough=lambda number: number == 0, look=looks)
    assert 0 in came
    assert sorted(came) == sorted(begun)
    assert len(begun) < 100_000


@pytest.mark.parametrize("count", [1, 100])
def test_what_is_raised_is_raised_here_and_no_more_is_begun(count: int, looks: Callable[[], None] | None) -> None:
    begun: list[int] = []

    def do(number: int) -> None:
        begun.append(number)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        each(range(count), do, width=2, look=looks)
    assert len(begun) <= 2


def test_who_stops_looking_has_no_more_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "_LOOK_EVERY", 0.01)
    stopped = threading.Event()
    begun: list[int] = []

    def do(number: int) -> None:
        begun.append(number)
        stopped.wait(30)

    def look() -> None:
        stopped.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        each(range(100_000), do, width=2, look=look)
    assert len(begun) < 100_000


def test_without_memory_for_threads_they_are_done_one_by_one(
    monkeypatch: pytest.MonkeyPatch, looks: Callable[[], None] | None
) -> None:
    def none(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", none)
    done: list[int] = []
    each(range(9), done.append, width=4, look=looks)
    assert done == list(range(9))
