"""Several hosts, one folder, one run: elections before a real server on SQLite, and services as on three hosts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.manifest import is_manifest
from artifactd.tracking.runs import RunSpec, prepare_run
from artifactd.tracking.server import connect
from conftest import MlflowServer
from faults.proxy import Fault, Proxy
from fleet_rounds import STEPS, killed_at, losing_answers, new_key, rounds
from fleet_support import Fleet, seen
from support import Oracle, Program, tree, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

HOSTS = 8
ROUNDS = 10


@pytest.fixture(scope="module")
def fleet(mlflow_server: MlflowServer) -> Iterator[Fleet]:
    with Fleet([mlflow_server.uri] * HOSTS) as hosts:
        yield hosts


def test_hosts_that_look_for_their_run_at_the_same_moment_have_one(mlflow_server: MlflowServer, fleet: Fleet) -> None:
    tally = rounds(Oracle(mlflow_server.uri).client, fleet, ROUNDS, "fleet")
    assert tally.stood > 0, "never did two stand at the same time"


def test_answers_that_are_lost_make_no_second_run(mlflow_server: MlflowServer) -> None:
    with losing_answers(mlflow_server.uri, one_in=5) as line, Fleet([line.uri] * 4) as hosts:
        tally = rounds(Oracle(mlflow_server.uri).client, hosts, ROUNDS // 2, "fleet-lossy")
        assert line.counts.wrong > 0
    assert tally.tries > 4 * ROUNDS // 2


@pytest.mark.parametrize("step", STEPS)
def test_a_host_that_dies_holds_up_nobody(mlflow_server: MlflowServer, fleet: Fleet, step: str) -> None:
    killed_at(Oracle(mlflow_server.uri).client, fleet, mlflow_server.uri, step, "fleet-killed")


def test_a_user_who_may_make_no_experiment_is_told_so_and_leaves_no_crowd_of_runs(mlflow_server: MlflowServer) -> None:
    client, key = Oracle(mlflow_server.uri).client, new_key()
    client.create_experiment("given")
    proxy = Proxy(mlflow_server.uri)
    spec = RunSpec(key, None, "given", None, "r", fleet=True)
    refusal = Fault("answer", lambda _, path: path.endswith("/experiments/create"), 403, (), b"Permission denied")
    try:
        with proxy.misbehaving(refusal):
            for _ in range(3):
                with pytest.raises(DeliveryError) as caught:
                    prepare_run(connect(proxy.uri, embedded_artifacts=None), spec, proxy.uri)
        failure = caught.value.failure
        assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.RUN)
        assert "answered 403" in failure.error
        assert 'run_scope = "fleet" needs an experiment of its own' in failure.error
        assert "Let this user create experiments; or make the run by hand" in failure.cure
        assert len(seen(client, key, "given").active) == 1, "each try takes the run that stands already"
        info = prepare_run(connect(proxy.uri, embedded_artifacts=None), spec, proxy.uri)
    finally:
        proxy.close()
    assert seen(client, key, "given").keyed == [info.run_id]


def test_a_run_of_one_host_costs_not_a_request_more(mlflow_server: MlflowServer) -> None:
    proxy = Proxy(mlflow_server.uri)
    try:
        client = connect(proxy.uri, embedded_artifacts=None)
        before = sum(proxy.counts.requests.values())
        prepare_run(client, RunSpec(new_key(), None, "costs", None, "r"), proxy.uri)
        calls = [
            path.partition("/mlflow/")[2] for (_, path), _ in list(proxy.counts.requests.items()) if "/mlflow/" in path
        ]
        assert sorted(calls) == ["experiments/create", "experiments/get-by-name", "runs/create", "runs/search"]
        assert sum(proxy.counts.requests.values()) == before + 4
    finally:
        proxy.close()


# -- whole services --------------------------------------------------------------------------------------------------


class HostProgram(Program):
    """artifactd as on a host of its own: with its own name, and its own folder under a path that all hosts have."""

    def __init__(self, base: Path, number: int, path: Path, uri: str) -> None:
        super().__init__(base / f"host-{number}", tracking_uri=uri, watch='run_scope = "fleet"')
        path.mkdir(exist_ok=True)
        self.config.write_text(self.config.read_text().replace(f'path = "{self.drop}"', f'path = "{path}"'))
        apart = f'mount --bind "{self.drop}" "{path}" && hostname host-{number} && exec "$@"'
        namespaces = ("--user", "--map-root-user", "--mount", "--uts", "--propagation=private")
        self.wrapper = ("unshare", *namespaces, "sh", "-c", apart, "sh")

    def write(self, rel: str, content: str) -> None:
        path = self.drop / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def hosts(mlflow_server: MlflowServer, tmp_path: Path) -> list[HostProgram]:
    made = [HostProgram(tmp_path, n, tmp_path / "drop", mlflow_server.uri) for n in range(3)]
    if subprocess.run([*made[0].wrapper, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces that may be made (unshare --user)")
    return made


@contextlib.contextmanager
def all_running(hosts: Sequence[Program]) -> Iterator[None]:
    with ExitStack() as services:
        for host in hosts:
            services.enter_context(host.running())
        yield


def ended(oracle: Oracle, experiment: str) -> Any:
    run = oracle.run(experiment, "r")
    return run if run.info.status != "RUNNING" else None


def test_three_hosts_deliver_their_ranks_into_one_run(
    hosts: list[HostProgram], mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    experiment = tmp_path.name
    for n, host in enumerate(hosts):
        host.write(f"{experiment}/r/rank-{n}/model.bin", f"weights of {n}")
        host.write(f"{experiment}/r/rank-{n}/log/out.txt", f"lines of {n}")
        host.write(f"{experiment}/r/config.json", "{}")
        host.write(f"{experiment}/r/.done", "")
    with all_running(hosts):
        for host in hosts:
            status = host.wait_idle()
            assert (status["failed"], status["stored"]) == (0, 4), status["failures"]
        oracle = Oracle(mlflow_server.uri)
        wait_for(lambda: all(h.status()["runs"][0]["status"] == "FINISHED" for h in hosts), "ended by all")
    run = oracle.run(experiment, "r")
    assert run.info.status == "FINISHED"
    expected: dict[bytes, bytes] = {}
    for host in hosts:
        expected |= tree(host.drop / experiment / "r")
    assert len(expected) == 8
    assert oracle.files(run.info.run_id, tmp_path / "back") == expected
    assert seen(oracle.client, run.data.tags["artifactd.key"], experiment).active == [run.info.run_id]
    names = [e.name for e in oracle.client.search_experiments() if e.name.startswith("artifactd-election")]
    assert names == [], "what the hosts need to agree is not shown"
    assert sum("Traceback" in host.text() for host in hosts) == 0


def test_a_file_of_another_host_is_never_overwritten_and_failed_is_never_finished(
    hosts: list[HostProgram], mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    experiment, oracle = tmp_path.name, Oracle(mlflow_server.uri)
    first, second, third = hosts
    first.write(f"{experiment}/r/loss.csv", "1")
    first.write(f"{experiment}/r/.done", "")
    second.write(f"{experiment}/r/loss.csv", "2")
    second.write(f"{experiment}/r/rank-1/x", "x")
    third.write(f"{experiment}/r/rank-2/y", "y")
    third.write(f"{experiment}/r/.failed", "out of memory")
    with first.running():
        first.wait_idle()
        run = wait_for(lambda: ended(oracle, experiment), "the first host ends it")
        assert run.info.status == "FINISHED"
    with second.running():
        wait_for(lambda: second.status().get("failed") == 1 and second.status()["stored"] == 1, "its rank is stored")
        (failure,) = second.status()["failures"]
        assert failure["kind"] == "permanent"
        assert "another host's file stands there: the run holds loss.csv with another content" in failure["error"]
        assert "rank-0/" in second.call("explain", str(tmp_path / "drop" / experiment / "r" / "loss.csv")).stdout
        second.call("retry", "--all")
        wait_for(lambda: sum(e["event"] == "not delivered" for e in second.events()) > 1, "it is asked for again")
    with third.running():
        third.wait_idle()
        wait_for(lambda: oracle.run(experiment, "r").info.status == "FAILED", "a failure wins")
    # Another host that has all, and says so, after the failure.
    second.write(f"{experiment}/r/loss.csv", "1")
    second.write(f"{experiment}/r/.done", "")
    with second.running():
        second.wait_idle()
        wait_for(lambda: second.status()["runs"][0]["status"] == "FAILED", "it learns that the run has failed")
    run = oracle.run(experiment, "r")
    assert run.info.status == "FAILED"
    assert run.data.tags["artifactd.failed"] == "host-2"
    assert run.data.tags["artifactd.host"] == "host-0", "the host that made it"
    files = oracle.files(run.info.run_id, tmp_path / "back")
    assert files == {
        b"loss.csv": b"1",
        b".done": b"",
        b"rank-1/x": b"x",
        b"rank-2/y": b"y",
        b".failed": b"out of memory",
    }


def test_hosts_that_see_one_filesystem_deliver_each_content_into_one_run(tmp_path: Path) -> None:
    """Each in a network of its own, where the claim of the other one to the folder is not known; a database serves."""
    uri, location, drop = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "store", tmp_path / "drop"
    client = connect(uri, embedded_artifacts=location)
    hosts = []
    for n in range(2):
        more = f'artifact_location = "{location.as_uri()}"\n'
        host = Program(tmp_path / f"host-{n}", tracking_uri=uri, more=more, watch='run_scope = "fleet"')
        host.config.write_text(host.config.read_text().replace(f'path = "{host.drop}"', f'path = "{drop}"'))
        namespaces = ("--user", "--map-root-user", "--net", "--uts")
        host.wrapper = ("unshare", *namespaces, "sh", "-c", f'hostname host-{n} && exec "$@"', "sh")
        hosts.append(host)
    if subprocess.run([*hosts[0].wrapper, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces that may be made (unshare --user)")
    for n in range(20):
        path = drop / "e" / "r" / f"rank-{n % 2}" / f"{n}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % n * 1000)
    (drop / "e" / "r" / ".done").touch()
    with all_running(hosts):
        for host in hosts:
            status = host.wait_idle()
            assert (status["failed"], status["stored"]) == (0, 21), status["failures"]
        wait_for(lambda: all(h.status()["runs"][0]["status"] == "FINISHED" for h in hosts), "ended by both")
    (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert run.info.status == "FINISHED"
    stored = tree(location / run.info.run_id / "artifacts")
    manifests = {path for path in stored if is_manifest(os.fsdecode(path))}
    assert manifests == {b"artifactd/manifest.host-0.json", b"artifactd/manifest.host-1.json"}, "one for each host"
    assert {path: content for path, content in stored.items() if path not in manifests} == tree(drop / "e" / "r")
    assert all("Traceback" not in host.text() for host in hosts)
