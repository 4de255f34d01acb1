"""A service that keeps running while the credentials of its store change."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import Program, wait_for

WITHIN = 60.0
"""Seconds after a change until it counts."""

_KNOWN_WITHIN = 20.0
"""Seconds until the reason is there: 15, and what it takes to notice the file."""

_RARELY = '[retry]\ninitial = "5m"\nmaximum = "5m"\n'
"""As after many tries in vain, without the hour that they take."""


class Rotation:
    """The real program before a store, one run folder.

    Args:
        base: Folder for all of it.
        location: Artifact location of its experiment; None leaves it to the server.
        tracking_uri: The server; None for a database of its own.
    """

    def __init__(self, base: Path, location: str | None, tracking_uri: str | None = None) -> None:
        base.mkdir(parents=True, exist_ok=True)
        place = "" if location is None else f'artifact_location = "{location}/rotation"\n'
        uri = tracking_uri or f"sqlite:///{base}/mlflow.db"
        self._program = Program(base, tracking_uri=uri, more=place + _RARELY)
        self._run = self._program.drop / "rotation" / "r"
        self._run.mkdir(parents=True)
        self._files = 0

    @contextlib.contextmanager
    def running(self, **env: str) -> Iterator[None]:
        """The service, in this environment and what the test has set of the stores' own variables."""
        with self._program.running(**env):
            yield

    def drop(self, name: str) -> None:
        """A file, whose content tells it from every other."""
        (self._run / name).write_text(f"the content of {name}")
        self._files += 1

    def refused(self, words: str, within: float = _KNOWN_WITHIN) -> None:
        """All waits, and in that time the status says these words."""

        def held() -> dict[str, Any] | None:
            said = self._program.status().get("failures", ())
            return next((f for f in said if words in f["error"]), None)

        found = wait_for(held, f"{words!r} in {self._program.status()}\n{self._program.text()[-2000:]}", within)
        assert found["kind"] == "paused", found

    def delivered(self, within: float = WITHIN) -> float:
        """Everything is stored in that time; the seconds that it took."""
        begun = time.monotonic()

        def stored() -> bool:
            status = self._program.status()
            return bool(status and status["stored"] == self._files and not status["pending"] and not status["failed"])

        wait_for(stored, f"all is stored: {self._program.status()}\n{self._program.text()[-2000:]}", within)
        return time.monotonic() - begun

    def verified(self, **env: str) -> None:
        """What the store holds is what was dropped, by its content."""
        done = self._program.call("verify", "--deep", timeout=60, **env)
        assert done.returncode == 0, done.stdout + done.stderr
