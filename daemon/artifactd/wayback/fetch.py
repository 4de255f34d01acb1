"""Downloads one artifact at a time into a folder of its own, and says meanwhile how far it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking.artifacts import RunArtifacts

_LOOK_EVERY = 0.1
"""Seconds between two looks at how much has come."""


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
        path: Where it lies until it is moved or the next one comes.
        size: Bytes.
        digest: SHA-256.
    """

    path: Path
    size: int
    digest: bytes


class Fetcher:
    """A place for downloads; use as a context, which removes what was left in it.

    Args:
        beside: The folder to make it in, for a rename from there; None for the system's own.
    """

    def __init__(self, beside: Path | None = None) -> None:
        # A name that watches exclude by default: somebody may pull into a watched folder.
        self._folder = Path(tempfile.mkdtemp(prefix=".tmp-artifactd-", dir=beside))

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def fetch(self, artifacts: RunArtifacts, artifact_path: str, size: int, show: Callable[[int], None]) -> Fetched:
        """Download an artifact.

        Args:
            artifacts: Of its run.
            artifact_path: As the store lists it.
            size: Bytes, as the store lists them.
            show: Called several times a second with the bytes so far.

        Raises:
            DeliveryError: It cannot be had, or came with another size.
        """
        target = self._folder / "artifact"
        failed: list[BaseException] = []

        def download() -> None:
            try:
                artifacts.download(artifact_path, target)
            except BaseException as exc:  # noqa: BLE001 (handed to the thread that waits)
                failed.append(exc)

        # In a thread, so that Ctrl-C is heard and progress seen while MLflow waits for bytes.
        thread = threading.Thread(target=download, name="fetch", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK_EVERY)
            show(self._so_far())
        if failed:
            raise failed[0]
        with open(target, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
            came = os.fstat(stream.fileno()).st_size
        if came != size:
            # MLflow takes a connection that closed early for the end of the file (mlflow/mlflow#8104).
            raise DeliveryError(
                Failure(
                    Kind.TRANSIENT,
                    Scope.FILE,
                    f"it came with {came} bytes, and the store lists it with {size}",
                    "Try again; `artifactd verify --deep` compares what is stored",
                )
            )
        return Fetched(target, came, digest)

    def _so_far(self) -> int:
        total = 0
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_size
        return total
