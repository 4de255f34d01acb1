"""How a run stands is what MLflow's whole answer says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifactd.tracking.brief import brief
from conftest import MlflowServer


@pytest.mark.parametrize("where", ["database", pytest.param("server", marks=pytest.mark.live)])
def test_it_is_what_the_whole_run_says(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    if where == "server":
        server: MlflowServer = request.getfixturevalue("mlflow_server")
        uri = server.uri
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment(tmp_path.name)).info.run_id
    for change in (lambda: None, lambda: client.set_terminated(run_id, "FAILED"), lambda: client.delete_run(run_id)):
        change()
        info = client.get_run(run_id).info
        found = brief(client, run_id)
        assert (found.status, found.lifecycle_stage) == (info.status, info.lifecycle_stage)
        assert (found.artifact_uri, found.experiment_id) == (info.artifact_uri, info.experiment_id)
    with pytest.raises(MlflowException) as caught:
        brief(client, "0" * 32)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
