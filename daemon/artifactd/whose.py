"""Whose is what root makes: its folder's, so that a service finds nothing in its own that it may not open.

Only what was made just now is given away, by its descriptor: a name may lead elsewhere by the time it is looked at, and
whoever may write into the folder would be given any file of root's.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def give(fd: int, folder: int | str | Path) -> None:
    """Give what this process has just made to whoever its folder belongs to; only root has to, and can.

    Args:
        fd: Open on it.
        folder: Its folder: a path or a descriptor.
    """
    if os.geteuid() != 0:
        return
    owner = os.stat(folder)
    if owner.st_uid != 0:
        with contextlib.suppress(OSError):  # a root without that right; `artifactd doctor` finds what stays its own
            os.fchown(fd, owner.st_uid, owner.st_gid)


def make_file(path: Path, mode: int = 0o666) -> None:
    """Make an empty file that is its folder's, unless something is there.

    Args:
        path: The file's.
        mode: Permission bits, less the umask's.

    Raises:
        OSError: It cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, _NEW, mode)
        try:
            give(fd, path.parent)
        finally:
            os.close(fd)


def make_folder(path: str | Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """Make a folder that belongs to whom the one above it does.

    Args:
        path: The folder's.
        mode: Permission bits, less the umask's.
        dir_fd: Where a relative path begins.

    Raises:
        OSError: It cannot be made, or something is there.
    """
    os.mkdir(path, mode, dir_fd=dir_fd)
    if os.geteuid() == 0:
        fd = os.open(path, _FOLDER, dir_fd=dir_fd)
        try:
            give(fd, Path(path).parent if dir_fd is None else dir_fd)
        finally:
            os.close(fd)


def make_folders(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it, where they are not there; each belongs to whom the one above it does.

    Args:
        path: The folder's.
        mode: Its own permission bits, less the umask's.

    Raises:
        OSError: One cannot be made.
    """
    try:
        make_folder(path, mode)
    except FileNotFoundError:
        make_folders(path.parent)
        make_folders(path, mode)
    except OSError:
        if not path.is_dir():
            raise
