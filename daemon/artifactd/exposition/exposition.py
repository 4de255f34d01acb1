"""What the service holds: the listener as the configuration wants it, and what there is to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from artifactd import log
from artifactd.config import MetricsConfig
from artifactd.errors import ArtifactdError
from artifactd.exposition.asked import Answer, Asked, plain
from artifactd.metrics import Figures

if TYPE_CHECKING:
    from artifactd.exposition.families import Root
    from artifactd.exposition.listener import Listener

ALIVE_WITHIN = 60.0
"""Seconds since the loop's last turn: as long as the unit's watchdog waits."""

AGAIN = 60.0
"""Seconds between tries for an address that cannot be had."""


class Exposition:
    """Answers as it was last told to.

    Args:
        state_dir: Where the ledger is.
        figures: What the process counts.
        roots: The watched roots of now.
    """

    def __init__(self, state_dir: Path, figures: Figures, roots: Callable[[], Sequence[Root]]) -> None:
        self._state_dir = state_dir
        self._figures = figures
        self._roots = roots
        self._settings: MetricsConfig | None = None
        self._listener: Listener | None = None
        self._ready = False
        self._turned_at = time.monotonic()
        self._again_at = float("inf")

    def use(self, settings: MetricsConfig) -> None:
        """Answer there from now on; an address that cannot be had is said, and tried again: files go out meanwhile."""
        if self._listener is not None and self._settings == settings:
            return
        self.close()
        self._settings = settings
        self._listen()

    def turned(self, now: float) -> None:
        """The loop has turned.

        Args:
            now: Monotonic seconds.

        Raises:
            ArtifactdError: The thread that answers has died: the process ends, and is started again.
        """
        self._turned_at = now
        if now >= self._again_at:
            self._listen()
        if self._listener is not None and self._listener.failure is not None:
            raise ArtifactdError(
                f"the thread that serves metrics has died: {self._listener.failure}",
                "The service ends, so that the service manager starts it anew; nothing is lost",
            )

    def ready(self) -> None:
        """The first scan of every root has begun."""
        self._ready = True

    def close(self) -> None:
        """Answer nobody any more."""
        self._again_at = float("inf")
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _listen(self) -> None:
        settings = self._settings
        if settings is None or settings.listen is None:
            return
        from artifactd.exposition.counts import Counts  # noqa: PLC0415 (for those who want it)
        from artifactd.exposition.families import MetricsPage  # noqa: PLC0415
        from artifactd.exposition.listener import Listener  # noqa: PLC0415

        said = self._again_at < float("inf")
        counts = Counts(self._state_dir)
        metrics = MetricsPage(counts, self._figures, self._roots)
        pages = {"/metrics": metrics.answer, "/healthz": self._healthz, "/readyz": self._readyz}
        stream = None
        if settings.page:
            from artifactd.exposition import html  # noqa: PLC0415
            from artifactd.exposition.streams import Stream  # noqa: PLC0415
            from artifactd.exposition.view import View  # noqa: PLC0415

            view = View(counts, self._figures, lambda: self._still() > ALIVE_WITHIN)
            pages |= {"/": html.page, "/files": view.files, "/runs": view.runs}
            stream = Stream("/events", view.now, view.unseen)
        try:
            self._listener = Listener(settings.listen, pages, counts.close, settings.token_file, stream)
        except ArtifactdError as exc:
            self._again_at = time.monotonic() + AGAIN
            if not said:
                log.get().error("metrics are not served", reason=exc.problem, next_step=exc.cure)
            return
        self._again_at = float("inf")
        log.get().info(
            "serving metrics", address=settings.listen, page=settings.page, token=settings.token_file is not None
        )

    def _still(self) -> float:
        return time.monotonic() - self._turned_at

    def _healthz(self, _asked: Asked) -> Answer:
        still = self._still()
        if still > ALIVE_WITHIN:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, f"the loop has stood still for {still:.0f} s")
        return plain(HTTPStatus.OK, "ok")

    def _readyz(self, _asked: Asked) -> Answer:
        if self._ready:
            return plain(HTTPStatus.OK, "ready")
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, "the first scan has not begun")
