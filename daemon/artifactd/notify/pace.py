"""What is to be told next, given what is wrong now, what was told, and the time. Pure; there is no queue.

A trouble that was told is told again only when it grows, and its end once. One that comes and goes between two messages
is not told at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from artifactd.notify.troubles import RANKS, Trouble

MOST = 20
"""Troubles of one message; of more, how many there are is said. Those that were told stay among them to their end."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Known:
    """A trouble that was seen at the last look, or told and not yet told to be over.

    Attributes:
        since: When it was first seen, unix seconds.
        told: Its weight as it was told; 0: it was not.
    """

    since: float
    told: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What one who is told knows.

    Attributes:
        known: Troubles by kind and subject.
        tried_at: When a message was last sent, whether it arrived or not, unix seconds; None: never.
    """

    known: Mapping[Key, Known] = field(default_factory=dict)
    tried_at: float | None = None


@dataclass(frozen=True, slots=True)
class Lasting:
    """A trouble of a message.

    Attributes:
        trouble: What is wrong.
        since: When it was first seen, unix seconds.
        new: It was not told before, or it grew since.
    """

    trouble: Trouble
    since: float
    new: bool


@dataclass(frozen=True, slots=True)
class Over:
    """A trouble that was told and is no more; `since` is when it was first seen, unix seconds."""

    kind: str
    subject: str
    since: float


@dataclass(frozen=True, slots=True)
class News:
    """What a message says: how all stands, so that a lost one does no harm.

    Attributes:
        at: Unix seconds.
        troubles: What is wrong now, the new ones first; ``MOST`` at most.
        more: How many others there are.
        resolved: What was told before and is over.
    """

    at: float
    troubles: tuple[Lasting, ...]
    more: int
    resolved: tuple[Over, ...]


def see(memory: Memory, troubles: Collection[Trouble], topics: Collection[str], now: float) -> Memory:
    """Note what is wrong now: what is new has begun, what was never told and is over is forgotten.

    Args:
        memory: What was known.
        troubles: All that is wrong.
        topics: What is to be told of at all: what was told of others is forgotten, and not said to be over.
        now: Unix seconds.
    """
    known = {key: old for key, old in memory.known.items() if old.told and key[0] in topics}
    for trouble in troubles:
        old = memory.known.get(trouble.key) or Known(now)
        # What became less and then more again is news.
        known[trouble.key] = replace(old, told=min(old.told, trouble.weight))
    return memory if known == memory.known else replace(memory, known=known)


def next_news(memory: Memory, troubles: Collection[Trouble], now: float, every: float) -> News | None:
    """What is to be told now.

    Args:
        memory: As ``see`` gave it for these troubles.
        troubles: All that is wrong.
        now: Unix seconds.
        every: Seconds that lie between two messages at least.

    Returns:
        None for nothing, or not yet.
    """
    # A time that is still to come was written before the clock was set back, and is no reason to be silent.
    if memory.tried_at is not None and 0 <= now - memory.tried_at < every:
        return None
    chosen = sorted(troubles, key=lambda t: (not memory.known[t.key].told, t.place))[:MOST]
    lasting = [
        Lasting(t, memory.known[t.key].since, new=t.weight > memory.known[t.key].told)
        for t in sorted(chosen, key=lambda t: t.place)
    ]
    there = {trouble.key for trouble in troubles}
    gone = sorted((key for key in memory.known if key not in there), key=lambda key: (RANKS.get(key[0], 0), key[1]))
    if not gone and not any(one.new for one in lasting):
        return None
    return News(
        now,
        tuple(sorted(lasting, key=lambda one: not one.new)),
        len(troubles) - len(lasting),
        tuple(Over(*key, memory.known[key].since) for key in gone),
    )


def tried(memory: Memory, now: float) -> Memory:
    """A message is about to be sent: whatever becomes of it, the next one is a period away."""
    return replace(memory, tried_at=now)


def told(memory: Memory, news: News) -> Memory:
    """The message arrived."""
    known = dict(memory.known)
    for over in news.resolved:
        del known[over.kind, over.subject]
    for one in news.troubles:
        known[one.trouble.key] = Known(one.since, one.trouble.weight)
    return replace(memory, known=known)
