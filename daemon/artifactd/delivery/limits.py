"""What ``[upload]`` limits, as the delivery processes keep to it: by the configuration, and by the clock."""

from __future__ import annotations

from artifactd import log
from artifactd.config import UploadConfig
from artifactd.config.timetable import Limit, format_limit, limit_at
from artifactd.throttle import Shared, Throttle

BATCH_BYTES = 64 * 2**20
"""Bytes of a job, about."""

_BATCH_SECONDS = 5.0
"""Seconds in which a job's bytes may go out at the limit: who waits for a worker shall not wait for minutes."""


class Limits:
    """The limits of one service, in memory that all its delivery processes share.

    Attributes:
        shared: The memory.
    """

    def __init__(self) -> None:
        self.shared = Shared()
        self._limits: dict[str, tuple[Throttle, Limit]] = {}

    def use(self, config: UploadConfig, now: float) -> bool:
        """Keep to what is configured from now on, uploads under way included.

        Args:
            config: Of ``[upload]``.
            now: Unix seconds.

        Returns:
            Whether there are limits, and were none: the delivery processes are to be told.
        """
        had = self.shared.wanted
        self._limits = {
            "bandwidth_limit": (self.shared.line, config.bandwidth_limit),
            "read_limit": (self.shared.reading, config.read_limit),
        }
        self._set(now, tell=False)
        self.shared.wanted = any(limit for _, limit in self._limits.values())
        return self.shared.wanted and not had

    def keep(self, now: float) -> None:
        """Have what the clock says now hold (unix seconds). To be called every second or so."""
        self._set(now, tell=True)

    def _set(self, now: float, *, tell: bool) -> None:
        for name, (throttle, limit) in self._limits.items():
            rate = limit_at(limit, now)
            if rate != throttle.rate:
                throttle.rate = rate
                if tell:
                    log.get().info(
                        "another limit from now on", limit=name, rate=f"{format_limit(rate)}/s" if rate else "none"
                    )

    def batch(self) -> int:
        """Bytes of a job, about, as things are limited now."""
        rate = self.shared.line.rate or self.shared.reading.rate
        return min(BATCH_BYTES, int(_BATCH_SECONDS * rate)) if rate else BATCH_BYTES

    def close(self) -> None:
        """Let go of the memory."""
        self.shared.close()
