from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from artifactd.rounds import Rounds, Walk, scan_pause
from artifactd.watching.scan import Listing


def hourly(_cost: float) -> float:
    return 3600.0


class Tree:
    """Folders to walk, and which of them were looked at."""

    def __init__(self, *folders: bytes) -> None:
        self.folders = folders
        self.seen: list[bytes] = []
        self.closed = 0

    def walk(self, rel: bytes) -> Walk:
        try:
            for folder in self.folders:
                if folder.startswith(rel):
                    yield Listing(folder)
        finally:
            self.closed += 1

    def look(self, rounds: Rounds, seconds: float = 60.0, *, scan: bool = True) -> list[bytes]:
        self.seen = []
        rounds.go_on(seconds, lambda listing: self.seen.append(listing.rel), scan=scan)
        return self.seen


def test_the_first_thing_is_a_full_scan_and_then_nothing_for_a_while() -> None:
    tree = Tree(b"", b"a", b"b")
    rounds = Rounds(tree.walk, b"", hourly)
    assert rounds.to_do(scan=True)
    assert not rounds.to_do(scan=False), "it waits for the watch to stand"
    assert tree.look(rounds) == [b"", b"a", b"b"]
    assert (rounds.scans, rounds.to_do(scan=True)) == (1, False)


def test_a_slice_ends_in_the_middle_and_the_next_one_goes_on() -> None:
    tree = Tree(b"", b"a", b"b")
    rounds = Rounds(tree.walk, b"", hourly)
    seen = [tree.look(rounds, 0.0)[:] for _ in range(4)]
    assert seen == [[b""], [b"a"], [b"b"], []]
    assert rounds.scans == 1


def test_named_folders_come_before_the_scan_goes_on_and_each_once() -> None:
    tree = Tree(b"", b"a", b"a/1", b"b")
    rounds = Rounds(tree.walk, b"", hourly)
    tree.look(rounds, 0.0)
    rounds.below(b"a")
    rounds.below(b"b")
    rounds.below(b"a")
    assert tree.look(rounds) == [b"a", b"a/1", b"b", b"a", b"a/1", b"b"]
    assert rounds.scans == 1


def test_what_is_asked_for_in_the_middle_of_a_scan_is_another_scan() -> None:
    tree = Tree(b"", b"a")
    rounds = Rounds(tree.walk, b"", hourly)
    tree.look(rounds, 0.0)
    rounds.scan_soon()
    tree.look(rounds)
    assert rounds.to_do(scan=True), "it had been to the root already"
    assert tree.look(rounds) == [b"", b"a"]
    assert not rounds.to_do(scan=True)
    rounds.scan_soon()
    assert tree.look(rounds) == [b"", b"a"]
    assert not rounds.to_do(scan=True)


def test_what_is_dropped_is_closed_and_begun_anew() -> None:
    tree = Tree(b"", b"a")
    rounds = Rounds(tree.walk, b"", hourly)
    tree.look(rounds, 0.0)
    rounds.below(b"a")
    rounds.drop()
    assert tree.closed == 1
    assert tree.look(rounds) == [b"", b"a"]


def test_the_scan_begins_where_it_is_told() -> None:
    tree = Tree(b"", b"a", b"a/1", b"b")

    def looked() -> Iterator[bytes]:
        yield from tree.look(Rounds(tree.walk, b"a", hourly))

    assert list(looked()) == [b"a", b"a/1"]


def test_full_scans_are_as_far_apart_as_their_cost_asks_for() -> None:
    asked, hour = 300.0, 3600.0
    assert scan_pause(0.01, asked, hour) == asked, "a small tree costs nothing"
    assert scan_pause(0.5, asked, hour) == pytest.approx(0.5 / 0.0002)
    assert scan_pause(5.0, asked, hour) == hour
    assert scan_pause(5.0, asked, asked) == asked, "without events, and where it was asked for"
    assert scan_pause(60.0, asked, asked) == pytest.approx(1200.0), "never more than a twentieth of a core"


def test_a_scan_says_what_it_took_of_a_core_and_not_what_lies_between_its_slices() -> None:
    tree, costs = Tree(b"", b"a", b"b"), list[float]()

    def pause(cost: float) -> float:
        costs.append(cost)
        return 3600.0

    rounds = Rounds(tree.walk, b"", pause)
    before = time.thread_time()
    while not rounds.scans:
        tree.look(rounds, 0.0)
    took = time.thread_time() - before
    for _ in range(100_000):
        pass
    (cost,) = costs
    assert 0 < cost <= took
