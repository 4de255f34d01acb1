"""Opening files and folders so that nothing outside the watched root is ever reached.

A path is walked from the root's descriptor down, one component at a time, and no component may be a symbolic link.
Swapping a folder or a file for a link at any moment therefore leads to an error, never to a file elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A folder on the way: to pass through it, search permission is enough."""
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A folder to list."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
"""A file to read; nothing that takes its place meanwhile makes the open wait."""

_RULES = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}


class NotRegular(OSError):  # noqa: N818 - says what the thing is; nothing went wrong
    """What stands there is not a regular file, and is ignored for it.

    Attributes:
        rule: What it is, for people: "symbolic link", "named pipe", "socket", "device", "folder".
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class Escapes(NotRegular):
    """The path leads out of the root: a folder on it is a symbolic link, or it goes upwards."""


def rule_of(mode: int) -> str | None:
    """What a thing that is not a regular file is called.

    Args:
        mode: ``st_mode``.

    Returns:
        The word for people; None for a regular file.
    """
    return None if stat.S_ISREG(mode) else _RULES.get(stat.S_IFMT(mode), "not a regular file")


def open_root(path: str | bytes) -> int:
    """Open a watched root to start from; symbolic links in its own path are followed.

    The descriptor keeps the filesystem from being unmounted: close it when the look is over.

    Returns:
        An ``O_PATH`` descriptor.

    Raises:
        OSError: As the system says: gone, not a folder, not permitted.
    """
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def identity(path: bytes) -> tuple[int, int] | None:
    """Which folder stands at a path, symbolic links followed: device and inode; None for none that can be reached."""
    try:
        return number_of(os.stat(path))
    except OSError:
        return None


def number_of(st: os.stat_result) -> tuple[int, int]:
    """Device and inode."""
    return (st.st_dev, st.st_ino)


def open_folder(root_fd: int, rel: bytes) -> int:
    """Open a folder for listing.

    Args:
        root_fd: From ``open_root``.
        rel: The folder, relative to the root; ``b""`` is the root.

    Returns:
        A readable descriptor, the caller's to close.

    Raises:
        FileNotFoundError: It, or a folder on its way, is gone or is no folder any more.
        Escapes: It, or a folder on its way, is a symbolic link; or `rel` goes upwards.
        OSError: Anything else as it is, PermissionError above all.
    """
    return _descend(root_fd, rel, _LIST)


def pass_to(root_fd: int, rel: bytes) -> int:
    """Like ``open_folder``, for what is in it and not for a listing: search permission is enough.

    Returns:
        An ``O_PATH`` descriptor, the caller's to close.
    """
    return _descend(root_fd, rel, _STEP)


def open_below(folder_fd: int, name: bytes) -> int:
    """Like ``open_folder``, for one name in a folder that is open already."""
    return _step(folder_fd, name, _LIST)


def open_file(root_fd: int, rel: bytes) -> int:
    """Open a regular file for reading.

    Args:
        root_fd: From ``open_root``.
        rel: The file, relative to the root.

    Returns:
        A descriptor of a regular file inside the root, the caller's to close.

    Raises:
        FileNotFoundError: It, or a folder on its way, is gone.
        NotRegular: It is something else (``rule`` says what); ``Escapes`` when a folder on its way is a link.
        OSError: Anything else as it is, PermissionError above all.
    """
    folder, _, name = rel.rpartition(b"/")
    folder_fd = pass_to(root_fd, folder)
    try:
        # Looked at before it is opened: opening a pipe wakes its writer and closing it kills that one by SIGPIPE.
        _require_regular(os.stat(_component(name), dir_fd=folder_fd, follow_symlinks=False))
        try:
            fd = os.open(name, _READ, dir_fd=folder_fd)
        except OSError as exc:
            # It became a link, a socket or a device without driver between the two calls.
            if exc.errno in {errno.ELOOP, errno.ENXIO, errno.ENODEV}:
                raise NotRegular("not a regular file any more") from exc
            raise
    finally:
        os.close(folder_fd)
    try:
        _require_regular(os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def held_for_writing(fd: int) -> bool | None:
    """Whether any process has the file open for writing, a writable shared mapping included.

    A read lease is taken and given back at once; the kernel refuses it while the file has a writer (fcntl(2)). Only the
    owner of a file and CAP_LEASE may ask. Where ``mounts.leases_work`` is False the answer means nothing: NFS, for
    one, refuses the lease whenever the server granted no delegation.

    A process that opens the file for writing in the few microseconds between is made to wait, and the kernel then tells
    the holder by a signal: SIGIO by default, which kills. For this descriptor it is made SIGURG, which is ignored by
    default: no handler is touched, and any thread may call this.

    Args:
        fd: From ``open_file``.

    Returns:
        True: somebody has. False: nobody has. None: cannot tell (not the owner, no leases here).
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        # EAGAIN here: this process stood still for so long that a waiting writer was given the file.
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _descend(root_fd: int, rel: bytes, last: int) -> int:
    if not rel:
        return os.open(b".", last, dir_fd=root_fd)
    *way, name = rel.split(b"/")
    fd = root_fd
    try:
        for component in way:
            deeper = _step(fd, component, _STEP)
            if fd != root_fd:
                os.close(fd)
            fd = deeper
        return _step(fd, name, last)
    finally:
        if fd != root_fd:
            os.close(fd)


def _step(folder_fd: int, name: bytes, flags: int) -> int:
    try:
        return os.open(_component(name), flags, dir_fd=folder_fd)
    except NotADirectoryError:
        # O_DIRECTORY answers a link with ENOTDIR too.
        if stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
            raise Escapes("reached through a symbolic link") from None
        raise FileNotFoundError(errno.ENOENT, "no folder any more", name) from None


def _component(name: bytes) -> bytes:
    if name in {b"", b".", b".."} or b"/" in name:
        raise Escapes("not a path inside the folder")
    return name


def _require_regular(st: os.stat_result) -> None:
    rule = rule_of(st.st_mode)
    if rule is not None:
        raise NotRegular(rule)
