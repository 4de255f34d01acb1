from __future__ import annotations

import pytest

from artifactd.doctor import words


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0.2, "0s"), (42.4, "42s"), (-42.4, "42s"), (100, "1m40s"), (12_000, "3h20m"), (90_000, "1d1h"), (1e7, "116d")],
)
def test_a_length_of_time_has_two_units_at_most(seconds: float, says: str) -> None:
    assert words.length(seconds) == says


@pytest.mark.parametrize(
    ("count", "says"), [(2048, "2 KiB"), (5 * 2**20, "5.0 MiB"), (2000 * 2**30, "2,000.0 GiB"), (0, "0 KiB")]
)
def test_sizes(count: float, says: str) -> None:
    assert words.size(count) == says


def test_moments_are_in_utc_and_no_number_is_too_much() -> None:
    assert words.moment(1_769_877_000) == "2026-01-31 16:30 UTC"
    assert words.moment(1e300) == "a time that no clock will show"
