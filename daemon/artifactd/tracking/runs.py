"""Runs: one per folder, found before made, with the server as the witness.

MLflow has no unique key for runs, so the key is a tag set in the very request that creates the run, and every
creation is preceded by a search: an answer that was lost is found by the next try. Where several hosts may create it
at the same moment, they elect it (``election``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from artifactd import failpoint
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking import election
from artifactd.tracking.brief import brief
from artifactd.tracking.classify import classify
from artifactd.tracking.election import KEY_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_TAG = "mlflow.parentRunId"
"""By which MLflow's UI nests a run in another one."""
_PER_REQUEST = 100
"""Params, or tags, that MLflow takes in one ``log_batch``."""
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Has MLflow's UI show the experiment as model training; a new one is taken for a GenAI project otherwise (3.17)."""
_REFUSED_RUN = (
    "See the names, tags and params in the folder's artifactd.toml, and whether the server is older than MLflow 2.0; "
    "then `artifactd retry`"
)
_KEPT = ("artifactd.", "mlflow.source.", PARENT_TAG)
_KEPT_BY_A_FLEET = ("artifactd.host",)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What a run shall be.

    Attributes:
        key: Value of the ``artifactd.key`` tag; None for a run that is adopted by `run_id`.
        run_id: The run to adopt, or the one that is known already.
        experiment: Experiment name, created if missing.
        artifact_location: For an experiment that is created; None leaves it to the server.
        name: Run name.
        tags: Further tags.
        params: Params from artifactd.toml.
        named: The name was chosen in artifactd.toml, so an adopted run gets it too.
        fleet: Other hosts have the same key, and may look for the run at the same moment.
        began: When it began, milliseconds since 1970; None: now.
    """

    key: str | None
    run_id: str | None
    experiment: str
    artifact_location: str | None
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    named: bool = False
    fleet: bool = False
    began: int | None = None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What the server says of a run.

    Attributes:
        artifact_uri: May hold a secret, and goes nowhere but to the repository.
        found: It was there before it was asked for.
        experiment_id: The experiment that holds it.
    """

    run_id: str
    status: str
    artifact_uri: str
    found: bool = True
    experiment_id: str = ""


def prepare_run(client: MlflowClient, spec: RunSpec, target: str) -> RunInfo:
    """Find or create the run and bring its name, tags and params up to date.

    Raises:
        DeliveryError: Also for a run or experiment that stands deleted, with the command that restores it.
    """
    try:
        if spec.run_id is not None and not (spec.key is not None and _is_purged(client, spec.run_id)):
            info = inspect_run(client, spec.run_id, target)
            _update(client, spec, client.get_run(spec.run_id))
            return info
        experiment = _experiment(client, spec)
        run = _find(client, experiment, spec)
        found = run is not None
        if run is None and spec.fleet:
            run, found = _elected(client, experiment, spec)
        elif run is None:
            failpoint.reach("create_run.before")
            tags = {KEY_TAG: spec.key or "", **spec.tags}
            run = client.create_run(experiment, spec.began, tags, run_name=spec.name)
            failpoint.reach("create_run.after")
        _update(client, spec, run)
        if spec.fleet:
            election.tidy(client, run)
        return RunInfo(run.info.run_id, run.info.status, run.info.artifact_uri, found, str(run.info.experiment_id))
    except Exception as exc:
        failure = classify(exc, target=target, scope=Scope.TARGET)
        if failure.kind is Kind.PERMANENT and failure.scope is Scope.FILE:  # no file was asked for
            failure = replace(failure, scope=Scope.RUN, cure=_REFUSED_RUN)
        raise DeliveryError(failure) from exc


def inspect_run(client: MlflowClient, run_id: str, target: str) -> RunInfo:
    """Ask for a run before anything is sent: MLflow accepts uploads into deleted runs without a word.

    Raises:
        DeliveryError: The run or its experiment is deleted or unknown, or the server cannot be asked.
    """
    try:
        run = brief(client, run_id)
        experiment_deleted = False
        if run.lifecycle_stage == "active":
            return RunInfo(run_id, run.status, run.artifact_uri, experiment_id=run.experiment_id)
        experiment = client.get_experiment(run.experiment_id)
        experiment_deleted = experiment.lifecycle_stage != "active"
    except Exception as exc:
        failure = classify(exc, target=target, scope=Scope.TARGET)
        if failure.kind is Kind.PERMANENT:
            failure = Failure(
                Kind.PERMANENT, Scope.RUN, f"run {run_id} does not exist on the server",
                "`artifactd retry` looks for the folder's run again and makes a new one if there is none",
            )  # fmt: skip
        raise DeliveryError(failure) from exc
    if experiment_deleted:
        raise DeliveryError(_deleted_experiment(experiment.name, run.experiment_id))
    raise DeliveryError(_deleted_run(run_id))


def _is_purged(client: MlflowClient, run_id: str) -> bool:
    """Whether the server knows nothing of the run any more, not even as a deleted one."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (costs 80 MiB and seconds)

    try:
        client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True
    return False


def _experiment(client: MlflowClient, spec: RunSpec) -> str:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  (costs 80 MiB and seconds)

    found = client.get_experiment_by_name(spec.experiment)
    if found is None:
        try:
            return str(client.create_experiment(spec.experiment, spec.artifact_location, tags=_TRAINING))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(spec.experiment)  # another worker or host was first
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise DeliveryError(_deleted_experiment(spec.experiment, found.experiment_id))
    return str(found.experiment_id)


def _elected(client: MlflowClient, experiment: str, spec: RunSpec) -> tuple[Any, bool]:
    """The run that this host and the others have elected, and whether it was there before it was asked for."""
    key = spec.key or ""

    def create(tags: Mapping[str, str]) -> Any:
        return client.create_run(experiment, spec.began, {**tags, **spec.tags}, run_name=spec.name)

    run, made = election.elect(client, experiment, key, find=lambda: _find(client, experiment, spec), create=create)
    if run.info.lifecycle_stage != "active":
        raise DeliveryError(_deleted_run(run.info.run_id))
    election.crown(client, run, key)
    return run, not made


def _find(client: MlflowClient, experiment: str, spec: RunSpec) -> Any:
    from mlflow.entities import ViewType  # noqa: PLC0415  (costs 80 MiB and seconds)

    runs = client.search_runs(
        [experiment],
        f"tags.`{KEY_TAG}` = '{spec.key}'",
        run_view_type=ViewType.ALL,
        order_by=["attributes.start_time ASC"],  # servers before 2.0 know it by this name alone
    )
    active = [r for r in runs if r.info.lifecycle_stage == "active"]
    if active:
        return active[0]
    if runs:
        raise DeliveryError(_deleted_run(runs[0].info.run_id))
    return None


def _update(client: MlflowClient, spec: RunSpec, run: Any) -> None:
    """Send what differs, so that a repeat after a lost answer changes nothing."""
    # An adopted run may belong to another folder or host: what that one wrote about itself stays.
    ours = spec.key is not None
    kept = _KEPT_BY_A_FLEET if spec.fleet else () if ours else _KEPT
    old = run.data.tags
    tags = {k: v for k, v in spec.tags.items() if old.get(k) != v and (k not in old or not k.startswith(kept))}
    params = {k: v for k, v in spec.params.items() if run.data.params.get(k) != v}
    if tags or params:
        from mlflow.entities import Param, RunTag  # noqa: PLC0415  (costs 80 MiB and seconds)

        for some in _batches(params):
            client.log_batch(run.info.run_id, params=[Param(k, v) for k, v in some])
        for some in _batches(tags):
            client.log_batch(run.info.run_id, tags=[RunTag(k, v) for k, v in some])
    if (ours or spec.named) and run.info.run_name != spec.name:
        client.update_run(run.info.run_id, name=spec.name)


def _batches(values: dict[str, str]) -> Iterator[list[tuple[str, str]]]:
    items = list(values.items())
    for start in range(0, len(items), _PER_REQUEST):
        yield items[start : start + _PER_REQUEST]


def _deleted_run(run_id: str) -> Failure:
    return Failure(
        Kind.PERMANENT, Scope.RUN, f"run {run_id} is deleted on the server, which would hide what is sent into it",
        f"Restore it (mlflow runs restore --run-id {run_id}), then `artifactd retry`",
    )  # fmt: skip


def _deleted_experiment(name: str, ident: str) -> Failure:
    return Failure(
        Kind.PERMANENT, Scope.RUN,
        f"experiment {name!r} is deleted on the server, which would hide what is sent there",
        f"Restore it (mlflow experiments restore --experiment-id {ident}), then `artifactd retry`",
    )  # fmt: skip
