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
import hashlib
import os
import shutil
import socket

from mlflow.store.artifact.local_artifact_repo import _TEMP_ARTIFACT_PREFIX, LocalArtifactRepository

from artifactd.tracking.steady import SteadyFile, opened

_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _ROOT | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o600
"""Mode of what is not whole yet; then it gets its source's."""
_BLOCK = 2**20


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
            _put(source, fd, name)
        finally:
            os.close(fd)
        return True

    def _opened(self, folder: str) -> int | None:
        os.makedirs(self.artifact_dir, exist_ok=True)
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
            os.mkdir(name, dir_fd=fd)
        return os.open(name, _STEP, dir_fd=fd)


def _put(source: str, folder: int, name: str) -> None:
    whose = os.fsencode(f"{socket.gethostname()}/{name}")
    part = _TEMP_ARTIFACT_PREFIX + hashlib.blake2b(whose, digest_size=16).hexdigest()
    with opened(source) as stream:
        try:
            fd = os.open(part, _NEW, _PRIVATE, dir_fd=folder)
        except FileExistsError:
            os.unlink(part, dir_fd=folder)
            fd = os.open(part, _NEW, _PRIVATE, dir_fd=folder)
        try:
            try:
                _copy(stream, fd)
                shutil.copystat(source, f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            raise


def _copy(stream: SteadyFile, fd: int) -> None:
    with contextlib.suppress(OSError):  # not between these two filesystems: from where it came to, in the old way
        while stream.pour(fd):
            pass
        return
    while block := stream.read(_BLOCK):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(fd, rest) :]
