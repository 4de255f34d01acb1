"""How a run stands, without all that was ever logged to it.

MLflow's client has one call for a run. Where the store is a database of this machine, that is seven queries, for
params, metrics, tags, datasets and models (3.17): several times what is wanted, once for each job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, slots=True)
class Brief:
    """What a run's row says. `artifact_uri` may hold a secret."""

    status: str
    lifecycle_stage: str
    artifact_uri: str
    experiment_id: str


def brief(client: MlflowClient, run_id: str) -> Brief:
    """Ask for a run.

    Raises:
        Exception: Whatever MLflow says, as of its own ``get_run``; for ``classify``.
    """
    store: Any = client._tracking_client.store
    if hasattr(store, "ManagedSessionMaker") and hasattr(store, "_get_run"):
        with store.ManagedSessionMaker() as session:
            return _of(store._get_run(session, run_id))
    return _of(client.get_run(run_id).info)


def _of(run: Any) -> Brief:
    return Brief(str(run.status), str(run.lifecycle_stage), str(run.artifact_uri), str(run.experiment_id))
