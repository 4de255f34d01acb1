"""Work aside begins at once or never, and is waited for."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable

import pytest

from artifactd import aside
from artifactd.aside import begin
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
