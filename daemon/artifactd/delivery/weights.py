"""Single files of a model's route: weights become a version in the registry, and what is no whole model says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.ledger.rows import DueFile, Growth
from artifactd.names import encode_component, versioned
from artifactd.registration import UNWHOLE, WEIGHTS, Registration
from artifactd.tracking.models import key_of
from artifactd.tracking.registry import Entry, register
from artifactd.tracking.told import Told, is_told

if TYPE_CHECKING:
    from artifactd.tracking.runs import RunInfo
    from artifactd.tracking.server import Client


def tell_model(client: Client, info: RunInfo, target: str, file: DueFile, digest: bytes) -> Told | None:
    """Tell the registry of a stored file, if that is what its role asks for.

    Args:
        client: Of the run's server.
        info: The run.
        target: The server, for messages.
        file: As it was sent.
        digest: SHA-256 of what is stored.

    Returns:
        What came of it; None for a file of another role.
    """
    role, _, said = file.role.partition(":")
    if role == UNWHOLE:
        return _failed(
            f"its folder is no whole model: {said}; so its files are stored as plain artifacts",
            "Put there what is missing: it is looked at again by itself; or take the folder from the route of its kind",
        )
    if role != WEIGHTS:
        return None
    if file.growth is not Growth.NONE:
        return Told()  # it grows: it is registered when it is over
    if not file.version:
        return _failed(
            "it is stored, and not registered: a version's file must never change, and this one is overwritten",
            'Set on_change = "version" for its watch, so that each content keeps its own name',
        )
    if is_told(file.told, digest):
        return Told(file.told)
    path = _stored_path(file, digest)
    key = key_of(info.run_id, path, digest)
    try:
        register(client, Registration.from_text(said), Entry(f"runs:/{info.run_id}/{path}", key, info.run_id), target)
    except DeliveryError as exc:
        return Told(None, exc.failure)
    return Told(digest)


def _stored_path(file: DueFile, digest: bytes) -> str:
    """Where this content lies: under the name of the last version, if it was that one's already."""
    leaf = file.leaf
    if digest == file.digest and not file.ask:  # else it was found there, or has just been sent
        first = encode_component(file.rel.rpartition(b"/")[2]).rpartition("/")[2]
        leaf = first if file.version == 2 else versioned(first, file.version - 1)
    return f"{file.dir}/{leaf}" if file.dir else leaf


def _failed(error: str, cure: str) -> Told:
    return Told(None, Failure(Kind.PERMANENT, Scope.FILE, error, cure))
