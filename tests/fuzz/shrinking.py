"""Inputs by hypothesis: fewer, and what it finds it makes small."""

from __future__ import annotations

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fuzz.engine import SECONDS, Target


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """A target's words, pieces of its examples, and noise, in a row."""
    examples = st.sampled_from(target.examples or [b""])
    pieces = st.one_of(st.sampled_from(target.pieces), st.binary(max_size=20), examples.flatmap(_piece))
    return st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=8).map(b"".join), examples.flatmap(_changed))


def _piece(example: bytes) -> st.SearchStrategy[bytes]:
    ends = st.tuples(st.integers(0, len(example)), st.integers(0, 60))
    return ends.map(lambda at: example[at[0] : at[0] + at[1]])


def _changed(example: bytes) -> st.SearchStrategy[bytes]:
    change = st.tuples(st.integers(0, len(example)), st.integers(0, 10), st.binary(max_size=10))
    return change.map(lambda c: example[: c[0]] + c[2] + example[c[0] + c[1] :])


def search(target: Target, number: int, start: int) -> None:
    """Have hypothesis look for an input that the target does not stand.

    Args:
        target: Which.
        number: Inputs.
        start: Its seed.

    Raises:
        Exception: What the smallest input that it found comes to.
    """

    @seed(start)
    @settings(
        max_examples=number, database=None, deadline=SECONDS * 1000, suppress_health_check=list(HealthCheck),
        print_blob=True
    )  # fmt: skip
    @given(inputs(target))
    def stands(data: bytes) -> None:
        target.check(data)

    stands()
