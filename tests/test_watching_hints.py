from __future__ import annotations

import math
import threading

from hypothesis import example, given
from hypothesis import strategies as st

from artifactd.watching.hints import Hint, Hints

Mark = tuple[bytes, bytes | None, bool]
"""Folder, one name in it or all, with everything below."""


def covers(hint: Hint, mark: Mark) -> bool:
    folder, name, deep = mark
    if hint.deep:
        return not hint.rel or folder == hint.rel or folder.startswith(hint.rel + b"/")
    if hint.rel != folder or deep:
        return False
    return hint.names is None or name in hint.names


def apply(hints: Hints, mark: Mark) -> None:
    folder, name, deep = mark
    if name is not None:
        hints.file(folder, name)
    else:
        hints.folder(folder, deep=deep)


names = st.sampled_from([b"a", b"b", b"ab", b"\xff", b"c\n"])
folders = st.lists(names, max_size=4).map(b"/".join)
marks = st.one_of(
    st.tuples(folders, names, st.just(False)),
    st.tuples(folders, st.none(), st.booleans()),
)


@given(st.lists(st.lists(marks, max_size=30), max_size=4), st.integers(1, 12))
def test_whatever_was_marked_is_covered_by_the_next_take(rounds: list[list[Mark]], limit: int) -> None:
    wakes = []
    hints = Hints(lambda: wakes.append(len(hints)), limit)
    for marked in rounds:
        wakes.clear()
        for mark in marked:
            apply(hints, mark)
            assert len(hints) <= limit
        taken = hints.take()
        assert all(any(covers(hint, mark) for hint in taken) for mark in marked)
        assert bool(taken) == bool(marked) == bool(wakes)
        assert len(hints) == 0


@given(st.lists(marks, max_size=30))
@example([(b"a/b", b"f", False), (b"a/b/c", None, True), (b"a", None, True)])
def test_no_hint_says_what_another_one_says_already(marked: list[Mark]) -> None:
    hints = Hints(lambda: None)
    for mark in marked:
        apply(hints, mark)
    taken = hints.take()
    for hint in taken:
        wanted: list[Mark] = [(hint.rel, None, hint.deep)]
        assert not any(covers(other, mark) for other in taken if other is not hint for mark in wanted)


def test_names_stay_exact_while_they_are_few() -> None:
    hints = Hints(lambda: None)
    for name in (b"one", b"two", b"one"):
        hints.file(b"a/b", name)
    assert hints.take() == [Hint(b"a/b", frozenset({b"one", b"two"}), deep=False)]
    assert hints.take() == []


def test_many_names_become_the_folder_and_many_folders_become_everything() -> None:
    hints = Hints(lambda: None, limit=3)
    for n in range(257):
        hints.file(b"a", b"%d" % n)
    assert hints.take() == [Hint(b"a", None, deep=False)]
    for n in range(4):
        hints.file(b"%d" % n, b"f")
    assert hints.take() == [Hint(b"", None, deep=True)]


def test_a_storm_below_a_folder_that_is_due_deeply_takes_no_room() -> None:
    hints = Hints(lambda: None, limit=2)
    hints.folder(b"moved/in", deep=True)
    for n in range(1000):
        hints.folder(b"moved/in/%d" % n, deep=True)
        hints.file(b"moved/in/%d" % n, b"f")
    assert hints.take() == [Hint(b"moved/in", None, deep=True)]


def test_it_wakes_once_until_it_is_taken() -> None:
    wakes = []
    hints = Hints(lambda: wakes.append(True))
    hints.file(b"", b"one")
    hints.everything()
    hints.folder(b"a", deep=False)
    assert len(wakes) == 1
    hints.take()
    hints.everything()
    assert len(wakes) == 2


def test_nothing_is_lost_between_threads() -> None:
    hints, done = Hints(lambda: None, limit=10_000), threading.Event()
    taken: list[Hint] = []

    def mark(thread: int) -> None:
        for n in range(2000):
            hints.file(b"%d" % (n % 50), b"%d-%d" % (thread, n))

    def take() -> None:
        while not done.is_set():
            taken.extend(hints.take())

    markers = [threading.Thread(target=mark, args=(number,)) for number in range(3)]
    taker = threading.Thread(target=take)
    for thread in (taker, *markers):
        thread.start()
    for thread in markers:
        thread.join()
    done.set()
    taker.join()
    taken.extend(hints.take())
    assert all(hint.names is not None for hint in taken)
    found = {(hint.rel, name) for hint in taken for name in hint.names or ()}
    assert found == {(b"%d" % (n % 50), b"%d-%d" % (thread, n)) for thread in range(3) for n in range(2000)}


def test_what_comes_soon_after_a_take_waits_for_more_and_what_is_urgent_does_not() -> None:
    hints = Hints(lambda: None, gather=3600)
    assert hints.pause == math.inf
    hints.file(b"a", b"one")
    assert hints.pause == 0, "nothing was taken before it"
    hints.take()
    hints.file(b"a", b"two")
    assert 3500 < hints.pause <= 3600
    hints.hurry()
    assert hints.pause == 0
    assert hints.take() == [Hint(b"a", frozenset({b"two"}), deep=False)]
