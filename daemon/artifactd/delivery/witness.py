"""What manifests say that a run holds: a folder that was brought from elsewhere need not be compared byte by byte.

Only another folder's manifest is a witness. One of this very folder may be older than what was sent since, and the
ledger that would know is lost when it is asked for.
"""

from __future__ import annotations

import socket
import tempfile
import time
from pathlib import Path

from artifactd.errors import DeliveryError
from artifactd.manifest import LARGEST, Manifest, ManifestError, is_manifest, read
from artifactd.names import OWN_FOLDER
from artifactd.tracking.artifacts import RunArtifacts

_KEPT = 60.0
"""Seconds for which it is asked again and again."""


class Witness:
    """Asked once per run, and only if it is needed.

    Args:
        store: The run's artifacts.
        watch: The watched folder, absolute.
    """

    def __init__(self, store: RunArtifacts, watch: bytes) -> None:
        self._store = store
        self._here = (socket.gethostname(), watch)
        self._said: dict[str, tuple[int, bytes]] | None = None
        self._made = time.monotonic()

    @property
    def is_old(self) -> bool:
        """Whether it may have missed a newer manifest."""
        return time.monotonic() - self._made > _KEPT

    def says(self, artifact_path: str, size: int, digest: bytes) -> bool:
        """Whether another folder's manifest has this content under this name: bytes, and SHA-256."""
        if self._said is None:
            self._said = {
                path: (size, digest)
                for one in self._manifests()
                if (one.host, one.watch) != self._here
                for path, size, digest in one.artifacts()
            }
        return self._said.get(artifact_path) == (size, digest)

    def _manifests(self) -> list[Manifest]:
        found: list[Manifest] = []
        try:
            for leaf, size in self._store.sizes(OWN_FOLDER).items():
                if not is_manifest(f"{OWN_FOLDER}/{leaf}") or size > LARGEST:
                    continue
                with tempfile.TemporaryDirectory(prefix="artifactd-") as folder:
                    copy = Path(folder) / "manifest"
                    self._store.download(f"{OWN_FOLDER}/{leaf}", copy)
                    found.append(read(copy.read_bytes()))
        except (DeliveryError, ManifestError):
            return []  # no witness: contents are compared
        return found
