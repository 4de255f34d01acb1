"""What the filesystem under a folder can be trusted with: events, leases, and how many watches there are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from artifactd.watching.scan import walk

_SHARED = {
    "9p": "a host's folder shared into this machine",
    "afs": "the AFS network filesystem",
    "beegfs": "the BeeGFS cluster filesystem",
    "ceph": "the Ceph cluster filesystem",
    "cifs": "a Windows or Samba share",
    "coda": "the Coda network filesystem",
    "fuse": "a FUSE filesystem",
    "gfs2": "a cluster filesystem",
    "gpfs": "the GPFS (Spectrum Scale) cluster filesystem",
    "lustre": "the Lustre cluster filesystem",
    "nfs": "a network filesystem",
    "nfs4": "a network filesystem",
    "ocfs2": "a cluster filesystem",
    "orangefs": "a cluster filesystem",
    "panfs": "the PanFS cluster filesystem",
    "prl_fs": "a host's folder shared into this machine",
    "pvfs2": "a cluster filesystem",
    "smb3": "a Windows or Samba share",
    "smbfs": "a Windows or Samba share",
    "vboxsf": "a host's folder shared into this machine",
    "virtiofs": "a host's folder shared into this machine",
    "vmhgfs": "a host's folder shared into this machine",
    "wekafs": "the WEKA cluster filesystem",
}
"""Filesystems that others write to past this kernel, so that inotify sees only what happens on this machine."""

_LEASING = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs"})

_COUNTING = frozenset({"ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"})
"""Filesystems where two links mean a folder without folders. btrfs counts none (1), ext4 no more than 65,000 (1)."""

_LIMITS = {
    "watches": ("fs.inotify.max_user_watches", "user.max_inotify_watches"),
    "instances": ("fs.inotify.max_user_instances", "user.max_inotify_instances"),
}
"""The user's limit, and that of the user namespace, which containers may have lower: the smaller one holds."""

_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a folder's files live.

    Attributes:
        point: The mount point, absolute.
        fstype: The filesystem's type as the kernel names it ("ext4", "nfs4", "fuse.sshfs").
        source: The device, export or share, as mounted.
    """

    point: bytes
    fstype: str
    source: str


def mount_of(path: bytes, mountinfo: bytes | None = None) -> Mount:
    """The mount that holds a path.

    Args:
        path: Symbolic links are resolved; it need not exist.
        mountinfo: Text as in proc_pid_mountinfo(5); None reads that of this process.

    Returns:
        The innermost mount that is not hidden by a later one; the root with an empty type where /proc cannot be read.
    """
    if mountinfo is None:
        try:
            with open("/proc/self/mountinfo", "rb") as stream:
                mountinfo = stream.read()
        except OSError:
            mountinfo = b""
    path = os.path.realpath(path)
    above = [entry for entry in _entries(mountinfo) if _holds(entry.mount.point, path)]
    known = {entry.number for entry in above}
    inner = [entry for entry in above if entry.parent == entry.number or entry.parent not in known]
    best = Mount(b"/", "", "")
    while inner:
        # As the kernel walks the path: the first mount point it meets, then on from there. A mount below a folder
        # that was mounted over later is never met.
        met = min(reversed(inner), key=lambda entry: len(entry.mount.point))
        best = met.mount
        inner = [entry for entry in above if entry.parent == met.number != entry.number]
    return best


def distrust(fstype: str) -> str | None:
    """Why events cannot be relied on there.

    Args:
        fstype: From ``Mount``.

    Returns:
        A sentence for people; None when events are fine, as for every type that is not known to be shared. ``fuseblk``
        (NTFS, exFAT) is a disk of this machine alone, and fine.
    """
    what = _SHARED.get("fuse" if fstype.startswith("fuse.") else fstype)
    return None if what is None else f"{fstype} is {what}: changes made elsewhere give no events here"


def leases_work(fstype: str) -> bool:
    """Whether ``inside.held_for_writing`` tells the truth there.

    An allow-list: network filesystems refuse leases for reasons of their own. On overlay (checked with Linux 6.18) an
    open writer is seen, but not a shared mapping whose descriptor was closed: the quiet time has to cover that one.
    """
    return fstype in _LEASING


def counting(root_fd: int) -> int | None:
    """The device of a folder where link counts say how many folders are in one; None where they may not.

    Args:
        root_fd: From ``inside.open_root``.
    """
    known = mount_of(b"/proc/self/fd/%d" % root_fd).fstype in _COUNTING
    return os.fstat(root_fd).st_dev if known else None


def watch_limit() -> int | None:
    """How many inotify watches this user may have, in all programs together; None when the kernel does not say."""
    limit = inotify_limit("watches")
    return None if limit is None else limit[0]


def inotify_limit(what: Literal["watches", "instances"], proc: str = "/proc") -> tuple[int, str] | None:
    """How many of these this user may have, in all programs together.

    Args:
        what: What is bounded.
        proc: Where procfs is mounted.

    Returns:
        The number, and the setting (as ``sysctl`` names it) that it comes from; None when the kernel does not say.
    """
    limits = [(number, name) for name in _LIMITS[what] if (number := kernel_setting(name, proc)) is not None]
    return min(limits, default=None)


def kernel_setting(name: str, proc: str = "/proc") -> int | None:
    """A number that ``sysctl`` names, as ``fs.inotify.max_queued_events``; None when the kernel does not say."""
    try:
        with open(f"{proc}/sys/{name.replace('.', '/')}", "rb") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def count_folders(root_fd: int, stop_at: int) -> int:
    """Count the folders of a tree, the root included: each needs a watch. No file is stat'ed.

    Args:
        root_fd: From ``inside.open_root``.
        stop_at: Enough: do not count further.
    """
    folders = 0
    for _ in walk(root_fd, folders_only=True, counting=counting(root_fd)):
        folders += 1
        if folders >= stop_at:
            break
    return folders


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    parent: int
    mount: Mount


def _entries(mountinfo: bytes) -> Iterator[_Entry]:
    for line in mountinfo.split(b"\n"):
        before, _, after = line.partition(b" - ")  # a varying number of optional fields stands before the dash
        fields, types = before.split(b" "), after.split(b" ")
        if len(fields) >= 5 and len(types) >= 2:
            mount = Mount(_unescape(fields[4]), os.fsdecode(types[0]), os.fsdecode(_unescape(types[1])))
            yield _Entry(int(fields[0]), int(fields[1]), mount)


def _holds(point: bytes, path: bytes) -> bool:
    return path == point or path.startswith(point.rstrip(b"/") + b"/")


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
