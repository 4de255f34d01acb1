"""Gives a target inputs without end: each follows from target, seed and number alone, so that one can be had again.

An input is one of the target's own examples, changed in a few places: bytes flipped, cut, repeated, numbers at their
limits put in, the target's own words strewn in, pieces of other examples taken over. Some are of words alone, and some
are noise.
"""

from __future__ import annotations

import faulthandler
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

SECONDS = 10.0
"""An input that takes longer, by the clock, hangs: what is slow takes milliseconds, also on a busy machine."""

_FIRST = 12
"""Times as long that a target's first input may take."""

_STUCK = 180.0
"""Seconds after which a hang that Python's own signals cannot end, in C, ends the process."""

_EDGES = [
    n.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for n in (0, 1, 0x7F, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("big", "little")
    if n < 2 ** (8 * size)
]  # fmt: skip
_COMMON = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    "é".encode(),
    "\u2028".encode(),
    b"\xed\xa0\x80",
    b"..",
    b"/",
    b"\n",
    b"\r\n",
]
_LARGEST = 1 << 16
"""Bytes of an input: no reader treats a longer one in another way, but for limits that have tests of their own."""


class HangError(Exception):
    """An input took longer than `SECONDS`."""


class FoundError(Exception):
    """An input that a target does not stand; the cause says why."""

    def __init__(self, target: str, seed: int | str, number: int, data: bytes) -> None:
        super().__init__(f"{target}, seed {seed}, input {number}: {data[:2000]!r}")
        self.data = data


@dataclass(frozen=True, slots=True)
class Target:
    """What is given inputs.

    Attributes:
        name: For people and for the seed.
        check: Takes an input; raises if the code under test does what it must not.
        examples: Inputs that mean something.
        words: What means something within an input.
        share: Inputs of a whole run: what is quick gets more.
    """

    name: str
    check: Callable[[bytes], None]
    examples: Sequence[bytes] = ()
    words: Sequence[bytes] = ()
    share: int = 10_000
    pieces: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take the examples' lines, too, for words."""
        lines = {line for example in self.examples for line in example.splitlines(keepends=True) if len(line) < 200}
        self.pieces.extend([*self.words, *sorted(lines), *_COMMON, *_EDGES])


def input_of(target: Target, seed: int | str, number: int) -> bytes:
    """The input of this number: the same for the same target and seed."""
    if number < len(target.examples):
        return target.examples[number]
    chance = random.Random(f"{target.name}/{seed}/{number}")  # noqa: S311 (it shall be foreseen)
    kind = chance.random()
    if kind < 0.05 or not target.examples:
        return chance.randbytes(min(int(chance.expovariate(1 / 60)), _LARGEST))
    if kind < 0.2:
        return b"".join(chance.choices(target.pieces, k=chance.randint(1, 12)))
    data = bytearray(chance.choice(target.examples))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 9))):
        _change(data, chance, target)
    return bytes(data[:_LARGEST])


def _change(data: bytearray, chance: random.Random, target: Target) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + int(chance.expovariate(1 / 8)) + 1)
    how = chance.randrange(9)
    if how == 0 and data:
        data[at % len(data)] ^= 1 << chance.randrange(8)
    elif how == 1 and data:
        data[at % len(data)] = chance.randrange(256)
    elif how == 2:
        del data[at:end]
    elif how == 3:
        del data[at:]
    elif how == 4:
        data[at:at] = data[at:end] * chance.choice((1, 2, 3, 50, 1000))
    elif how == 5:
        other = chance.choice(target.examples)
        start = chance.randint(0, len(other))
        data[at:end] = other[start : start + int(chance.expovariate(1 / 40)) + 1]
    elif how == 6:
        data[at:at] = chance.choice(target.pieces)
    else:
        piece = chance.choice(target.pieces)
        data[at : at + len(piece)] = piece


def give(target: Target, seed: int | str, numbers: Iterator[int] | range, seconds: float = SECONDS) -> int:
    """Give a target these inputs, each with a deadline.

    Returns:
        How many.

    Raises:
        FoundError: By the first that it does not stand.
    """
    given = 0
    before = signal.signal(signal.SIGALRM, _late)
    try:
        for number in numbers:
            data = input_of(target, seed, number)
            if given % 100 == 0:
                faulthandler.dump_traceback_later(max(_STUCK, 2 * seconds), exit=True)
            # MLflow is slow to import, and what is imported is so by the first.
            signal.setitimer(signal.ITIMER_REAL, seconds if given else _FIRST * seconds)
            try:
                target.check(data)
            except BaseException as exc:
                if isinstance(exc, KeyboardInterrupt):
                    raise
                raise FoundError(target.name, seed, number, data) from exc
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            given += 1
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
    return given


def _late(_number: int, _frame: FrameType | None) -> None:
    raise HangError
