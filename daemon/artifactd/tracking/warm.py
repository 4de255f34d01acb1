"""What each delivery process would import and work out for itself is there before they are forked, and shared by all.

A process that imports MLflow's store for a database after the fork has some 60 MiB of its own, and S3's SDK with its
description of S3 some 40. So the nursery does that first, for the tracking server and for the store that the
configuration or the environment names. No server is asked for anything: what is not there, or is another store after
all, is left to the worker that meets it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

_M_ARENA_MAX = -8
"""mallopt(3): how many heaps glibc makes for threads."""

_SIGNS = {
    "s3": ("MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"),
    "wasbs": ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCESS_KEY", "AZURE_CLIENT_ID"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"),
}
"""Variables by which a store is expected where the server chooses it."""

_MODULES = {
    "http": (
        "mlflow.store.tracking.rest_store", "mlflow.store.model_registry.rest_store",
        "mlflow.store.artifact.mlflow_artifacts_repo",
        "mlflow.tracking.request_header.registry",
        "netrc",
    ),
    "database": ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    "wasbs": ("mlflow.store.artifact.azure_blob_artifact_repo", "azure.storage.blob", "azure.identity"),
    "gs": ("mlflow.store.artifact.gcs_artifact_repo", "google.cloud.storage", "google.auth.transport.requests"),
    "sftp": ("artifactd.tracking.sftp", "paramiko"),
    "": ("mlflow.store.artifact.http_artifact_repo", "mlflow.store.artifact.local_artifact_repo",
         "artifactd.tracking.local", "artifactd.tracking.artifacts"),
}  # fmt: skip
"""By scheme; the last for all."""


def spare_heaps() -> None:
    """Have threads share one heap: each of their own keeps what it once needed, and four send small files at a time."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def import_stores(
    tracking_uri: str, artifacts: str, embedded: Path | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """Import what talks to the tracking server, and to where it keeps artifacts; a database in a file is made ready.

    Args:
        tracking_uri: The server's, or a database's.
        artifacts: The scheme of where new experiments keep them; "" where the server chooses.
        embedded: As in ``server.connect``.
        environ: Names a store by its own variables, where nothing else does.
    """
    tracking = "http" if tracking_uri.startswith(("http://", "https://")) else "database"
    stores = [artifacts] if artifacts else [name for name, signs in _SIGNS.items() if any(s in environ for s in signs)]
    for name in (module for kind in ("", tracking, *stores) for module in _MODULES.get(kind, ())):
        with contextlib.suppress(Exception):  # whoever needs it will say so
            import_module(name)
    if "s3" in stores:
        from artifactd.tracking.sdks import s3  # noqa: PLC0415  (with the SDK)

        with contextlib.suppress(Exception):
            s3.preload()
    if tracking_uri.startswith("sqlite:"):
        with contextlib.suppress(Exception):
            _meet_database(tracking_uri, embedded)


def _meet_database(uri: str, embedded: Path | None) -> None:
    """Make MLflow's store of a file as the first worker would, which looks through its tables; and let go of it."""
    from artifactd.tracking import server  # noqa: PLC0415  (the service knows this module, and not that)

    store: Any = server.connect(uri, embedded_artifacts=embedded)._tracking_client.store
    try:
        store.search_experiments(max_results=1)
    finally:
        store._dispose_engine()  # a connection to a file is not for several processes
