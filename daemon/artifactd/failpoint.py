"""Named steps at which the fault tests end the service, as a power cut would; without their variable nothing happens.

``_ARTIFACTD_FAILPOINT="upload.after:3"`` kills the service when one of its processes reaches that step the third time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal

_POINT = "_ARTIFACTD_FAILPOINT"
_SERVICE = "_ARTIFACTD_SERVICE_PID"

# Read once: a step is passed thousands of times.
_NAME, _, _NTH = os.environ.get(_POINT, "").partition(":")
_TIMES = itertools.count(1)
_VICTIM = int(os.environ.get(_SERVICE, "0")) or os.getpid()


def reach(name: str) -> None:
    """Say that this process is at the step `name`."""
    if _NAME and name == _NAME and next(_TIMES) == int(_NTH):
        # Two delivery processes may reach the step at once: the second finds the service gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(_VICTIM, signal.SIGKILL)
        # The kernel ends its children a little later: a quick one would take further steps meanwhile.
        os.kill(os.getpid(), signal.SIGKILL)


def for_children() -> dict[str, str]:
    """What delivery processes need in their environment, so that they end the service and not themselves alone."""
    return {_SERVICE: str(os.getpid())} if _NAME else {}
