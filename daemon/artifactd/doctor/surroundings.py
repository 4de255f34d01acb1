"""What of the host is looked at, as an argument: a test gives another one."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The host as a check sees it.

    Attributes:
        environ: Variables.
        proc: Where procfs is mounted.
        root: The folder that ``/etc``, ``/run`` and ``/usr`` are looked for in.
        uid: The user who asks.
        now: Unix seconds.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    proc: str = "/proc"
    root: str = "/"
    uid: int = field(default_factory=os.getuid)
    now: float = field(default_factory=time.time)

    def home(self, path: str) -> str:
        """A path, with ``~/`` as the home folder of who asks."""
        if not path.startswith("~/"):
            return path
        return os.path.join(self.environ.get("HOME") or os.path.expanduser("~"), path[2:])

    def below_root(self, path: str) -> str:
        """An absolute path, below `root`."""
        return os.path.join(self.root, path.lstrip("/"))


def may(path: os.PathLike[str] | str, mode: int) -> bool:
    """Whether this process may do that, capabilities included, which a service's unit may grant."""
    return os.access(path, mode, effective_ids=True)


def user(uid: int) -> str:
    """A user's name, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
