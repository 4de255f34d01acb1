"""When a part of a big object is sent again within its upload: a trouble of a moment would send the whole anew.

Only for answers that come at once and pass: a connection that is dead or silent ends the upload, so that what is
wrong is known in time.
"""

from __future__ import annotations

import random

TRIES = 2
"""Times that a part is sent again."""

_PASSING = frozenset({429, 500, 502, 503, 504})


def passes(status: int) -> bool:
    """Whether an answer with this HTTP status is of a trouble that may be over in a moment."""
    return status in _PASSING


def wait(tries: int) -> float:
    """Seconds to wait after so many tries, from 1 on; all together 3 at most."""
    return random.uniform(0, 2.0 ** (tries - 1))  # noqa: S311 (no secret)
