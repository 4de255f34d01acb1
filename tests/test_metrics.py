"""What the process counts: each value between its bounds, sums that never fall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.metrics import Distribution, Figures


@given(st.lists(st.floats(0, 1e6)))
def test_each_value_is_counted_up_to_the_bounds_that_it_does_not_exceed(values: list[float]) -> None:
    found = Distribution((0.5, 10.0, 300.0))
    for value in values:
        found.add(value)
    counts = dict(found.up_to())
    for bound in found.bounds:
        assert counts[str(bound)] == sum(value <= bound for value in values)
    assert counts["+Inf"] == len(values)
    assert found.total == pytest.approx(sum(values))  # which compensates for what is rounded, from Python 3.12 on


def test_two_do_not_share_their_counts() -> None:
    one, other = Figures(), Figures()
    one.uploaded(4096, 0.2)
    one.failed["transient"] += 1
    assert (one.sizes.total, one.seconds.total) == (4096, 0.2)
    assert (other.sizes.total, other.seconds.up_to()[-1], other.failed["transient"]) == (0, ("+Inf", 0), 0)
