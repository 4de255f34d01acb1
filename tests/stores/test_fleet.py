"""The election of a fleet's run before a server on PostgreSQL; at full size (32 hosts, 200 rounds) also on SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifactd.tracking.election import ELECTION_TAG
from artifactd.tracking.runs import RunSpec, prepare_run
from artifactd.tracking.server import connect
from conftest import MlflowServer
from fleet_rounds import STEPS, killed_among, killed_at, losing_answers, new_key, rounds
from fleet_support import Fleet, seen
from stores.servers import ADMIN, AuthServer, Server
from support import Oracle, environment

pytestmark = [pytest.mark.stores, pytest.mark.live]

HOSTS = int(os.environ.get("ARTIFACTD_FLEET_HOSTS", "32"))
ROUNDS = int(os.environ.get("ARTIFACTD_FLEET_ROUNDS", "200"))


@pytest.mark.timeout(600)
def test_elections_on_postgresql(postgres_server: Server) -> None:
    client = Oracle(postgres_server.uri).client
    with losing_answers(postgres_server.uri, one_in=5) as line, Fleet([postgres_server.uri, line.uri] * 3) as fleet:
        tally = rounds(client, fleet, 6, "fleet")
        assert tally.stood > 0, "never did two stand at the same time"
        assert line.counts.wrong > 0
        for step in STEPS:
            killed_at(client, fleet, postgres_server.uri, step, "fleet-killed")
            killed_among(client, fleet, postgres_server.uri, step, "fleet-killed")


def _gc(server: MlflowServer | Server, *what: str) -> None:
    """MLflow's own command: what was deleted goes for good."""
    database = getattr(server, "database", None)
    backend = f"sqlite:///{server.db}" if isinstance(server, MlflowServer) else database and database.uri
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", str(backend), *what],
        env=environment(MLFLOW_TRACKING_URI=server.uri), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["mlflow_server", "postgres_server"], ids=["sqlite", "postgresql"])
def test_a_run_that_was_purged_and_an_election_that_was(database: str, request: pytest.FixtureRequest) -> None:
    server: MlflowServer | Server = request.getfixturevalue(database)
    client, key = connect(server.uri, embedded_artifacts=None), new_key()
    spec = RunSpec(key, None, f"purged-{key}", None, "r", fleet=True)
    runs = []
    for _ in range(2):
        run_id = prepare_run(client, spec, server.uri).run_id
        run = client.get_run(run_id)
        # Not one round more: MLflow's command takes the deleted experiments with the run, whatever it is told.
        assert run.data.tags[ELECTION_TAG] == f"{key}.1"
        election = client.get_experiment_by_name(f"artifactd-election-{run.info.experiment_id}-{key}-1")
        assert election.lifecycle_stage == "deleted", "it is not shown, and its name is known all the same"
        assert prepare_run(client, spec, server.uri).run_id == run_id
        assert seen(client, key, spec.experiment).active == [run_id]
        client.delete_run(run_id)
        _gc(server, "--run-ids", run_id)
        runs.append(run_id)
    assert len(set(runs)) == 2


def test_a_user_who_may_delete_no_run_elects_all_the_same(
    auth_server: AuthServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With EDIT on the experiment: what is left over stays until somebody comes who may."""
    monkeypatch.setenv("HOME", str(tmp_path))
    auth_server.add_user("fleet-ed", "a-long-user-password")
    _log_in(monkeypatch, *ADMIN)
    key, admin = new_key(), connect(auth_server.uri, embedded_artifacts=None)
    auth_server.allow(admin.create_experiment("fleet"), "fleet-ed", "EDIT")
    _log_in(monkeypatch, "fleet-ed", "a-long-user-password")
    client = connect(auth_server.uri, embedded_artifacts=None)
    spec = RunSpec(key, None, "fleet", None, "r", fleet=True)
    run_id = prepare_run(client, spec, auth_server.uri).run_id
    _log_in(monkeypatch, *ADMIN)
    experiment = admin.get_experiment_by_name("fleet").experiment_id
    left = admin.create_run(experiment, tags={ELECTION_TAG: f"{key}.1"}).info.run_id
    _log_in(monkeypatch, "fleet-ed", "a-long-user-password")
    assert prepare_run(client, spec, auth_server.uri).run_id == run_id
    assert set(seen(client, key, "fleet").active) == {run_id, left}
    _log_in(monkeypatch, *ADMIN)
    assert prepare_run(admin, spec, auth_server.uri).run_id == run_id
    assert seen(admin, key, "fleet").active == [run_id]


def _log_in(monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


@pytest.mark.big
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("database", ["mlflow_server", "postgres_server"], ids=["sqlite", "postgresql"])
def test_elections_at_full_size(
    database: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the hosts have a line that loses one in five answers."""
    server: MlflowServer | Server = request.getfixturevalue(database)
    with (
        losing_answers(server.uri, one_in=5) as line,
        Fleet([server.uri, line.uri] * (HOSTS // 2)) as fleet,
    ):
        tally = rounds(Oracle(server.uri).client, fleet, ROUNDS, "fleet-big")
    with capsys.disabled():
        print(f"\n{database}: {HOSTS} hosts: {tally}; {line.counts.wrong} answers lost")  # noqa: T201
