"""A server that is older or newer than the client, and lacks a call that the client makes.

The server is of the client's version here. What another one would answer to that call, and to the question for its
version, nginx before it answers: the page of a server that does not know an address.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from artifactd.errors import Kind, Scope
from conftest import MlflowServer
from stores.nginx import nginx, passing
from stores.serving import NEW, Site, checked, failure_of, gateway, stored
from support import free_port

pytestmark = [pytest.mark.stores, pytest.mark.live]

CALL = "/api/2.0/mlflow/runs/search"
_PAGE = "<!doctype html><title>404 Not Found</title><h1>Not Found</h1><p>The requested URL was not found.</p>"


def lacking(call: str, version: str | None) -> str:
    """What nginx is told."""
    said = "return 404" if version is None else f"return 200 {version}"
    return f"location = /version {{ {said}; }} location = {call} {{ return 404 '{_PAGE}'; }}"


@pytest.mark.parametrize(
    ("version", "cure"),
    [("1.11.0", "the server"), ("9.0.0", "git pull && ")],
    ids=["too old", "too new"],
)
def test_both_versions_are_named_with_the_call_and_the_next_step(
    version: str, cure: str, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    with gateway(tmp_path, mlflow_server.uri, more=lacking(CALL, version)) as front:
        said = failure_of(front.uri)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.TARGET)
    assert said.error == (
        f"{front.uri} is MLflow {version} and does not know {CALL}, which the client here, MLflow "
        f"{mlflow.__version__}, calls"
    )
    assert cure in said.cure


def test_a_call_that_a_gateway_hides_is_not_blamed_on_the_version(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with gateway(tmp_path, mlflow_server.uri, more=lacking(CALL, mlflow.__version__)) as front:
        said = failure_of(front.uri)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.TARGET)
    assert f"answered 404 to {CALL}" in said.error
    assert "gateway" in said.cure
    assert "pip" not in said.cure


def test_a_server_that_tells_no_version(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with gateway(tmp_path, mlflow_server.uri, more=lacking(CALL, None)) as front:
        said = failure_of(front.uri)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.TARGET)
    assert f"answered 404 to {CALL}" in said.error
    assert mlflow.__version__ in said.cure


def test_check_says_so(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    asked = "/api/2.0/mlflow/experiments/search"
    with gateway(tmp_path, mlflow_server.uri, more=lacking(asked, "1.11.0")) as front:
        code, told = checked(Site(tmp_path / "site", front.uri, "versions, checked"))
    assert code == 1
    assert f"is MLflow 1.11.0 and does not know {asked}" in told


def test_it_flows_once_the_server_is_of_the_clients_time(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    port = free_port()
    old = passing(port, mlflow_server.uri, more=lacking(CALL, "1.11.0"))
    with nginx(tmp_path / "nginx", old, port=port) as front:
        site = Site(tmp_path / "site", front.uri, "versions")
        site.write("a", NEW)
        assert "MLflow 1.11.0" in site.refused()
        with site.program.running():
            assert site.held("is MLflow 1.11.0 and does not know")["kind"] == "paused"
            front.configure(passing(port, mlflow_server.uri))
            site.all_stored(1)
    assert stored(mlflow_server.uri, "versions") == {"a": NEW}
