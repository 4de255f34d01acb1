"""What of the host is looked at, as an argument: a test gives another one."""

from __future__ import annotations

import os
import pwd
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artifactd.errors import ArtifactdError
from artifactd.text import printable


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


def refused(exc: PermissionError) -> ArtifactdError:
    """Who may not, whose it is, and what mends that."""
    if not isinstance(exc.filename, str | bytes):
        return ArtifactdError(str(exc.strerror), "Run it as the user of the service, or as root")
    path = Path(os.fsdecode(exc.filename)).absolute()
    me, said = os.geteuid(), f"{printable(bytes(path))}: {exc.strerror}"
    seen, owner = next((place, uid) for place in (path, *path.parents) if (uid := _owner(place)) is not None)
    theirs = f"{'it' if seen == path else printable(bytes(seen))} belongs to {user(owner)}"
    if me in (0, owner):
        return ArtifactdError(
            f"{said}: {theirs}, and this is {user(me)}", "See its mode, and what confines this process"
        )
    if _owner(path.parent) == me:
        folder = shlex.quote(os.fspath(path.parent))
        return ArtifactdError(
            f"{said}: {theirs}, and its folder to {user(me)}, who this is", f"As root: chown -R {user(me)}: {folder}"
        )
    other = "root" if owner == 0 else f"{user(owner)}, or as root"
    return ArtifactdError(f"{said}: {theirs}, and this is {user(me)}", f"Run it as {other}")


def _owner(path: Path) -> int | None:
    """Whose it is; None where that cannot be seen."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None
