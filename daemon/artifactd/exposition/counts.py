"""The ledger's numbers, counted again when it has changed, and no more often than takes a small part of a core."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from artifactd.ledger import Blockage, Totals, WatchView
from artifactd.ledger.browse import Browser
from artifactd.ledger.runviews import RunCounts

T = TypeVar("T")

_DUTY = 0.05
"""The part of a core that each kind of counting may take: with millions of files, they are counted less often."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The ledger's numbers at one moment.

    Attributes:
        targets: Servers that are held back.
        runs: Runs that are held back, by absolute folder.
        statuses: Runs by their status.
    """

    totals: Totals
    watches: list[WatchView]
    targets: dict[str, Blockage]
    runs: dict[bytes, Blockage]
    statuses: Counter[str]


class Sparing(Generic[T]):
    """A number that is dear to count.

    Args:
        version: Another number whenever there may be something to count.
        count: Counts.
    """

    def __init__(self, version: Callable[[], int], count: Callable[[], T]) -> None:
        self._version, self._count = version, count
        self._kept: tuple[int, T] | None = None
        self.not_before = 0.0

    def get(self) -> T:
        """As it is, or as it was a short while ago."""
        version = self._version()
        kept = self._kept
        if kept is None or (version != kept[0] and time.monotonic() >= self.not_before):
            before = time.thread_time()
            self._kept = kept = (version, self._count())
            self.not_before = time.monotonic() + (time.thread_time() - before) / _DUTY
        return kept[1]

    @property
    def of(self) -> int | None:
        """The version that what ``get`` gave last was counted at; None where nothing is kept."""
        return None if self._kept is None else self._kept[0]

    def forget(self) -> None:
        """Keep nothing; the pause before the next count stays."""
        self._kept = None


class Counts:
    """What is counted for all who ask; used from one thread, that of the listener, once it is made.

    Args:
        state_dir: Where the ledger is.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._browser: Browser | None = None
        self.all: Sparing[Counted] = Sparing(self.version, self._all)
        self.by_run: Sparing[RunCounts] = Sparing(self.version, self._by_run)

    @property
    def browser(self) -> Browser:
        """The ledger, opened in the thread that asks first: a connection is for the thread that has made it."""
        if self._browser is None:
            self._browser = Browser(self.state_dir)
        return self._browser

    def version(self) -> int:
        """Another number whenever somebody wrote into the ledger."""
        return self.browser.version()

    def close(self) -> None:
        """Close the ledger."""
        if self._browser is not None:
            self._browser.close()
            self._browser = None

    def _by_run(self) -> RunCounts:
        return self.browser.run_counts()

    def _all(self) -> Counted:
        with self.browser.snapshot():
            return Counted(
                self.browser.totals(), self.browser.watches(), self.browser.blockages(), self.browser.held_runs(),
                self.browser.run_statuses(),
            )  # fmt: skip
