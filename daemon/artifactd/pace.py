"""When a file may be sent: at rest, but no oftener than its past allows. Pure.

Two things would otherwise send the same bytes without end: a file that is rewritten every few seconds for days, and one
that grows for days and is quiet between two lines. The first is spaced out geometrically; the second, where a ``live``
pattern names it, is sent as snapshots, each at least three times the last, and whole once it is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from artifactd.watching.signature import Signature, rest_at

FREE_SENDS = 4
"""Times that a file is sent in a row without spacing: a config saved thrice is no runaway."""

LONGEST = 3600.0
"""Seconds of the widest spacing; what a runaway file is at rest is in the store within it."""

LIVE_QUIET = 60.0
"""Seconds of quiet after which a growing file may be over; twice as long each time it was not."""

GIVE_UP = 600.0
"""Seconds of quiet after which what was to be whole, and lacks something, goes as it is."""

GIVE_UP_ENDED = 15.0
"""The same once the run has its end marker: ``mlflow`` writes a model's environment files 8 s after the others."""

LOOK_AGAIN = 15.0
"""Seconds between two looks at what waits for the rest of it."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was sent of a file so far.

    Attributes:
        sends: Uploads in a row, each soon after the last.
        sent_bytes: Bytes of all its uploads.
        last: When the last one was stored, unix seconds; None if never.
    """

    sends: int = 0
    sent_bytes: int = 0
    last: float | None = None


class Pace(NamedTuple):
    """When to look at the file for sending it.

    Attributes:
        due_at: Unix seconds.
        snapshot: It need not be at rest: its first bytes, as many as there are now, are worth an upload.
        reason: What it waits for besides coming to rest; "" for nothing.
    """

    due_at: float
    snapshot: bool = False
    reason: str = ""


NEWS_EVERY = 15.0
"""Least seconds between two tellings of what a growing file says."""

NEWS_RATE = 1024 * 1024
"""Bytes per second, at most, that are read again for these: 15 MiB in 15 s. Reading what is new means reading all, and
event files with pictures grow to gigabytes."""


def given_up_at(files: Iterable[Signature], settle: float, now: float, *, ended: bool) -> float:
    """When all of what was to be whole, and lacks something, goes as it is, unix seconds.

    Args:
        files: What is there of it, as seen now.
        settle: Seconds of quiet that a file needs anyway.
        now: Unix seconds.
        ended: Whether the run has its end marker.
    """
    quiet = max(settle, GIVE_UP_ENDED if ended else GIVE_UP)
    return max((rest_at(signature, quiet, now) for signature in files), default=now)


def news_due(sig: Signature, told_at: float | None, now: float) -> float | None:
    """When to tell what a growing file says so far, though it is not to be sent; None while that is told.

    Args:
        sig: As seen now.
        told_at: When it was told last, unix seconds; None if never.
        now: Unix seconds.
    """
    if told_at is None:
        return now
    told_at = min(told_at, now)  # the clock may have been set back since
    # Written in the very second of the telling, it may have been read before.
    return told_at + max(NEWS_EVERY, sig.size / NEWS_RATE) if sig.ctime_ns / 1e9 > told_at - 1 else None


def spacing(sends: int, settle: float) -> float:
    """Least seconds between the last upload and the next of a file that was sent `sends` times in a row."""
    if sends < FREE_SENDS:
        return 0.0
    return min(LONGEST, max(settle, 1.0) * 2.0 ** min(sends - FREE_SENDS + 1, 40))


def sends_now(past: Past, now: float, settle: float) -> int:
    """The row of uploads that counts now: a file that was left alone for long begins anew."""
    if past.last is None or now - past.last > 4 * max(spacing(past.sends, settle), settle, LIVE_QUIET):
        return 0
    return past.sends


def pace(sig: Signature, past: Past, *, live: bool, ended: bool, settle: float, now: float) -> Pace:
    """When a changed file is to be sent.

    Args:
        sig: As seen now.
        past: What was sent of it.
        live: It matches a ``live`` pattern.
        ended: Its run folder says that the run is over, so a quiet file is over too.
        settle: Quiet time in seconds.
        now: Unix seconds.

    Returns:
        For a live file the snapshots send, together, at most 1.5 times what it has grown to, since each is at least
        three times the last; with the whole at its end that is below 2.5 times.
    """
    if past.last is None and (not live or ended):
        return Pace(rest_at(sig, settle, now))
    sends = sends_now(past, now, settle)
    if not live or ended:
        # The clock may have been set back since: then it was sent now.
        apart = spacing(sends, settle)
        wait = 0.0 if past.last is None else min(past.last, now) + apart
        rest = rest_at(sig, settle, now)
        held = apart and wait > rest
        return Pace(
            max(rest, wait),
            reason=f"it is rewritten often: sent {sends} times in a row, so the next is spaced out" if held else "",
        )
    if sig.size and 2 * past.sent_bytes <= sig.size:
        return Pace(now, snapshot=True)
    quiet = max(settle, LIVE_QUIET * 2.0 ** min(sends, 10))
    return Pace(rest_at(sig, quiet, now), reason="it grows: its next snapshot, or its end, is waited for")
