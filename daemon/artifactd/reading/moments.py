"""Which of a row's values is its step, which its time, and what they say.

The step is the first of ``STEPS`` that a row has (a table: its header): the most specific one. Its whole part counts,
and what is no whole number (an epoch of 2.5) is told as a metric too, so nothing is lost. The other ones are metrics.

The time is the first of ``TIMES`` that holds a moment. A number below 100,000,000 (1973, were it seconds) is not one
but a duration, as in Ultralytics' ``time``, and is a metric.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

STEPS = (
    ("global_step", "trainer/global_step", "step", "_step")
    + ("training_iteration", "iteration", "iter")
    + ("time/total_timesteps", "epoch")
)
"""Names of steps, lower case, the most specific first."""

TIMES = ("timestamp", "_timestamp", "wall_time", "wall time", "walltime", "datetime", "date", "time")
"""Names of times, lower case."""

_FIRST_MOMENT = 1e8
# From here on a number counts milliseconds, microseconds, nanoseconds: as seconds it would lie in the year 5138.
_PER_SECOND = ((1e11, 1), (1e14, 10**3), (1e17, 10**6), (1e20, 10**9))
_INT64 = 2**63


def step_of(value: object) -> int | None:
    """Read a step.

    Args:
        value: As the file has it.

    Returns:
        Its whole part, if it is a finite number of 64 bits; a truth value is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    step = int(value)
    return step if -_INT64 <= step < _INT64 else None


def moment_of(value: object) -> int | None:
    """Read a time.

    Args:
        value: A number since 1970 in seconds, ms, µs or ns, told apart by its size; or ISO 8601 text, in UTC if it
            names no zone.

    Returns:
        Milliseconds since 1970, or None if it is no moment after that.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        units = next((units for most, units in _PER_SECOND if value < most), 0)
        return round(value * 1000 / units) if value >= _FIRST_MOMENT and units else None
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        milliseconds = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
    return milliseconds if milliseconds >= 0 else None
