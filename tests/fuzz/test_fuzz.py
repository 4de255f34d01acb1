"""A few inputs for each target, the same ones each time; ``make fuzz`` gives over a million."""

from __future__ import annotations

import pytest

from fuzz import targets
from fuzz.engine import FoundError, HangError, Target, give, input_of
from fuzz.shrinking import search

_SOME, _FEW = 100, 12


@pytest.mark.parametrize("name", targets.ALL)
def test_a_few_inputs_are_stood(name: str) -> None:
    target = targets.ALL[name]
    few = _FEW if name in targets.SLOW else _SOME
    assert give(target, 1, range(few)) == few
    if name not in targets.SLOW:
        search(target, 10, 1)


def test_a_whole_run_is_a_million_inputs_and_more() -> None:
    assert sum(target.share for target in targets.ALL.values()) >= 1_000_000


def test_an_input_is_the_same_again_and_others_differ() -> None:
    target = targets.ALL["params"]
    made = [input_of(target, 7, number) for number in range(300)]
    assert made == [input_of(target, 7, number) for number in range(300)]
    assert made[: len(target.examples)] == list(target.examples)
    assert len(set(made)) > 290
    assert made != [input_of(target, 8, number) for number in range(300)]


def test_what_is_not_stood_is_named_so_that_it_can_be_had_again() -> None:
    def check(data: bytes) -> None:
        assert b"x" not in data

    target = Target("strict", check, [b"a", b"b", b"abxc"])
    with pytest.raises(FoundError, match=r"strict, seed 5, input 2: b'abxc'") as found:
        give(target, 5, range(10))
    assert found.value.data == b"abxc"


def test_an_input_that_never_ends_is_found() -> None:
    def check(data: bytes) -> None:
        while data:
            pass

    with pytest.raises(FoundError) as found:
        give(Target("endless", check, [b"", b"a"]), 1, range(2), seconds=0.05)
    assert isinstance(found.value.__cause__, HangError)
