"""As whom the service works, what that user may do, and how a file is made theirs alone: root asks for others, too."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from artifactd.doctor.disk import quoted
from artifactd.doctor.host import pid_in
from artifactd.doctor.surroundings import Surroundings, may, user
from artifactd.ledger.report import holder

_READS_ALL = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which a drop-in may grant."""

_FLAGS = {os.R_OK: "-r", os.X_OK: "-x"}
_PATIENCE = 10.0
"""Seconds for a look at one file by another user; a mount may hang."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user with what the kernel judges them by.

    Attributes:
        uid: The user.
        gid: The main group.
        groups: The others.
        reads_all: Whether no mode keeps a file from them.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    reads_all: bool = False

    @property
    def name(self) -> str:
        """The user's name, or the number."""
        return user(self.uid)

    @property
    def group(self) -> str:
        """The main group's name, or the number."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return str(self.gid)


def account(state_dir: Path, around: Surroundings) -> Account:
    """Who the service is: whose process works with the state folder, else whose folder it is, else who asks."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return _of_process(pid_in(holder(state_dir) or ""), around.proc)
    uid = around.uid
    with contextlib.suppress(OSError):
        uid = state_dir.stat().st_uid
    try:
        known = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, os.getgid() if uid == around.uid else uid)
    return Account(uid, known.pw_gid, tuple(os.getgrouplist(known.pw_name, known.pw_gid)))


def _of_process(pid: int | None, proc: str) -> Account:
    with open(f"{proc}/{pid}/status", encoding="ascii", errors="replace") as stream:
        said = dict(line.split(":", 1) for line in stream if ":" in line)
    uid, gid = (int(said[key].split()[1]) for key in ("Uid", "Gid"))  # the effective ones
    groups = tuple(map(int, said["Groups"].split()))
    return Account(uid, gid, groups, reads_all=bool(int(said["CapEff"], 16) & _READS_ALL))


def can(who: Account, path: Path, mode: int, around: Surroundings) -> bool | None:
    """Whether somebody may read or run a file.

    Args:
        who: For whom it is asked.
        path: Absolute.
        mode: ``os.R_OK`` or ``os.X_OK``.
        around: Who asks.

    Returns:
        None where that cannot be told: only root can ask for another user.
    """
    if who.uid == around.uid:
        return may(path, mode)
    if around.uid != 0:
        return None
    if who.reads_all and mode == os.R_OK:
        return may(path, mode)
    try:
        done = subprocess.run(
            ["test", _FLAGS[mode], path], user=who.uid, group=who.gid, extra_groups=who.groups, cwd="/", env={},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # root of a namespace alone, for one
        return None
    return done.returncode == 0


def seen_by_others(status: os.stat_result, group: int = 0) -> bool:
    """Whether others than root, the file's owner and a group may read it.

    In root's group is nobody else: so systemd (256 and newer) keeps credentials, whose reader an ACL names.
    """
    by_group = status.st_mode & stat.S_IRGRP and status.st_gid not in (0, group)
    return bool(status.st_mode & stat.S_IROTH or by_group)


def only_for(who: Account, path: Path, status: os.stat_result) -> str:
    """The command by which the service, and no other user but root, may read a file.

    Args:
        who: As whom the service works.
        path: The file.
        status: How it is now.
    """
    if status.st_uid == who.uid:
        return f"chmod 600 {quoted(path)}"
    return f"chgrp {who.group} {quoted(path)} && chmod 640 {quoted(path)}"
