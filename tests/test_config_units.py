"""Durations and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.config.units import LARGEST, LONGEST, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("2m", 120),
        ("1h30m", 5_400),
        ("500ms", 0.5),
        ("1d", 86_400),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5h", 5_400),
        ("0.1s", 0.1),
        ("1h 30m", 5_400),
        (" 2 m ", 120),
        ("5S", 5),
        ("0", 0),
        ("0s", 0),
        (0, 0),
        (3, 3),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "5 sec", "s", "m5", "1m1h", "1h1h", "-5s", "1e3s", "5s.", "1..5s", "\u0665s", "never", "1m2", "5 m s"]
    + [-1, float("nan"), float("inf"), True, None, [], "9" * 5_000 + "s", 10**400, 2 * LONGEST, "40000d"],
)
def test_what_is_no_duration_shows_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='as "5s", "2m", "1h30m"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (5, "5s"), (120, "2m"), (5_400, "1h30m"), (86_400, "1d"), (61.5, "1m1.5s"), (300, "5m")]
    + [(0.0005, "0.0005s"), (0.1 + 0.2, "0.30000000000000004s"), (1e-7, "0.0000001s"), (LONGEST, "36525d")],
)
def test_a_duration_is_written_as_people_write_it(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=LONGEST))
def test_a_written_duration_reads_as_the_very_same_number(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text("0123456789.dhms ") | st.text())
def test_no_text_breaks_the_readers(text: str) -> None:
    for read, largest in ((parse_duration, LONGEST), (parse_size, LARGEST)):
        try:
            value = read(text)
        except ValueError as error:
            assert "write it as" in str(error)  # noqa: PT017 - most texts are wrong, some are not
        else:
            assert 0 <= value <= largest


@pytest.mark.parametrize(
    ("text", "size"),
    [("10MiB", 10 * 2**20), ("10MB", 10**7), ("1.5GiB", 3 * 2**29), ("512B", 512), ("1kB", 1_000), ("1 KiB", 1_024)]
    + [("2tib", 2**41), ("10mb", 10**7), ("0", 0), (0, 0), (7, 7), (1024.0, 1_024), ("0.1KiB", 102)],
)
def test_a_size_is_bytes(text: str | float, size: int) -> None:
    assert parse_size(text) == size
    assert isinstance(parse_size(text), int)


@pytest.mark.parametrize(
    "text",
    ["", "10", "10M", "MiB", "-1B", "1e6B", "10 apples", "1,5MiB", "never", "9" * 5_000 + "B", "9000000TiB"]
    + [-1, 0.5, True, None, float("nan"), float("inf"), 10**400],
)
def test_what_is_no_size_shows_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r'as "10MiB", "1\.5GiB"'):
        parse_size(text)


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (10 * 2**20, "10MiB"), (10**7, "10MB"), (1_500, "1500B")])
def test_a_size_is_written_as_people_write_it(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, LARGEST))
def test_a_written_size_reads_as_the_very_same_number(size: int) -> None:
    assert parse_size(format_size(size)) == size
