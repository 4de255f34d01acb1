"""Signs of life that a run folder names: a process, a lock, a heartbeat. Looked at without touching any of them.

Only what this host can see: a process of another host or of another pid namespace, and a lock that is held by another
host on a shared filesystem, do not show. A heartbeat does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import time
from dataclasses import dataclass

from artifactd.paths import join
from artifactd.runfolder import SETTINGS_NAME, Alive
from artifactd.watching.inside import NotRegular, open_file

_PID = re.compile(rb"\s*([0-9]{1,10})\b")
_FLOCK = struct.Struct("hhqqixxxx")
"""``struct flock`` of 64-bit Linux: type, whence, start, length, pid."""
_GETLK = fcntl.F_OFD_GETLK
_SLACK = 2.0
"""Seconds by which a process may seem to have begun after it wrote its id: the kernel counts from a rounded boot."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life.

    Attributes:
        at: When it was made, unix seconds; for what lives now, now.
        what: For people.
    """

    at: float
    what: str


def sign_of(root_fd: int, folder: bytes, alive: Alive, now: float) -> Sign | None:
    """The last sign of life of those that a run folder names.

    Args:
        root_fd: The watched root.
        folder: The run folder, relative to it.
        alive: What it names.
        now: Unix seconds.

    Returns:
        None where there is none, or nothing that can be looked at.
    """
    if alive.pid is not None:
        since = _mtime(root_fd, join(folder, SETTINGS_NAME))
        if since is not None and lives(alive.pid, since):
            return Sign(now, f"process {alive.pid} lives")
    if alive.pid_file is not None and (named := _pid_in(root_fd, join(folder, os.fsencode(alive.pid_file)))):
        pid, since = named
        if lives(pid, since):
            return Sign(now, f"process {pid} of {alive.pid_file} lives")
    if alive.lock is not None and _locked(root_fd, join(folder, os.fsencode(alive.lock))):
        return Sign(now, f"{alive.lock} is locked")
    if alive.heartbeat is not None:
        at = _mtime(root_fd, join(folder, os.fsencode(alive.heartbeat)), changed=True)
        if at is not None:
            return Sign(min(at, now), f"{alive.heartbeat} was touched")
    return None


def lives(pid: int, named_at: float) -> bool:
    """Whether a process lives that was there when its id was written down.

    Args:
        pid: Its id, in this process's namespace.
        named_at: When that was, unix seconds; a process that began later has been given the id anew.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        state, started = fields[0], int(fields[19]) / _TICKS
    except (OSError, IndexError, ValueError):
        return False
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return state not in (b"Z", b"X") and boot + started <= named_at + _SLACK


def _pid_in(root_fd: int, rel: bytes) -> tuple[int, float] | None:
    with contextlib.suppress(OSError, NotRegular):
        fd = open_file(root_fd, rel)
        try:
            found = _PID.match(os.read(fd, 64))
            return (int(found[1]), os.fstat(fd).st_mtime) if found else None
        finally:
            os.close(fd)
    return None


def _mtime(root_fd: int, rel: bytes, *, changed: bool = False) -> float | None:
    with contextlib.suppress(OSError, NotRegular):
        fd = open_file(root_fd, rel)
        try:
            st = os.fstat(fd)
            return max(st.st_mtime, st.st_ctime) if changed else st.st_mtime
        finally:
            os.close(fd)
    return None


def _locked(root_fd: int, rel: bytes) -> bool:
    """Whether somebody on this host holds a lock on the file.

    Nothing is locked to find out: a job that tries for the lock at this moment would not get it.
    """
    with contextlib.suppress(OSError, NotRegular):
        fd = open_file(root_fd, rel)
        try:
            return _record_locked(fd) or _flocked(fd)
        finally:
            os.close(fd)
    return False


def _record_locked(fd: int) -> bool:
    """By fcntl: asked for as a writer would, and only asked."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        kind = _FLOCK.unpack(fcntl.fcntl(fd, _GETLK, wanted))[0]
    except OSError:
        return False
    return bool(kind != fcntl.F_UNLCK)


def _flocked(fd: int) -> bool:
    """By flock, which has no question: the kernel lists all locks, by filesystem and inode."""
    st = os.fstat(fd)
    devices = {(os.major(st.st_dev), os.minor(st.st_dev)), _filesystem(fd)}
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as stream:
            rows = [line.split() for line in stream]
    except OSError:
        return False
    for row in rows:
        if "->" in row or len(row) < 6:  # that one waits
            continue
        major, minor, inode = row[5].split(":")
        if int(inode) == st.st_ino and (int(major, 16), int(minor, 16)) in devices:
            return True
    return False


def _filesystem(fd: int) -> tuple[int, int] | None:
    """The device by which the kernel lists locks: on some filesystems (btrfs, overlay) it is not the one of stat."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as stream:
            mount = next(line.split()[1] for line in stream if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
            major, minor = next(line.split()[2] for line in stream if line.split()[0] == mount).split(":")
        return int(major), int(minor)
    return None


def claims() -> frozenset[bytes]:
    """Names of the folders that an artifactd on this host has for its own, as ``claim`` writes them."""
    try:
        with open("/proc/net/unix", "rb") as stream:
            return frozenset(line.rpartition(b" @artifactd/")[2].strip() for line in stream if b" @artifactd/" in line)
    except OSError:
        return frozenset()
