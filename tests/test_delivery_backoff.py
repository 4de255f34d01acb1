from __future__ import annotations

from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.delivery.backoff import FILE_TRIES, Backoff
from artifactd.errors import Failure, Kind, Scope

TRANSIENT = Failure(Kind.TRANSIENT, Scope.FILE, "the server said 500")


@given(
    attempt=st.integers(1, 10_000),
    initial=st.floats(0.01, 10),
    factor=st.floats(1, 1000),
)
def test_a_delay_lies_between_zero_and_the_bound_of_its_attempt(attempt: int, initial: float, factor: float) -> None:
    maximum = initial * factor
    delay = Backoff(initial, maximum).delay(attempt)
    assert 0 <= delay <= min(maximum, initial * 2.0 ** min(attempt - 1, 60)) * (1 + 1e-9)


def test_a_hundred_hosts_spread_over_the_whole_interval() -> None:
    delays = sorted(Backoff(1, 60).delay(20) for _ in range(1000))
    assert 25 < mean(delays) < 35
    tenths = [sum(1 for d in delays if low <= d < low + 6) for low in range(0, 60, 6)]
    assert min(tenths) > 50, tenths


def test_a_transient_failure_of_a_file_is_not_for_ever() -> None:
    policy = Backoff(1, 300)
    assert policy.judge(TRANSIENT, FILE_TRIES - 1) is TRANSIENT
    last = policy.judge(TRANSIENT, FILE_TRIES)
    assert last.kind is Kind.PERMANENT
    assert "12 tries" in last.error
    assert "artifactd retry" in last.cure


@pytest.mark.parametrize(("attempt", "kind"), [(1, Kind.TRANSIENT), (4, Kind.PERMANENT)])
def test_give_up_after_ends_the_tries_earlier(attempt: int, kind: Kind) -> None:
    assert Backoff(4, 300, give_up_after=20).judge(TRANSIENT, attempt).kind is kind


@pytest.mark.parametrize("kind", [Kind.PERMANENT, Kind.PAUSED])
def test_other_kinds_are_left_as_they_are(kind: Kind) -> None:
    failure = Failure(kind, Scope.FILE, "no")
    assert Backoff(1, 2, 0.1).judge(failure, 99) is failure
