"""Logged models: one for each content of a model folder of a run, found before made, with the server as the witness.

As with runs, the key is a tag set in the very request that makes it, and every creation is preceded by a search. A
model that a crash left PENDING is found by its key and gone on with; a READY one is never written to again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artifactd import failpoint
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking.classify import classify

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from artifactd.tracking.runs import RunInfo

MODEL_TAG = "artifactd.model"
"""On logged models and on versions: the key of the content, in its folder, in its run."""
PATH_TAG = "artifactd.path"
CONTENT_TAG = "artifactd.content"

_TOO_OLD = Failure(
    Kind.PERMANENT, Scope.FILE, "the server keeps no logged models: it is older than MLflow 3.0",
    'Upgrade it, or take kind = "model" from the route: then the files are delivered as plain artifacts',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A logged model on the server.

    Attributes:
        model_id: As in ``models:/m-…``.
        artifact_uri: Where its files go; may hold a secret.
        is_ready: It is whole, and never changes again.
        found: It was there before it was asked for, so it may hold files.
    """

    model_id: str
    artifact_uri: str
    is_ready: bool
    found: bool


def content_of(digests: Mapping[str, bytes]) -> bytes:
    """SHA-256 of a set of files.

    Args:
        digests: SHA-256 of each by its path in the model.
    """
    whole = hashlib.sha256()
    for path in sorted(digests):
        whole.update(path.encode("utf-8", "surrogateescape") + b"\0" + digests[path])
    return whole.digest()


def key_of(run_id: str, name: str, content: bytes) -> str:
    """The key of a content, as plain as a search filter needs it.

    Args:
        run_id: The run, which all hosts of a fleet have in common.
        name: The logged model's.
        content: Of ``content_of``.
    """
    return hashlib.sha256(f"{run_id}\0{name}\0".encode() + content).hexdigest()[:40]


def prepare_model(
    client: MlflowClient, info: RunInfo, name: str, key: str, tags: Mapping[str, str], target: str
) -> LoggedModel:
    """Find or create the logged model of a content.

    Args:
        client: Of the run's server.
        info: The run that it comes from.
        name: Its name.
        key: Of ``key_of``.
        tags: Further tags.
        target: The server, for messages.

    Raises:
        DeliveryError: The server cannot be asked or refuses.
    """
    try:
        found = _find(client, info, key)
        if found is not None:
            return _model(found, found=True)
        failpoint.reach("model.create.before")
        made = client.create_logged_model(
            info.experiment_id, name=name, source_run_id=info.run_id, tags={**tags, MODEL_TAG: key}
        )
        failpoint.reach("model.create.after")
        first = _find(client, info, key)
        if first is None or first.model_id == made.model_id:
            return _model(made, found=False)
        # Another host of the fleet has made one at the same moment: ours is empty, and nobody else knows it.
        client.delete_logged_model(made.model_id)
        return _model(first, found=True)
    except Exception as exc:
        raise _classed(exc, target) from exc


def finish_model(client: MlflowClient, info: RunInfo, model: LoggedModel, target: str) -> None:
    """All its files are in: it becomes READY, and the run's output; each once.

    Raises:
        DeliveryError: The server cannot be asked or refuses.
    """
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415  (costs 80 MiB and seconds)

    try:
        if not model.is_ready:
            failpoint.reach("model.finalize.before")
            client.finalize_logged_model(model.model_id, "READY")
            failpoint.reach("model.finalize.after")
        if not _is_output(client, info.run_id, model.model_id):
            failpoint.reach("model.output.before")
            try:
                client.log_outputs(info.run_id, [LoggedModelOutput(model.model_id, 0)])
            except Exception:
                if not _is_output(client, info.run_id, model.model_id):  # another host was first
                    raise
            failpoint.reach("model.output.after")
    except Exception as exc:
        raise _classed(exc, target) from exc


def _find(client: MlflowClient, info: RunInfo, key: str) -> Any:
    """The one with this key; of two that hosts have made at the same moment, the one that all of them choose."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_logged_models([info.experiment_id], f"tags.`{MODEL_TAG}` = '{key}'", page_token=token)
        found += page
        token = page.token
        if not token:
            break
    alive = [m for m in found if m.source_run_id == info.run_id and str(m.status) != "FAILED"]
    return min(alive, key=lambda m: (str(m.status) != "READY", m.creation_timestamp, m.model_id), default=None)


def _is_output(client: MlflowClient, run_id: str, model_id: str) -> bool:
    run: Any = client.get_run(run_id)
    outputs: Iterable[Any] = run.outputs.model_outputs if run.outputs is not None else ()
    return any(output.model_id == model_id for output in outputs)


def _model(model: Any, *, found: bool) -> LoggedModel:
    return LoggedModel(model.model_id, model.artifact_location, str(model.status) == "READY", found)


def _classed(exc: Exception, target: str) -> DeliveryError:
    if getattr(exc, "error_code", None) == "ENDPOINT_NOT_FOUND":
        return DeliveryError(_TOO_OLD)
    return DeliveryError(of_model(classify(exc, target=target, scope=Scope.TARGET)))


def of_model(failure: Failure) -> Failure:
    """A refusal of what concerns a model alone does not concern its run."""
    if failure.kind is not Kind.PERMANENT:
        return failure
    return Failure(failure.kind, Scope.FILE, failure.error, failure.cure, failure.retry_after)
