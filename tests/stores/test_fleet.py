"""The election of a fleet's run before a server on PostgreSQL; at full size (32 hosts, 200 rounds) also on SQLite."""

from __future__ import annotations

import os

import pytest

from conftest import MlflowServer
from fleet_rounds import STEPS, killed_among, killed_at, losing_answers, rounds
from fleet_support import Fleet
from stores.servers import Server
from support import Oracle

pytestmark = [pytest.mark.stores, pytest.mark.live]

HOSTS = int(os.environ.get("ARTIFACTD_FLEET_HOSTS", "32"))
ROUNDS = int(os.environ.get("ARTIFACTD_FLEET_ROUNDS", "200"))


@pytest.mark.timeout(300)
def test_elections_on_postgresql(postgres_server: Server) -> None:
    client = Oracle(postgres_server.uri).client
    with losing_answers(postgres_server.uri, one_in=5) as line, Fleet([postgres_server.uri, line.uri] * 3) as fleet:
        tally = rounds(client, fleet, 10, "fleet")
        assert tally.stood > 0, "never did two stand at the same time"
        assert line.counts.wrong > 0
        for step in STEPS[1::2]:
            killed_at(client, fleet, postgres_server.uri, step, "fleet-killed")
            killed_among(client, fleet, postgres_server.uri, step, "fleet-killed")


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
