"""How many jobs go out at once: fewer where the other side asks for that, and more again while it takes them. Pure.

Additive increase, multiplicative decrease, as TCP does it: every host that delivers to a crowded store gives way by
itself, and what is free is found again without anybody being told.
"""

from __future__ import annotations


class Width:
    """The number of jobs under way that is allowed.

    Args:
        most: Jobs at once while all is well: the workers.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._cuts = 0

    @property
    def jobs(self) -> int:
        """Jobs at once, at least 1."""
        return int(self._now)

    @property
    def stamp(self) -> int:
        """To be kept with a job as it goes out, and given back with its answer."""
        return self._cuts

    def crowded(self, stamp: int) -> bool:
        """The other side was asked for too much: half as many.

        Args:
            stamp: As the job went out. What several jobs meet at the same time halves once.

        Returns:
            Whether it is fewer now.
        """
        before = self.jobs
        if stamp == self._cuts:
            self._cuts += 1
            self._now = max(1.0, self._now / 2)
        return self.jobs < before

    def well(self) -> bool:
        """A job went well: one more, once as many did as are allowed. Returns whether all are allowed again by this."""
        before = self.jobs
        self._now = min(float(self._most), self._now + 1 / self._now)
        return before < self.jobs == self._most
