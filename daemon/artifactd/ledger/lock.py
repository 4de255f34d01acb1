"""One service per state folder: an flock that names its holder.

The lock goes with the open file, which delivery processes inherit: it stays held until the last of them has
ended, so a new service never starts while an orphan of the old one may still be uploading.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from artifactd.errors import ArtifactdError
from artifactd.whose import make_file

_FILE_NAME = "lock"
_GRACE = 5.0
"""Seconds that a start waits for orphans of a killed service, which the kernel is ending."""

_GLANCE = 0.2
"""Seconds that it waits for a holder that lives: ``artifactd status`` touches the lock for a moment."""


class StateLock:
    """Holds `state_dir` for this process until ``release`` or the end of the process and its children."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _FILE_NAME
        self._fd: int | None = None

    @property
    def fileno(self) -> int:
        """The descriptor to hand down to delivery processes."""
        if self._fd is None:
            raise ArtifactdError(f"{self._path} is not held")
        return self._fd

    def acquire(self, what: str) -> None:
        """Take the lock, or say who holds it.

        Args:
            what: What this process is, for whoever finds the lock taken ("artifactd run").

        Raises:
            ArtifactdError: Another process holds it; the message names it.
        """
        make_file(self._path, 0o600)
        fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        begun = time.monotonic()
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
                if time.monotonic() - begun > (_GLANCE if _alive(holder) else _GRACE):
                    os.close(fd)
                    raise ArtifactdError(
                        f"the state folder {self._path.parent} is in use by {holder}",
                        "Stop that one, ask it (`artifactd status`, `artifactd retry`), or give another --state-dir",
                    ) from None
                time.sleep(0.05)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{what} (pid {os.getpid()})".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go; the file stays, since removing it would let two holders meet."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _alive(holder: str) -> bool:
    """Whether the process that wrote its name into the lock still runs; its orphans are worth a short wait."""
    _, _, tail = holder.partition("(pid ")
    pid = tail.rstrip(")")
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
