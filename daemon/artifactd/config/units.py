"""Durations and sizes as people write them: ``1h30m``, ``500ms``, ``10MiB``."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import TypeGuard

from artifactd.config.problems import Mistake, shown

LONGEST = 36_525 * 86_400.0
"""Seconds of the longest duration, a hundred years: more is a slip, and overflows clocks and timeouts."""

LARGEST = 2**63 - 1
"""Bytes of the largest size: what a file can hold."""

_DURATION_UNITS = {
    "d": Fraction(86_400),
    "h": Fraction(3_600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1_000),
}
_SIZE_UNITS = {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kMGT", start=1)
    for suffix, base in (("iB", 1_024), ("B", 1_000))
} | {"B": 1}  # fmt: skip

_NUMBER = r"(\d+(?:\.\d+)?)"
# Each unit once, the largest first.
_DURATION = re.compile(
    r"\s*".join(rf"(?:{_NUMBER}\s*{unit}(?![a-z]))?" for unit in _DURATION_UNITS), re.ASCII | re.IGNORECASE
)
_SIZE = re.compile(rf"{_NUMBER}\s*([a-z]+)", re.ASCII | re.IGNORECASE)
_MOST_CHARACTERS = 400

_WRITE_DURATION = 'write it as "5s", "2m", "1h30m", "1d" or "500ms"'
_WRITE_SIZE = 'write it as "10MiB", "1.5GiB", "10MB" or "0"'


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def parse_duration(value: str | float) -> float:
    """Read a duration.

    Args:
        value: Text as ``5s``, ``1h30m``, ``1.5d`` or ``0``; a number is seconds.

    Returns:
        Seconds, not negative.

    Raises:
        Mistake: If it is none (a ``ValueError`` whose text shows an example).
    """
    if isinstance(value, str):
        seconds = _seconds(value)
    elif is_number(value):
        seconds = float(value)
    else:
        seconds = None
    if seconds is None or seconds < 0:
        raise Mistake(f"{shown(value)} is no duration", _WRITE_DURATION)
    if seconds > LONGEST:
        raise Mistake(f"{shown(value)} is more than a hundred years", _WRITE_DURATION)
    return seconds


def format_duration(seconds: float) -> str:
    """Write a duration so that ``parse_duration`` reads the very same number.

    Args:
        seconds: Seconds, from 0 to ``LONGEST``.
    """
    rest = Decimal(repr(float(seconds)))
    if 0 < rest < 1 and rest * 1_000 == (milliseconds := int(rest * 1_000)):
        return f"{milliseconds}ms"
    text = ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, rest = divmod(rest, length)
        text += f"{count:f}{unit}" if count else ""
    return f"{text}{rest.normalize():f}s" if rest or not text else text


def parse_size(value: str | float) -> int:
    """Read a size.

    Args:
        value: Text as ``10MiB`` (1,024s), ``10MB`` (1,000s), ``512B`` or ``0``; a whole number is bytes.

    Returns:
        Bytes, not negative; fractions of a byte are rounded.

    Raises:
        Mistake: If it is none (a ``ValueError`` whose text shows an example).
    """
    if isinstance(value, str):
        size = _bytes(value)
    elif is_number(value) and value == int(value):
        size = int(value)
    else:
        size = None
    if size is None or not 0 <= size <= LARGEST:
        raise Mistake(f"{shown(value)} is no size", _WRITE_SIZE)
    return size


def format_size(size: int) -> str:
    """Write a size so that ``parse_size`` reads the very same number.

    Args:
        size: Bytes.
    """
    whole = [(size // length, unit) for unit, length in _SIZE_UNITS.items() if size and size % length == 0]
    return "".join(map(str, min(whole))) if whole else "0"


def _seconds(text: str) -> float | None:
    text = text.strip()
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    if match is None or not any(match.groups()):
        return None
    # Fractions, so that nothing is rounded twice.
    lengths = zip(match.groups(), _DURATION_UNITS.values(), strict=True)
    return float(sum(Fraction(number) * length for number, length in lengths if number))


def _bytes(text: str) -> int | None:
    text = text.strip()
    if text == "0":
        return 0
    match = _SIZE.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    length = match and {unit.lower(): length for unit, length in _SIZE_UNITS.items()}.get(match[2].lower())
    return round(Fraction(match[1]) * length) if match and length else None
