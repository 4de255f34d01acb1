"""A rate that processes and threads share: how much passes, who waits, and that nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from artifactd import throttle
from artifactd.delivery.pool import _bytes_moved
from artifactd.throttle import BURST, LARGEST, SMALLEST, Shared
from support import wait_for

MIB = 2**20


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared()
    yield made
    made.close()


def forked(work: Callable[[], None]) -> int:
    """A process that does it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_processes_and_threads_together_take_no_more_than_the_rate(shared: Shared) -> None:
    shared.line.rate = MIB
    begun = time.monotonic()

    def work() -> None:
        threads = [threading.Thread(target=shared.line.take, args=(MIB // 8,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for pid in [forked(work) for _ in range(4)]:
        os.waitpid(pid, 0)
    assert time.monotonic() - begun > 2 - 2 * BURST, "16 threads took 2 MiB"


def test_who_asks_for_much_does_not_stand_before_who_asks_for_little(shared: Shared) -> None:
    shared.line.rate = 64 * 1024
    pid = forked(lambda: shared.line.take(64 * MIB))  # a quarter of an hour
    try:
        wait_for(lambda: shared.line._numbers[shared.line._free_at] > 0, "it has begun")
        shared.line.take(SMALLEST)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_without_a_limit_nobody_waits_and_nothing_is_written(shared: Shared) -> None:
    before = _bytes_moved(psutil.Process())
    shared.take(2**60)
    assert shared.line._numbers[shared.line._free_at] == 0
    assert shared.piece == throttle.UNLIMITED
    assert _bytes_moved(psutil.Process()) - before < 4096


@pytest.mark.parametrize("after", [2**40, 0])
def test_a_higher_limit_and_none_hold_for_those_that_wait(shared: Shared, after: int) -> None:
    shared.line.rate = 1
    pid = forked(lambda: shared.line.take(MIB))  # 12 days
    wait_for(lambda: shared.line._numbers[shared.line._free_at] > time.monotonic(), "it waits")
    shared.line.rate = after
    assert wait_for(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), "it is through", 20)


def test_a_process_that_was_killed_in_its_turn_holds_nobody_up(shared: Shared) -> None:
    shared.line.rate = 2**40

    def hold() -> None:
        with throttle._Alone(shared.fd):
            signal.pause()

    pid = forked(hold)
    try:
        wait_for(lambda: _is_locked(shared.fd), "it has the lock")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    shared.line.take(MIB)


def _is_locked(fd: int) -> bool:
    with open("/proc/locks") as locks:
        inode = os.fstat(fd).st_ino
        return any(line.split()[5].endswith(f":{inode}") for line in locks if "->" not in line)


def test_who_waits_for_its_share_is_seen_to_move(shared: Shared) -> None:
    shared.line.rate = 16 * SMALLEST
    pid = forked(lambda: shared.line.take(MIB))
    try:
        seen = wait_for(lambda: _bytes_moved(psutil.Process(pid)), "it moves")
        wait_for(lambda: _bytes_moved(psutil.Process(pid)) > seen, "it goes on moving")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("rate", [1, 255, 1024, 64 * 1024, MIB, 2**40])
def test_a_piece_is_small_and_never_nothing(shared: Shared, rate: int) -> None:
    shared.line.rate = rate
    assert 1 <= shared.line.piece <= min(LARGEST, max(SMALLEST, rate // 50))
    assert shared.line.piece <= rate


def test_another_process_sees_the_same_by_its_descriptor(shared: Shared) -> None:
    shared.reading.rate, shared.wanted = 5, True
    other = Shared(os.dup(shared.fd))
    assert (other.line.rate, other.reading.rate, other.wanted) == (0, 5, True)
    other.close()


def test_a_process_that_was_told_of_no_limit_keeps_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "here", None)
    throttle.read(2**60)
    throttle.copy(2**60)
