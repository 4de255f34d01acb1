"""Whether a service's delivery process still comes up, as another process sees it that waits for what it delivers."""

from __future__ import annotations

import contextlib

import psutil

from artifactd.delivery.pool import NURSERY


def taken(service: int) -> float:
    """How far a delivery process has come that has borne no worker yet.

    Args:
        service: The service's process id.

    Returns:
        Seconds of the processor's time that it has had so far; 0.0 where there is none, or where it cannot be seen.
    """
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(service).children():
            if NURSERY in child.cmdline() and not child.children():
                times = child.cpu_times()
                return times.user + times.system
    return 0.0
