"""How many jobs at once: halved once for each time that it is too much, and one more for each round that goes well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from artifactd.delivery.width import Width


def test_several_jobs_that_meet_the_same_crowd_halve_once() -> None:
    width = Width(8)
    out = [width.stamp for _ in range(8)]
    assert [width.crowded(stamp) for stamp in out] == [True, *[False] * 7]
    assert width.jobs == 4
    assert width.crowded(width.stamp)
    assert width.jobs == 2


def test_it_comes_back_by_one_for_each_round_that_goes_well() -> None:
    width = Width(4)
    width.crowded(width.stamp)
    rounds = [width.well() for _ in range(6)]
    assert width.jobs == 4
    assert rounds.count(True) == 1, "said once"


@given(st.integers(1, 32), st.lists(st.booleans(), max_size=200))
def test_it_is_always_between_one_and_all(most: int, answers: list[bool]) -> None:
    width = Width(most)
    for well in answers:
        if well:
            width.well()
        else:
            width.crowded(width.stamp)
        assert 1 <= width.jobs <= most
    for _ in range(most * most):
        width.well()
    assert width.jobs == most
