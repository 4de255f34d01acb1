"""Sizes, lengths of time and moments within a sentence."""

from __future__ import annotations

import datetime

from artifactd.config import format_duration

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_LONGEST = 36_525.0 * _DAY
"""Seconds: a hundred years, or more."""


def size(count: float) -> str:
    """Bytes, as ``3.4 MiB``."""
    if count < 2**20:
        return f"{count / 2**10:,.0f} KiB"
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"


def length(seconds: float) -> str:
    """A length of time in two units at most, as ``42s``, ``3h20m`` or ``12d``; of a negative one, the same."""
    seconds = min(abs(seconds), _LONGEST)
    unit = 1 if seconds < 2 * _MINUTE else _MINUTE if seconds < _DAY else _HOUR if seconds < 10 * _DAY else _DAY
    return format_duration(float(round(seconds / unit) * unit))


def moment(at: float) -> str:
    """A moment in UTC, as ``2026-01-31 16:30 UTC``; `at` is in unix seconds."""
    try:
        return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "a time that no clock will show"
