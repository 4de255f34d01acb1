"""MLflow's own repositories for object stores, with clients whose retries and timeouts are ours.

Each SDK hides a policy of its own behind one call: a store that swallows requests holds it for three minutes (S3), more
than five (Azure), two (Google). Here a request is tried once, and its time is that of ``patience.py``; whether and
when to try again is for ``delivery/backoff.py``, which a user can see and set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from artifactd.tracking.sdks import azure, gcs, s3
from artifactd.tracking.sdks.checksums import Checksum, noting
from artifactd.tracking.sdks.listing import Entry

__all__ = ["Checksum", "few", "is_ours", "listed", "noting", "renew", "repository", "small", "summing"]

_MODULES = {
    "mlflow.store.artifact.s3_artifact_repo": s3,
    "mlflow.store.artifact.azure_blob_artifact_repo": azure,
    "mlflow.store.artifact.gcs_artifact_repo": gcs,
}


def repository(artifact_uri: str, tracking_uri: str) -> Any:
    """MLflow's repository for an artifact URI.

    Args:
        artifact_uri: As the server gave it.
        tracking_uri: The server that gave it.

    Returns:
        A repository; a plugin's own where one is installed for the scheme.

    Raises:
        Exception: Whatever MLflow or an SDK says; it is for ``classify``.
    """
    from mlflow.store.artifact import artifact_repository_registry as registry  # noqa: PLC0415 (MLflow is slow)

    registered: Any = registry.get_registered_artifact_repositories().get(urlsplit(artifact_uri).scheme)
    sdk = _MODULES.get(getattr(registered, "__module__", ""))
    if sdk is None:
        return registry.get_artifact_repository(artifact_uri, tracking_uri=tracking_uri)
    return sdk.repository(artifact_uri, tracking_uri)


def is_ours(repo: object) -> bool:
    """Whether it is one of those that are meant here."""
    return type(repo).__module__ in _MODULES


def summing(repo: object, size: int) -> Checksum | None:
    """What the store will say of a content of so many bytes, to be fed with it; None where it says nothing."""
    sdk = _MODULES.get(type(repo).__module__)
    return None if sdk is None else sdk.summing(size)


def few(repo: object, folder: str, names: Collection[str]) -> list[Entry]:
    """The files of some names in a folder, and others, by one page of a listing; not all of them need be in it.

    Args:
        repo: One of ours.
        folder: Artifact path, "" for the run's root.
        names: At least one.

    Raises:
        Exception: Whatever an SDK says; it is for ``classify``.
    """
    return list(_MODULES[type(repo).__module__].few(repo, folder, names))


def listed(repo: object, folder: str) -> list[Entry] | None:
    """All that stands directly in a folder, where there is a better way to it than MLflow's.

    Raises:
        Exception: Whatever an SDK says; it is for ``classify``.
    """
    return list(gcs.listed(repo, folder)) if _MODULES.get(type(repo).__module__) is gcs else None


def small(repo: object) -> Callable[[bytes, int, str, str], bool] | None:
    """As ``tracking.short.way``, of these stores."""
    return partial(s3.put, repo) if _MODULES.get(type(repo).__module__) is s3 else None


def renew() -> None:
    """Have the next request of each SDK made with credentials that are read anew."""
    for sdk in _MODULES.values():
        sdk.shared.forget()
