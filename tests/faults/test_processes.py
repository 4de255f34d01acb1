"""A process of the service that ends: the others go on, or the service ends in words and comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.proxy import Fault, Proxy, uploads
from faults.storm import child
from faults.table import Row
from support import Oracle, Program, tree, wait_for


@pytest.fixture
def program(proxy: Proxy, tmp_path: Path) -> Program:
    made = Program(tmp_path, tracking_uri=proxy.uri, more='[retry]\ninitial = "0.2s"\nmaximum = "1s"\n')
    (made.drop / tmp_path.name / "r").mkdir(parents=True)
    (made.drop / tmp_path.name / "r" / "first").write_bytes(b"1")
    return made


def everything_arrived(program: Program, server: MlflowServer, to: Path) -> None:
    oracle = Oracle(server.uri)
    experiment = program.base.name
    assert oracle.files(oracle.run(experiment, "r").info.run_id, to) == tree(program.drop / experiment / "r")


def test_a_nursery_that_dies_ends_the_service_in_words_and_it_comes_back(
    program: Program, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running() as service:
        program.wait_idle()
        wait_for(lambda: child(service.pid, "nursery"), "there is a nursery").kill()
        (program.drop / tmp_path.name / "r" / "second").write_bytes(b"2")
        assert service.wait(30) == 1
        ended = time.monotonic()
    assert "Traceback" not in program.text()
    assert "the delivery process ended" in program.text()
    with program.running():
        wait_for(lambda: program.status()["stored"] == 2, "the second file follows")
        took = time.monotonic() - ended
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("nursery killed while idle", 1, 0, 0, None, 0, took))


def test_a_worker_that_dies_in_the_middle_of_an_upload_is_replaced(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running() as service:
        program.wait_idle()
        with proxy.misbehaving(Fault("throttle", uploads, rate=256 * 1024)):
            (program.drop / tmp_path.name / "r" / "big").write_bytes(os.urandom(2 * 2**20))
            wait_for(lambda: proxy.counts.sent() > 100_000, "the upload is under way")
            wait_for(lambda: child(service.pid, "worker"), "there is a worker").kill()
            died = time.monotonic()
        wait_for(lambda: program.status()["stored"] == 2, "it is delivered")
        took = time.monotonic() - died
        assert service.poll() is None, "the service itself goes on"
    assert "Traceback" not in program.text()
    everything_arrived(program, mlflow_server, tmp_path / "back")
    record(Row("worker killed in an upload", 1, 0, 0, proxy.counts.repeats, 0, took))


def test_a_run_ends_while_other_runs_keep_the_workers_busy(
    program: Program, proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    oracle = Oracle(mlflow_server.uri)
    for n in range(600):
        (program.drop / tmp_path.name / "r" / f"f{n}").write_bytes(os.urandom(20_000))
    done = program.drop / tmp_path.name / "done"
    with program.running(), proxy.misbehaving(Fault("throttle", uploads, rate=64 * 1024)):
        wait_for(lambda: program.status().get("stored", 0) > 10, "the workers are busy", 60)
        done.mkdir()
        (done / "a").write_bytes(b"a")
        (done / ".done").touch()
        run = wait_for(lambda: [r for r in oracle.runs(tmp_path.name) if r.info.run_name == "done"], "its run is made")
        run_id = run[0].info.run_id
        wait_for(lambda: len(oracle.client.list_artifacts(run_id)) == 2, "its files are stored")
        wait_for(lambda: oracle.client.get_run(run_id).info.status == "FINISHED", "it ends", 8)
