"""What a running service counts: gone with the process, as Prometheus has it of counters.

Plain numbers, added to by the one thread that works and read by the one that answers. What is known for good (files by
state, bytes sent) stands in the ledger.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from artifactd.errors import Failure

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one try of a file came to, for who wants each of them.

    Attributes:
        result: ``stored``, ``unchanged`` (the store had it), ``changed`` (under way: it is sent again), or ``failed``.
        experiment: Of the run.
        run: Its name.
        run_id: Its id, as far as it is known.
        artifact_path: The file's place in the run.
        size: Its bytes.
        sent: Bytes that went over the wire.
        tries: With this one.
        seconds: From opening the file to the store's word for it; 0 where that was not measured.
        failure: Why it failed.
    """

    result: str
    experiment: str
    run: str
    run_id: str | None
    artifact_path: str
    size: int
    sent: int
    tries: int
    seconds: float = 0.0
    failure: Failure | None = None


@dataclass(slots=True)
class Figures:
    """What deliveries came to.

    Attributes:
        tell: Told each outcome, where somebody wants it.
        seconds: Of each upload with its part of the listing.
        sizes: Bytes of each upload.
        failed: Tries that failed, of a file or of a job as a whole, by the kind of failure.
    """

    tell: Callable[[Outcome], None] | None = None
    seconds: Distribution = field(default_factory=lambda: Distribution(_SECONDS))
    sizes: Distribution = field(default_factory=lambda: Distribution(_BYTES))
    failed: Counter[str] = field(default_factory=Counter)

    def uploaded(self, size: int, seconds: float) -> None:
        """A file was sent and is stored."""
        self.sizes.add(size)
        self.seconds.add(seconds)
