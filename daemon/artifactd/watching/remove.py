"""Removing a delivered file, only if it is still, to the last sign, what was delivered."""

from __future__ import annotations

import fcntl
import os
import signal

from artifactd import failpoint
from artifactd.watching.inside import NotRegular, open_file, open_folder
from artifactd.watching.signature import Signature


def remove_unchanged(root_fd: int, rel: bytes, signature: Signature, *, leases: bool) -> bool:
    """Remove a file that is unchanged and that nobody else has open.

    A write lease is held from the comparison to the removal: the kernel refuses it while anybody has the file open, and
    makes whoever opens it meanwhile wait, which is seen before the removal; one who opens it in the microseconds
    between that look and the removal writes into a file without a name, as with any removal. Where leases mean
    nothing, or are not for us to take (another user's file), the comparison alone decides. Folders are never removed.

    Args:
        root_fd: From ``inside.open_root``.
        rel: The file, relative to the root.
        signature: What was delivered.
        leases: Whether leases mean something on this filesystem.

    Returns:
        Whether it was removed; False when it changed, is in use, or is gone: look again.

    Raises:
        OSError: It may not be removed (no permission, a read-only mount).
    """
    folder, _, name = rel.rpartition(b"/")
    try:
        fd = open_file(root_fd, rel)
    except (FileNotFoundError, NotRegular):
        return False
    try:
        leased = _lease(fd) if leases else None
        if leased is False:
            return False
        folder_fd = open_folder(root_fd, folder)
        try:
            there = Signature.of(os.stat(name, dir_fd=folder_fd, follow_symlinks=False))
            if not (Signature.of(os.fstat(fd)) == there == signature) or (leased and _wanted(fd)):
                return False
            failpoint.reach("remove.before")
            os.unlink(name, dir_fd=folder_fd)
            failpoint.reach("remove.after")
        finally:
            os.close(folder_fd)
    except FileNotFoundError:
        return False
    finally:
        os.close(fd)  # gives the lease back
    return True


def _lease(fd: int) -> bool | None:
    """Take a write lease. False: somebody has the file open. None: it is not for us to take."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default, where SIGIO would end the process
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _wanted(fd: int) -> bool:
    """Whether somebody is waiting to open the file: the kernel has then asked for the lease back."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK
    except OSError:
        return False
