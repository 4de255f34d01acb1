"""What names on the server stand for: runs, the models that a run has logged, and those of the registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifactd.errors import ArtifactdError, DeliveryError, Scope
from artifactd.tracking.classify import classify

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "models:/"
_LOGGED = re.compile(r"m-[0-9a-f]{32}")
_UNKNOWN_TO = frozenset({"ENDPOINT_NOT_FOUND", "NOT_FOUND", "NOT_IMPLEMENTED"})
"""What servers say that know nothing of logged models: those before MLflow 3."""
_NO_MODEL = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "ENDPOINT_NOT_FOUND"})


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run has logged; its files are beside the run's, and MLflow shows them under its name."""

    name: str
    model_id: str
    artifact_uri: str


@dataclass(frozen=True, slots=True)
class Model:
    """Where the files of a model are.

    Attributes:
        title: As people know it, ``models:/name/3``.
        run_id: The run that it comes from; "" for none.
        artifact_uri: Their folder; may hold a secret. "" where `path` is within that run.
        path: In the run, as MLflow's ``runs:/ID/path``.
    """

    title: str
    run_id: str
    artifact_uri: str
    path: str = ""


def logged_by(client: MlflowClient, run_id: str, target: str) -> list[LoggedModel]:
    """The models of a run, one for each name: the newest that is whole, or else the newest.

    Raises:
        DeliveryError: The server cannot be asked.
    """
    try:
        experiment = client.get_run(run_id).info.experiment_id
        found = [m for m in _search(client, experiment, run_id) if m.source_run_id == run_id]
    except Exception as exc:
        if getattr(exc, "error_code", None) in _UNKNOWN_TO or isinstance(exc, AttributeError):
            return []  # an older server, or an older client
        raise DeliveryError(classify(exc, target=target, scope=Scope.TARGET)) from exc
    found.sort(key=lambda m: (str(m.status) == "READY", m.creation_timestamp, m.model_id))
    newest = {m.name: LoggedModel(m.name, m.model_id, m.artifact_location) for m in found}
    return sorted(newest.values(), key=lambda m: m.name)


def _search(client: MlflowClient, experiment: str, run_id: str) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = client.search_logged_models(
            [experiment], filter_string=f"source_run_id = '{run_id}'", page_token=token
        )  # fmt: skip
        yield from page
        token = page.token
        if not token:
            return


def find_model(client: MlflowClient, what: str, target: str) -> Model | None:
    """What ``models:/name/3``, ``models:/name@alias``, ``models:/name``, ``models:/m-…`` or a bare name stands for.

    A name without a version is its newest.

    Returns:
        None where the server knows no such model.

    Raises:
        DeliveryError: The server cannot be asked.
        ArtifactdError: A model of that name has no version, or none such.
    """
    name = what.removeprefix(PREFIX)
    try:
        if _LOGGED.fullmatch(name):
            return _logged(client, name)
        version = _version(client, name)
        if version is None:
            return None
        title = f"{PREFIX}{version.name}/{version.version}"
        uri = client.get_model_version_download_uri(version.name, version.version)
        if uri.startswith(PREFIX):
            logged = _logged(client, uri.removeprefix(PREFIX))
            return Model(title, logged.run_id, logged.artifact_uri)
        if uri.startswith("runs:/"):
            run_id, _, path = uri.removeprefix("runs:/").partition("/")
            return Model(title, run_id, "", path)
        return Model(title, version.run_id or "", uri)
    except ArtifactdError:
        raise
    except Exception as exc:
        if getattr(exc, "error_code", None) in _NO_MODEL:
            return None
        raise DeliveryError(classify(exc, target=target, scope=Scope.TARGET)) from exc


def _logged(client: MlflowClient, model_id: str) -> Model:
    found = client.get_logged_model(model_id)
    return Model(f"{PREFIX}{model_id}", found.source_run_id or "", found.artifact_location)


def _version(client: MlflowClient, name: str) -> Any:
    base, at, alias = name.rpartition("@")
    if at:
        return client.get_model_version_by_alias(base, alias)
    base, slash, number = name.rpartition("/")
    if slash and number.isdigit():
        return client.get_model_version(base, number)
    quote = '"' if "'" in name else "'"
    versions = list(client.search_model_versions(f"name = {quote}{name}{quote}"))
    if not versions:
        client.get_registered_model(name)  # which says so when there is none
        raise ArtifactdError(f"the registered model {name} has no version yet", "MLflow's UI shows what it has")
    return max(versions, key=lambda v: int(v.version))


def runs_named(client: MlflowClient, what: str, target: str) -> list[tuple[str, str]]:
    """The runs that ``experiment/run name`` may mean: id and name; names may hold slashes themselves.

    Raises:
        DeliveryError: The server cannot be asked.
    """
    found: list[tuple[str, str]] = []
    parts = what.split("/")
    try:
        for end in range(1, len(parts)):
            experiment, name = "/".join(parts[:end]), "/".join(parts[end:])
            known = client.get_experiment_by_name(experiment) if experiment and name else None
            if known is None or known.lifecycle_stage != "active":
                continue
            quote = '"' if "'" in name else "'"
            query = f"attributes.run_name = {quote}{name}{quote}"
            found += [(r.info.run_id, what) for r in client.search_runs([known.experiment_id], query)]
    except Exception as exc:
        raise DeliveryError(classify(exc, target=target, scope=Scope.TARGET)) from exc
    return found
