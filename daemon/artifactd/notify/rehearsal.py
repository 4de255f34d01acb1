"""A message that is marked as a test, to each who would be told: what ``artifactd check --notify`` does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from artifactd.config import Config
from artifactd.notify.bell import places_of
from artifactd.notify.message import as_json
from artifactd.notify.pace import News
from artifactd.notify.send import NotSentError
from artifactd.text import printable

_STATUS = "asked by artifactd check"
"""In the place of the service's own line, which another process has."""


@dataclass(frozen=True, slots=True)
class Told:
    """How it went with one who is told.

    Attributes:
        name: The command or the webhook, without its secrets.
        seconds: How long it took.
        error: Why it was not told; None: it was.
    """

    name: str
    seconds: float
    error: NotSentError | None


def rehearse(config: Config) -> Iterator[Told]:
    """Send it to one after the other, by the service's own way and patience; what was told before is not touched."""
    for place in places_of(config.notify):
        body = as_json(
            News(time.time(), (), 0, ()), host=socket.gethostname(),
            state_dir=printable(os.fsencode(config.state_dir)), status=_STATUS, test=True,
        )  # fmt: skip
        begun = time.monotonic()
        error: NotSentError | None = None
        try:
            place.send(body)
        except NotSentError as exc:
            error = exc
        yield Told(place.name, time.monotonic() - begun, error)
