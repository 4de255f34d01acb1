"""The host: who works with the state folder, and what inotify may take for the tree."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from artifactd.doctor.disk import Tree, quoted
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.doctor.surroundings import Surroundings, user
from artifactd.ledger.report import holder
from artifactd.watching.mounts import inotify_limit, kernel_setting

_PID = re.compile(r"\(pid (\d+)\)")
_OF_CREDENTIALS = ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "ARTIFACTD_NOTIFY__", "ARTIFACTD_METRICS__")
"""Beginnings of variables that say who asks, and whom; or that are secrets, or name where one lies."""

_NOT_OF_CREDENTIALS = ("MLFLOW_CONFIGURE_LOGGING", "MLFLOW_DISABLE_TELEMETRY")

_QUEUE = "fs.inotify.max_queued_events"
_QUEUED = 16_384
"""Linux's own default."""
_AT_LEAST = {"watches": 524_288, "instances": 1_024}
"""What to raise limits to, as desktops and container hosts have them."""
_NEARLY = 0.8


def service(state_dir: Path, around: Surroundings, source: str = "") -> Iterator[Finding]:
    """Whether a service works with this state folder, and whether it is who this command is.

    Args:
        state_dir: The folder.
        around: The host.
        source: The configuration's file.
    """
    name = holder(state_dir)
    if name is None:
        yield ok("service", f"none works with this state folder now; rights are looked at as {user(around.uid)}'s")
        return
    pid = pid_in(name)
    uid = None if pid is None else owner_of(pid, around.proc)
    again = _as_the_service(pid, uid, around)
    if uid is not None and uid != around.uid:
        yield notice(
            "service", f"{name} works as {user(uid)}, and this command as {user(around.uid)}: what is said of rights "
            "and credentials holds for the latter", again or _as_its_user(user(uid), state_dir, source),
        )  # fmt: skip
    else:
        yield ok("service", f"{name} works")
    others = _set_otherwise(pid, around)
    if others:
        yield notice(
            "environment", f"the service was started with other values of {', '.join(others)}: what is said of "
            "credentials holds for those of this command",
            again or "Set them here as the service has them, and ask again",
        )  # fmt: skip


def _as_the_service(pid: int | None, uid: int | None, around: Surroundings) -> str:
    """The command that looks as the unit of a service would; "" where systemd did not start it, or another user did."""
    unit = None if pid is None else _unit_of(pid, around.proc)
    if unit is None:
        return ""
    name, of_a_user = unit
    if of_a_user and uid != around.uid:
        return ""
    return f"artifactd doctor --as {name}{'' if of_a_user or around.uid == 0 else '  # as root'}"


def _unit_of(pid: int, proc: str) -> tuple[str, bool] | None:
    """Which service of artifactd's a process belongs to by its control group, and whether a user's systemd runs it."""
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            path = line.rstrip("\n").split(":", 2)[-1]
            name = path.rpartition("/")[2]
            if name.startswith("artifactd") and name.endswith(".service"):
                return name.removesuffix(".service"), "/user@" in path
    return None


def _as_its_user(name: str, state_dir: Path, source: str) -> str:
    config = f" --config {quoted(Path(source))}" if os.path.isabs(source) else ""
    return f"runuser -u {name} -- artifactd doctor{config} --state-dir {quoted(state_dir)}  # as root"


def pid_in(name: str) -> int | None:
    """The process in how a holder of the state folder calls itself."""
    found = _PID.search(name)
    return None if found is None else int(found[1])


def owner_of(pid: int, proc: str) -> int | None:
    """Whose process it is; None where that cannot be seen."""
    try:
        return os.stat(f"{proc}/{pid}").st_uid
    except OSError:
        return None


def _set_otherwise(pid: int | None, around: Surroundings) -> list[str]:
    """Names of variables about credentials that the service has another value of, as far as its own can be seen."""
    theirs: dict[str, str] = {}
    try:
        with open(f"{around.proc}/{pid}/environ", "rb") as stream:
            for entry in stream.read().split(b"\0"):
                name, _, value = os.fsdecode(entry).partition("=")
                theirs[name] = value
    except OSError:
        return []
    # A copy of the service's credentials lies elsewhere for each unit.
    here, there = (variables.get("CREDENTIALS_DIRECTORY", "") for variables in (around.environ, theirs))
    if here and there:
        theirs = {name: value.replace(there, here) for name, value in theirs.items()}
    names = {name for name in {*theirs, *around.environ} if name.startswith(_OF_CREDENTIALS)}
    names.difference_update(_NOT_OF_CREDENTIALS)
    return sorted(name for name in names if theirs.get(name) != around.environ.get(name))


# -- inotify -----------------------------------------------------------------------------------------------------


def inotify(trees: Sequence[Tree], around: Surroundings, *, uid: int, but: int | None) -> Iterator[Finding]:
    """Whether inotify's limits are enough for what is watched by events.

    Args:
        trees: The watched folders, counted.
        around: The host.
        uid: The user whose limits count.
        but: The process whose watches are those of `trees`: the running service.
    """
    heard = [tree for tree in trees if tree.by_events]
    if not heard:
        yield ok("inotify", "no folder that is there is watched by events")
        return
    watches, instances = in_use(around.proc, uid, but)
    partly = [quoted(tree.path) for tree in heard if not tree.whole]
    yield _compared("watches", sum(tree.folders for tree in heard), watches, partly=partly, around=around)
    yield _compared("instances", len(heard), instances, partly=(), around=around)
    queued = kernel_setting(_QUEUE, around.proc)
    if queued is not None and queued < _QUEUED:
        yield notice(
            "inotify queue", f"the kernel keeps {queued:,} events, less than its own default: bursts overflow it, "
            "which costs a full scan each time, and no file", _raise(_QUEUE, _QUEUED),
        )  # fmt: skip


def in_use(proc: str, uid: int, but: int | None = None) -> tuple[int, int]:
    """Watches and instances of inotify that the programs of a user have, as far as they can be looked at.

    Args:
        proc: Where procfs is mounted.
        uid: The user.
        but: A process that does not count.
    """
    watches = instances = 0
    for pid in filter(str.isdigit, os.listdir(proc)):
        if int(pid) == but or owner_of(int(pid), proc) != uid:
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile, or is nobody's business
            for fd in os.listdir(f"{proc}/{pid}/fd"):
                count = _watches_of(f"{proc}/{pid}", fd)
                instances += count is not None
                watches += count or 0
    return watches, instances


def _watches_of(process: str, fd: str) -> int | None:
    """Watches of an inotify instance; None for any other descriptor."""
    with contextlib.suppress(OSError):
        if os.readlink(f"{process}/fd/{fd}") == "anon_inode:inotify":
            with open(f"{process}/fdinfo/{fd}", encoding="ascii", errors="replace") as stream:
                return sum(line.startswith("inotify ") for line in stream)
    return None


def _compared(
    what: Literal["watches", "instances"], need: int, others: int, *, partly: Sequence[str], around: Surroundings
) -> Finding:
    name = f"inotify {what}"
    limit = inotify_limit(what, around.proc)
    needed = f"{'more than ' if partly else ''}{need:,} for the watched folders"
    if limit is None:
        return notice(name, f"{needed}; the kernel does not say how many there may be", "Have /proc/sys mounted")
    most, setting = limit
    detail = f"{needed} and {others:,} of other programs of this user, of {most:,} ({setting})"
    if need + others > most:
        better = max(_AT_LEAST[what], 1 << (2 * (need + others)).bit_length())
        return wrong(name, f"{detail}: what finds none left is scanned now and then", _raise(setting, better))
    if partly:
        cure = f"find {' '.join(partly)} -type d | wc -l; sysctl {setting}  # the second is to be more than the first"
        return notice(name, f"{detail}; the folders were not all counted in the time there was", cure)
    if need + others > _NEARLY * most:
        better = max(_AT_LEAST[what], 1 << (2 * (need + others)).bit_length())
        return notice(name, f"{detail}: nearly all", _raise(setting, better))
    return ok(name, detail)


def _raise(setting: str, to: int) -> str:
    return f"sysctl -w {setting}={to} && echo '{setting} = {to}' >> /etc/sysctl.d/60-artifactd.conf"
