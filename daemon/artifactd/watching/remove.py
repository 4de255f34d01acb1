"""Removing a delivered file, only if it is still, to the last sign, what was delivered."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import signal

from artifactd import failpoint
from artifactd.watching.inside import NotRegular, open_file, open_folder
from artifactd.watching.signature import Signature

_NAME_MAX = 255

ASIDE = b".artifactd-removing."
"""What a file's name begins with between the decision that it goes and its going."""


def remove_unchanged(root_fd: int, rel: bytes, signature: Signature, *, leases: bool) -> bool:
    """Remove a file that is unchanged and that nobody else has open.

    A write lease is held from the comparison to the removal: the kernel refuses it while anybody has the file open, and
    makes whoever opens it meanwhile wait, which is seen. A removal goes by name, and another file may get the name
    after the comparison; so the file is given another name first, under which nobody looks for it, and compared once
    more. Where leases mean nothing, or are not for us to take (another user's file), the comparisons alone decide.
    Folders are never removed.

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
            aside = ASIDE + name
            if len(aside) > _NAME_MAX:
                aside = ASIDE + hashlib.sha256(name).hexdigest().encode()  # by which a crash would leave it
            failpoint.reach("remove.before")
            os.rename(name, aside, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            failpoint.reach("remove.aside")
            found = Signature.of(os.stat(aside, dir_fd=folder_fd, follow_symlinks=False))
            if found._replace(ctime_ns=signature.ctime_ns) != signature or (leased and _wanted(fd)):
                _back(folder_fd, aside, name)
                return False
            os.unlink(aside, dir_fd=folder_fd)
            failpoint.reach("remove.after")
        finally:
            os.close(folder_fd)
    except FileNotFoundError:
        return False
    finally:
        os.close(fd)  # gives the lease back
    return True


def put_back(root_fd: int, rel: bytes) -> None:
    """Give a file that a crash left aside its own name again; one that has the name by now is newer, and stays.

    Args:
        root_fd: From ``inside.open_root``.
        rel: The file as it is found, its name beginning with ``ASIDE``.

    Raises:
        OSError: It may not be renamed.
    """
    folder, _, aside = rel.rpartition(b"/")
    with contextlib.suppress(FileNotFoundError):
        folder_fd = open_folder(root_fd, folder)
        try:
            _back(folder_fd, aside, aside.removeprefix(ASIDE))
        finally:
            os.close(folder_fd)


def _back(folder_fd: int, aside: bytes, name: bytes) -> None:
    try:
        os.link(aside, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError as exc:
        if exc.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            raise
        # A filesystem without hard links.
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            return
        os.rename(aside, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        return
    os.unlink(aside, dir_fd=folder_fd)


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
