"""What the service's log says of files that were stored, read as it grows: polling it must cost the service nothing."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path


class Receipts:
    """The receipts in a service's log.

    Args:
        log: Its file, in JSON lines; it may not be there yet.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0
        self._stored: dict[str, float] = {}

    def stored(self) -> dict[str, float]:
        """When each artifact was stored (unix seconds), by its path in the run, up to now."""
        self._take()
        return self._stored

    def _take(self) -> None:
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    return  # the rest of it comes later
                self._read += len(line)
                event = json.loads(line) if line.startswith(b"{") else {}
                if event.get("event") == "stored":
                    self._stored[event["artifact_path"]] = datetime.fromisoformat(event["timestamp"]).timestamp()
