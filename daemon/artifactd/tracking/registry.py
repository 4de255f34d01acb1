"""The model registry: a content is one version of its registered model, whatever restarts; the server is the witness.

A version carries the key of its content, and is looked for by it before it is made. Its aliases are set once: what a
person moves afterwards stays moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from artifactd import failpoint
from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.registration import Registration
from artifactd.tracking.classify import classify
from artifactd.tracking.models import MODEL_TAG, of_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

NUMBER_TAG = "artifactd.version"
"""On versions: the number in the folder's name. MLflow numbers by itself."""
ALIASES_TAG = "artifactd.aliases"
"""On versions: the aliases that were set on it, so that they are set once."""
_EXISTS = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be in the registry.

    Attributes:
        source: Where the model lies, as ``models:/m-…`` or ``runs:/RUN/path``.
        key: Of its content.
        run_id: Where it comes from.
        model_id: Of the logged model; None for what is none.
        description: Of the version; None for none.
    """

    source: str
    key: str
    run_id: str
    model_id: str | None = None
    description: str | None = None


def register(client: MlflowClient, wanted: Registration, entry: Entry, target: str) -> str:
    """See to the version of a content, with its tags and aliases.

    Args:
        client: Of the server.
        wanted: The registered model, made if it is not there, and what its versions get.
        entry: The content.
        target: The server, for messages.

    Returns:
        The version that MLflow gave it.

    Raises:
        DeliveryError: The server cannot be asked or refuses.
    """
    try:
        version = _find(client, wanted.name, entry)
        if version is None:
            version = _create(client, wanted, entry)
        number = str(version.version)
        _tag(client, wanted.name, number, _tags(wanted), version.tags)
        _set_aliases(client, wanted, number, version.tags)
    except Exception as exc:
        failure = of_model(classify(exc, target=target, scope=Scope.TARGET))
        if failure.kind is Kind.PAUSED:  # rights to the registry are not needed for anything else
            failure = replace(failure, kind=Kind.TRANSIENT, scope=Scope.FILE)
        raise DeliveryError(failure) from exc
    return number


def _find(client: MlflowClient, name: str, entry: Entry) -> Any:
    """The version of this content, by its key; the first one where two hosts have made one at the same moment."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(f"tags.`{MODEL_TAG}` = '{entry.key}'", page_token=token)
        found += [version for version in page if version.name == name]
        token = page.token
        if not token:
            return min(found, key=lambda version: int(version.version), default=None)


def _create(client: MlflowClient, wanted: Registration, entry: Entry) -> Any:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (costs 80 MiB and seconds)

    try:
        client.get_registered_model(wanted.name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        failpoint.reach("registered.before")
        try:
            client.create_registered_model(wanted.name)
        except MlflowException as other:
            if other.error_code not in _EXISTS:  # another worker or host was first
                raise
        failpoint.reach("registered.after")
    failpoint.reach("version.before")
    version = client.create_model_version(
        wanted.name, entry.source, run_id=entry.run_id, tags={**_tags(wanted), MODEL_TAG: entry.key},
        description=entry.description, model_id=entry.model_id, await_creation_for=0,
    )  # fmt: skip
    failpoint.reach("version.after")
    first = _find(client, wanted.name, entry)
    if first is None or str(first.version) == str(version.version):
        return version
    # Another host of the fleet was first by a moment: ours is a second of the same content, and has no alias yet.
    client.delete_model_version(wanted.name, str(version.version))
    return first


def _tags(wanted: Registration) -> dict[str, str]:
    number = {} if wanted.number is None else {NUMBER_TAG: str(wanted.number)}
    return {**dict(wanted.tags), **number}


def _tag(client: MlflowClient, name: str, version: str, tags: Mapping[str, str], held: Mapping[str, str]) -> None:
    for key, value in tags.items():
        if held.get(key) != value:
            client.set_model_version_tag(name, version, key, value)


def _set_aliases(client: MlflowClient, wanted: Registration, version: str, held: Mapping[str, str]) -> None:
    said = ",".join(wanted.aliases)
    if held.get(ALIASES_TAG, "") == said:
        return
    before = set(held.get(ALIASES_TAG, "").split(","))
    for alias in wanted.aliases:
        if alias not in before:
            failpoint.reach("alias.before")
            client.set_registered_model_alias(wanted.name, alias, version)
            failpoint.reach("alias.after")
    client.set_model_version_tag(wanted.name, version, ALIASES_TAG, said)
