from __future__ import annotations

from collections.abc import Iterator

from artifactd.rounds import Rounds, Walk
from artifactd.watching.scan import Listing


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
    rounds = Rounds(tree.walk, b"", 3600.0)
    assert rounds.to_do(scan=True)
    assert not rounds.to_do(scan=False), "it waits for the watch to stand"
    assert tree.look(rounds) == [b"", b"a", b"b"]
    assert (rounds.scans, rounds.to_do(scan=True)) == (1, False)


def test_a_slice_ends_in_the_middle_and_the_next_one_goes_on() -> None:
    tree = Tree(b"", b"a", b"b")
    rounds = Rounds(tree.walk, b"", 3600.0)
    seen = [tree.look(rounds, 0.0)[:] for _ in range(4)]
    assert seen == [[b""], [b"a"], [b"b"], []]
    assert rounds.scans == 1


def test_named_folders_come_before_the_scan_goes_on_and_each_once() -> None:
    tree = Tree(b"", b"a", b"a/1", b"b")
    rounds = Rounds(tree.walk, b"", 3600.0)
    tree.look(rounds, 0.0)
    rounds.below(b"a")
    rounds.below(b"b")
    rounds.below(b"a")
    assert tree.look(rounds) == [b"a", b"a/1", b"b", b"a", b"a/1", b"b"]
    assert rounds.scans == 1


def test_what_is_asked_for_in_the_middle_of_a_scan_is_another_scan() -> None:
    tree = Tree(b"", b"a")
    rounds = Rounds(tree.walk, b"", 3600.0)
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
    rounds = Rounds(tree.walk, b"", 3600.0)
    tree.look(rounds, 0.0)
    rounds.below(b"a")
    rounds.drop()
    assert tree.closed == 1
    assert tree.look(rounds) == [b"", b"a"]


def test_the_scan_begins_where_it_is_told() -> None:
    tree = Tree(b"", b"a", b"a/1", b"b")

    def looked() -> Iterator[bytes]:
        yield from tree.look(Rounds(tree.walk, b"a", 3600.0))

    assert list(looked()) == [b"a", b"a/1"]
