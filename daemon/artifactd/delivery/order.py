"""What goes first, as it is configured, and that nothing waits for ever behind what keeps coming.

Each fourth job of a run, and each fourth choice of runs, goes by age whatever the order: so a big file among small ones
without end has its turn, and so has an old one among fresh ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from artifactd.ledger import Ledger, Order

BY_AGE = 4
"""One in so many goes by age."""

KEPT = 4096
"""Runs of which something is remembered beside the ledger: a service that lives for a year meets many more."""


class Recent:
    """A number for each of the ``KEPT`` runs that were given one last; 0, or what is asked for, for any other."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def get(self, run: int, other: int = 0) -> int:
        """The run's number."""
        return self._numbers.get(run, other)

    def put(self, run: int, number: int) -> None:
        """Give a run its number."""
        self._numbers.pop(run, None)
        self._numbers[run] = number
        if len(self._numbers) > KEPT:
            del self._numbers[next(iter(self._numbers))]  # a dict has the order in which its keys came


class Turns:
    """Chooses the order, choice by choice.

    Args:
        ledger: Of the runs.
        order: As configured.
    """

    def __init__(self, ledger: Ledger, order: Order) -> None:
        self._ledger = ledger
        self._order = order
        self._jobs = Recent()
        self._choices = 0

    def runs(self, runs: Sequence[int], now: float) -> list[int]:
        """The runs in the order in which they get jobs.

        Args:
            runs: In the order in which they had their turn, longest ago first.
            now: Unix seconds.
        """
        self._choices += 1
        if self._order is Order.AGE or len(runs) < 2 or self._choices % BY_AGE == 0:
            return list(runs)
        ranks = self._ledger.ranks(self._order, runs, now)
        return sorted(runs, key=ranks.__getitem__)

    def of_job(self, run: int) -> Order:
        """The order in which the run's next job takes files."""
        return Order.AGE if self._jobs.get(run) % BY_AGE == BY_AGE - 1 else self._order

    def went(self, run: int) -> None:
        """A job of the run goes out."""
        self._jobs.put(run, self._jobs.get(run) + 1)
