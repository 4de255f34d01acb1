"""A limit that depends on the time of day: ``08:00,10MiB 20:00,0``, written as rclone's ``--bwlimit`` takes it. Pure.

What holds at a moment is found anew from the wall clock each time it is asked. So nothing has to happen at midnight,
when a clock is set, or when summer time begins.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from artifactd.config.problems import Mistake, shown
from artifactd.config.units import format_size, parse_size

_LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = 24 * 60
"""Minutes."""
_ENTRY = re.compile(r"(?:(?P<day>[A-Za-z]+)-)?(?P<hour>\d{1,2}):(?P<minute>\d\d),(?P<limit>[^,]+)", re.ASCII)
_MOST_CHARACTERS = 4000

_WRITE = 'write it as "10MiB", or with times of day as "08:00,10MiB 20:00,0", 0 for no limit'


@dataclass(frozen=True, slots=True)
class Change:
    """From a minute on, a limit.

    Attributes:
        day: 0 for Monday to 6; None for every day.
        minute: Of the day.
        limit: Bytes/s, 0 for none.
    """

    day: int | None
    minute: int
    limit: int


@dataclass(frozen=True, slots=True)
class Timetable:
    """A limit for each minute of the week.

    Attributes:
        changes: As they were written; at least one.
    """

    changes: tuple[Change, ...]

    def at(self, day: int, minute: int) -> int:
        """What holds then: the change before it, be it of the day before or of the last week.

        Args:
            day: 0 for Monday.
            minute: Of the day.

        Returns:
            Bytes/s, 0 for none.
        """
        limits = {(d, c.minute): c.limit for c in self.changes if c.day is None for d in range(len(_DAYS))}
        limits |= {(c.day, c.minute): c.limit for c in self.changes if c.day is not None}  # a day's own goes before
        before = [moment for moment in limits if moment <= (day, minute)]
        return limits[max(before or limits)]

    def __str__(self) -> str:
        days = ["" if c.day is None else f"{_DAYS[c.day]}-" for c in self.changes]
        times = [f"{c.minute // 60:02}:{c.minute % 60:02},{format_size(c.limit)}" for c in self.changes]
        return " ".join(map("".join, zip(days, times, strict=True)))


Limit = int | Timetable
"""Bytes/s, 0 for none; or which of them when."""


def limit_at(limit: Limit, now: float) -> int:
    """What holds at a moment, by the local time of this host.

    Args:
        limit: As configured.
        now: Unix seconds.

    Returns:
        Bytes/s, 0 for none.
    """
    if isinstance(limit, int):
        return limit
    local = time.localtime(now)
    return limit.at(local.tm_wday, local.tm_hour * 60 + local.tm_min)


def is_timetable(value: object) -> bool:
    """Whether a value is written as a timetable, right or wrong: a plain size has neither comma nor colon."""
    return isinstance(value, str) and not {",", ":"}.isdisjoint(value)


def parse_timetable(text: str) -> Timetable:
    """Read a timetable.

    Args:
        text: ``08:00,10MiB 20:00,0``; entries are parted by blanks or semicolons, and may name a day (``Sat-08:00,0``).

    Raises:
        Mistake: If it is none.
    """
    if len(text) > _MOST_CHARACTERS:
        raise Mistake("the timetable is too long", _WRITE)
    entries = re.sub(r",\s+", ",", text).replace(";", " ").split()
    if not entries:
        raise Mistake(f"{shown(text)} is no limit", _WRITE)
    changes: dict[tuple[int | None, int], Change] = {}
    for entry in entries:
        change = _change(entry)
        if (change.day, change.minute) in changes:
            raise Mistake(f"{shown(entry)} is the second entry for that time", "remove one of the two")
        changes[change.day, change.minute] = change
    return Timetable(tuple(changes.values()))


def format_limit(limit: Limit) -> str:
    """Write a limit so that the very same is read."""
    return format_size(limit) if isinstance(limit, int) else str(limit)


def _change(entry: str) -> Change:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise Mistake(f"{shown(entry)} is no time with a limit", _WRITE)
    day = None
    if match["day"] is not None:
        name = match["day"].lower()
        day = next((i for i, d in enumerate(_DAYS) if name in (d.lower(), _LONG[i])), None)
        if day is None:
            raise Mistake(
                f"{shown(entry)} names no day of the week", f'write one of {", ".join(_DAYS)}, as "Sat-08:00,0"'
            )
    hour, minute = int(match["hour"]), int(match["minute"])
    if hour > 23 or minute > 59:
        raise Mistake(f"{shown(entry)} names no time of day", "write one from 00:00 to 23:59")
    if match["limit"].lower() == "off":
        return Change(day, hour * 60 + minute, 0)
    try:
        return Change(day, hour * 60 + minute, parse_size(match["limit"]))
    except Mistake as mistake:
        raise Mistake(f"{shown(entry)}: {mistake.wrong}", mistake.instead) from None
