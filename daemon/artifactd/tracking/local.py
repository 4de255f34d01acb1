"""Artifacts in a folder of this machine: MLflow's repository, with a shorter way for what is plain.

MLflow resolves the whole path four times and makes a name by chance for each artifact: four fifths of what a small one
costs (3.17). Here the way is walked down from the root's descriptor, where no step may be a symbolic link: so it does
not lead out of the root, at whatever moment a folder is swapped for one.

As there, an artifact is written under a temporary name that no listing shows, and renamed over what stood there. That
name follows from the artifact's and from this host's: the next try finds what a killed one has left.

Importing this imports MLflow.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from mlflow.store.artifact.local_artifact_repo import _TEMP_ARTIFACT_PREFIX, LocalArtifactRepository

from artifactd.tracking.steady import SteadyFile, opened
from artifactd.whose import give, make_folder, make_folders

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _ROOT | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o600
"""Mode of what is not whole yet; then it gets its source's."""
_MODE_BITS = 0o777
"""Without setuid, setgid and sticky: the copy is ours, so whoever starts it would have our rights."""
_BLOCK = 2**20
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.EINVAL)


class LocalRepository(LocalArtifactRepository):  # type: ignore[misc]
    """MLflow's own, and ``put``."""

    def put(self, source: str, folder: str, name: str) -> bool:
        """Copy a file to ``folder/name`` with its times and mode, as ``log_artifact`` does.

        Args:
            source: Any path that leads to it: that of a descriptor, too.
            folder: Below the root, in MLflow's form, made if need be; "" for the root.
            name: The artifact's.

        Returns:
            False where the way is not plain folders (a link is on it, or a file): that is for ``log_artifact`` to
            decide, and nothing was done.

        Raises:
            OSError: As the system says.
        """
        fd = self._opened(folder)
        if fd is None:
            return False
        try:
            with opened(source) as stream:
                _put(lambda to: _copy(stream, to), stream.fileno(), fd, name)
        finally:
            os.close(fd)
        return True

    def write(self, content: bytes, like: int, folder: str, name: str) -> bool:
        """As ``put``, of a content that was read before.

        Args:
            content: All of it.
            like: The open file that it was read from, for times and mode.
            folder: As in ``put``.
            name: The artifact's.
        """
        fd = self._opened(folder)
        if fd is None:
            return False
        try:
            _put(lambda to: _write(to, content), like, fd, name)
        finally:
            os.close(fd)
        return True

    def _opened(self, folder: str) -> int | None:
        try:
            fd = os.open(self.artifact_dir, _ROOT)
        except FileNotFoundError:
            make_folders(Path(self.artifact_dir))
            fd = os.open(self.artifact_dir, _ROOT)
        try:
            for part in folder.split("/") if folder else ():
                deeper = _step(fd, part)
                os.close(fd)
                fd = deeper
        except NotADirectoryError:  # which the system says of a link, too
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd


def _step(fd: int, name: str) -> int:
    if name in ("", ".", ".."):
        raise NotADirectoryError(name)
    try:
        return os.open(name, _STEP, dir_fd=fd)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another worker was first
            make_folder(name, dir_fd=fd)
        return os.open(name, _STEP, dir_fd=fd)


def _put(fill: Callable[[int], None], like: int, folder: int, name: str) -> None:
    whose = os.fsencode(f"{socket.gethostname()}/{name}")
    part = _TEMP_ARTIFACT_PREFIX + hashlib.blake2b(whose, digest_size=16).hexdigest()
    try:
        fd = os.open(part, _NEW, _PRIVATE, dir_fd=folder)
    except FileExistsError:
        os.unlink(part, dir_fd=folder)
        fd = os.open(part, _NEW, _PRIVATE, dir_fd=folder)
    try:
        try:
            give(fd, folder)
            fill(fd)
            _liken(fd, like)
        finally:
            os.close(fd)
        os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        raise


def _liken(fd: int, like: int) -> None:
    """Give an open file another one's times, permission bits and attributes, as ``shutil.copystat`` does by paths."""
    st = os.fstat(like)
    os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
    try:
        names = os.listxattr(like)
    except OSError as exc:
        if exc.errno not in _NO_ATTRIBUTES:
            raise
        names = []
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(like, name))
        except OSError as exc:
            if exc.errno not in (*_NO_ATTRIBUTES, errno.EPERM, errno.EACCES):
                raise
    os.fchmod(fd, st.st_mode & _MODE_BITS)


def _copy(stream: SteadyFile, fd: int) -> None:
    with contextlib.suppress(OSError):  # not between these two filesystems: from where it came to, in the old way
        while stream.pour(fd):
            pass
        return
    while block := stream.read(_BLOCK):
        _write(fd, block)


def _write(fd: int, content: bytes) -> None:
    count = os.write(fd, content)
    while count < len(content):
        count += os.write(fd, memoryview(content)[count:])
