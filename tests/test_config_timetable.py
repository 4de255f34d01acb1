"""Limits by the time of day: what holds at each minute of the week, and what is no timetable."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.config.problems import Mistake
from artifactd.config.timetable import Change, Timetable, format_limit, limit_at, parse_timetable

MIB = 2**20
WEEK = 7 * 24 * 60

changes = st.builds(
    Change, st.none() | st.integers(0, 6), st.integers(0, 24 * 60 - 1), st.integers(0, 2**63 - 1)
)  # fmt: skip
timetables = st.lists(changes, min_size=1, max_size=20, unique_by=lambda c: (c.day, c.minute)).map(
    lambda some: Timetable(tuple(some))
)


@given(timetables)
def test_what_is_written_is_read(timetable: Timetable) -> None:
    assert parse_timetable(format_limit(timetable)) == timetable


@given(timetables, st.integers(0, WEEK - 1))
def test_the_last_change_before_a_minute_holds_over_midnight_and_over_the_week(timetable: Timetable, now: int) -> None:
    for minute in range(now, now - WEEK, -1):  # back, until something changes
        day, of_day = divmod(minute % WEEK, 24 * 60)
        of_that_day = [c for c in timetable.changes if c.day == day and c.minute == of_day]
        found = of_that_day or [c for c in timetable.changes if c.day is None and c.minute == of_day]
        if found:
            assert timetable.at(*divmod(now, 24 * 60)) == found[0].limit
            return
    raise AssertionError("nothing changes in a week")


@given(timetables, st.integers(0, 6), st.integers(0, 24 * 60 - 1))
def test_the_order_of_entries_is_nothing(timetable: Timetable, day: int, minute: int) -> None:
    assert Timetable(timetable.changes[::-1]).at(day, minute) == timetable.at(day, minute)


@pytest.mark.parametrize(
    ("text", "when", "limit"),
    [
        ("08:00,10MiB 20:00,0", (2, "07:59"), 0),
        ("08:00,10MiB 20:00,0", (2, "08:00"), 10 * MIB),
        ("08:00,10MiB 20:00,0", (2, "19:59"), 10 * MIB),
        ("08:00,10MiB 20:00,0", (2, "20:00"), 0),
        ("08:00,10MiB 20:00,0", (0, "00:00"), 0),
        ("20:00,off;08:00,10MiB", (6, "23:59"), 0),
        ("8:00, 1.5MB", (0, "00:00"), 1_500_000),
        ("08:00,1MiB Sat-00:00,0 Mon-08:00,2MiB", (5, "07:59"), 0),
        ("08:00,1MiB Sat-00:00,0 Mon-08:00,2MiB", (5, "08:00"), MIB),
        ("08:00,1MiB Sat-00:00,0 Mon-08:00,2MiB", (0, "08:00"), 2 * MIB),
        ("08:00,1MiB saturday-00:00,0 MON-08:00,2MiB", (1, "08:00"), MIB),
    ],
)
def test_timetables_as_people_write_them(text: str, when: tuple[int, str], limit: int) -> None:
    day, of_day = when
    hour, minute = map(int, of_day.split(":"))
    assert parse_timetable(text).at(day, 60 * hour + minute) == limit


@pytest.mark.parametrize(
    ("text", "wrong", "instead"),
    [
        ("", '"" is no limit', '"08:00,10MiB 20:00,0"'),
        ("08:00", '"08:00" is no time with a limit', '"08:00,10MiB 20:00,0"'),
        ("10MiB,08:00", '"10MiB,08:00" is no time with a limit', '"08:00,10MiB 20:00,0"'),
        ("24:00,1MiB", '"24:00,1MiB" names no time of day', "00:00 to 23:59"),
        ("08:60,1MiB", '"08:60,1MiB" names no time of day', "00:00 to 23:59"),
        ("Son-08:00,1MiB", '"Son-08:00,1MiB" names no day of the week', "Sat, Sun"),
        ("08:00,fast", '"08:00,fast": "fast" is no size', '"10MiB"'),
        ("08:00,512", '"08:00,512": "512" is no size', '"10MiB"'),
        ("08:00,1MiB 8:00,2MiB", '"8:00,2MiB" is the second entry for that time', "remove one of the two"),
        ("08:00,1MiB " * 400, "the timetable is too long", '"08:00,10MiB 20:00,0"'),
    ],
)
def test_a_mistake_names_the_entry_and_what_to_write(text: str, wrong: str, instead: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse_timetable(text)
    assert caught.value.wrong == wrong
    assert instead in caught.value.instead


def test_a_plain_limit_holds_always() -> None:
    assert limit_at(MIB, 0.0) == limit_at(MIB, 2e9) == MIB


def test_the_clock_on_the_wall_counts_also_when_summer_time_begins_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    zone = ZoneInfo("Europe/Berlin")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        timetable = parse_timetable("08:00,10MiB 20:00,0 02:30,5MiB")
        for date in ((3, 28), (3, 29), (10, 25), (10, 26)):
            day = datetime(2026, *date, tzinfo=zone)
            for hours, limit in ((1, 0), (4, 5), (7.99, 5), (8, 10), (19.99, 10), (20, 0), (23.99, 0)):
                now = (day + timedelta(hours=hours)).timestamp()
                assert limit_at(timetable, now) == limit * MIB, (day, hours)
        # 02:30 comes twice on that night, and not at all on the other one: then what holds at 03:00 is the same.
        assert limit_at(timetable, datetime(2026, 3, 29, 3, 0, tzinfo=zone).timestamp()) == 5 * MIB
        assert limit_at(timetable, datetime(2026, 3, 29, 1, 59, tzinfo=zone).timestamp()) == 0
    finally:
        monkeypatch.undo()
        time.tzset()
