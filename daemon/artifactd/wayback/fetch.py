"""Downloads artifacts into a folder of its own beside where they go, so that each arrives whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.wayback.shelf import Held

_PREFIX = ".tmp-artifactd-"
"""A name that watches exclude by default: somebody may pull into a watched folder."""


@dataclass(slots=True)
class Moved:
    """How far a transfer is, for whoever shows it."""

    files: int = 0
    of_files: int = 0
    bytes: int = 0
    of_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download that is complete.

    Attributes:
        path: Where it lies until it is moved.
        size: Bytes.
        digest: SHA-256.
    """

    path: Path
    size: int
    digest: bytes


class Fetcher:
    """A place for downloads; use as a context, which removes what was left in it. Several threads may fetch.

    Args:
        beside: The folder to make it in, for a rename from there; what a killed one has left there is removed. None
            for the system's own.
    """

    def __init__(self, beside: Path | None = None) -> None:
        if beside is not None:
            _tidy(beside)
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=beside))
        self._numbers = itertools.count()
        # Held while it is in use; the kernel lets go of it however its holder ends.
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    def fetch(self, held: Held) -> Fetched:
        """Download an artifact; the caller moves or removes what came.

        Raises:
            DeliveryError: It cannot be had, or came with another size than the store lists.
        """
        target = self._folder / f"artifact-{next(self._numbers)}"
        held.artifacts.download(held.path, target)
        with open(target, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
            came = os.fstat(stream.fileno()).st_size
        if came != held.size:
            target.unlink()
            # MLflow takes a connection that closed early for the end of the file (mlflow/mlflow#8104).
            raise DeliveryError(
                Failure(
                    Kind.TRANSIENT,
                    Scope.FILE,
                    f"it came with {came} bytes, and the store lists it with {held.size}",
                    "Try again; `artifactd verify --deep` compares what is stored",
                )
            )
        return Fetched(target, came, digest)

    def under_way(self) -> int:
        """Bytes that have come of what is not complete, or not moved, yet."""
        total = 0
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total


def _tidy(folder: Path) -> None:
    """Remove what pulls have left that were killed: nobody holds it."""
    for left in folder.glob(f"{_PREFIX}*"):
        try:
            fd = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue
        finally:
            os.close(fd)
