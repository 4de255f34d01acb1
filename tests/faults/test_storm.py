"""The kill storm, bounded; ``make soak`` is the long one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from conftest import MlflowServer
from faults.storm import Storm, plan
from faults.table import Row


@pytest.fixture(scope="module")
def storm(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    made = Storm(tmp_path_factory.mktemp("storm"), mlflow_server.uri, seed=1)
    try:
        made.run(plan(seed=1, each=1))
        made.finish()
        yield made
    finally:
        made.close()


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_torn_by_a_storm_of_kills(storm: Storm, record: Callable[[Row], None]) -> None:
    for row in storm.rows():
        record(row)
    wrong = {k: storm.verdict[k] for k in ("lost", "torn", "outside", "duplicate_runs") if storm.verdict[k]}
    assert not wrong, wrong
    assert storm.verdict["files"] > 100
    assert storm.ratio <= 1.05, "hardly a byte is sent twice"
    assert "Traceback" not in storm.program.text()
