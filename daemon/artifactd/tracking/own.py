"""artifactd's state folder is nobody's store: the ledger, and what else lies there, would be some file's artifact.

Where a run keeps its artifacts is the server's word, and a folder of this host is written to with the service's rights:
its own files are among those that these reach.
"""

from __future__ import annotations

import os

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.paths import within
from artifactd.text import printable
from artifactd.tracking.environment import EMBEDDED, STATE


def refuse_state_folder(root: str) -> None:
    """Refuse a folder for artifacts that the state folder is in, or that is in it; the embedded store's is no such one.

    Args:
        root: Absolute; it need not be there.

    Raises:
        DeliveryError: It is one.
    """
    state = os.environ.get(STATE)
    if not state:
        return
    here, ours = os.path.realpath(os.fsencode(root)), os.path.realpath(os.fsencode(state))
    embedded = os.environ.get(EMBEDDED)
    if embedded and within(here, os.path.realpath(os.fsencode(embedded))):
        return
    if not (within(here, ours) or within(ours, here)):
        return
    how = "lies in" if within(here, ours) else "holds"
    raise DeliveryError(
        Failure(
            Kind.PAUSED, Scope.RUN,
            f"the server names {printable(here)} for the run's artifacts, which {how} artifactd's own state folder "
            f"({printable(ours)}): they would be written over the ledger",
            "Give the experiment another artifact location, or artifactd another state_dir; "
            "it is tried again by itself",
        )
    )  # fmt: skip
