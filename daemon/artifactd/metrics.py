"""What a running service counts: gone with the process, as Prometheus has it of counters.

Plain numbers, added to by the one thread that works and read by the one that answers. What is known for good (files by
state, bytes sent) stands in the ledger.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_BYTES = tuple(float(4**n) for n in range(5, 19))
"""1 KiB to 64 GiB."""


@dataclass(slots=True)
class Distribution:
    """How often values fell between bounds; a bound belongs to what is below it."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def up_to(self) -> list[tuple[str, int]]:
        """How many values there were up to each bound, as text, and up to ``+Inf``."""
        sums, names = 0, [*map(str, self.bounds), "+Inf"]
        found = []
        for name, count in zip(names, list(self.counts), strict=True):
            sums += count
            found.append((name, sums))
        return found


@dataclass(slots=True)
class Figures:
    """What deliveries came to.

    Attributes:
        seconds: Of each upload with its part of the listing.
        sizes: Bytes of each upload.
        failed: Tries that failed, by the kind of failure.
    """

    seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    sizes: Distribution = field(default_factory=lambda: Distribution(_BYTES))
    failed: Counter[str] = field(default_factory=Counter)

    def uploaded(self, size: int, seconds: float) -> None:
        """A file was sent and is stored."""
        self.sizes.add(size)
        self.seconds.add(seconds)
