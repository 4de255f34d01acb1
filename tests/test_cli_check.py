"""``artifactd check``: everything that must be in order, in one table."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_support import call, own_environment
from conftest import MlflowServer
from support import free_port


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


def config(base: Path, server: str, *watches: str, more: str = "") -> Path:
    path = base / "config.toml"
    tables = "".join(f'[[watch]]\npath = "{base}/{watch}"\n' for watch in watches)
    path.write_text(f'state_dir = "{base}/state"\n[mlflow]\ntracking_uri = "{server}"\n{tables}{more}')
    return path


@pytest.mark.live
def test_all_in_order(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    done = call("check", "--config", config(tmp_path, mlflow_server.uri, "drop"))
    assert done.exit_code == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    found = [" ".join(line[:4]) for line in lines if line[:1] == ["ok"]]
    assert found[:2] == [f"ok state folder {tmp_path}/state", f"ok watched folder {tmp_path}/drop"]
    assert found[2] == f"ok tracking server {mlflow_server.uri}"
    assert found[3].startswith("ok artifacts mlflow-artifacts:/")
    assert "one object written, listed, read back and removed" in " ".join(done.stdout.split())


def test_what_is_not_in_order_is_told_with_its_cure_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    server = f"http://user:hunter22@127.0.0.1:{free_port()}"
    path = config(tmp_path, server, "drop", "away")
    done = call("check", "--config", path)
    assert done.exit_code == 1
    assert "hunter22" not in done.stdout + done.stderr
    assert done.stdout.count("FAILED") == 2
    assert "it is not there" in done.stdout
    assert "cannot be reached" in done.stdout


def test_the_effective_config_is_shown_as_toml(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be, so that nothing further is asked")
    (tmp_path / "drop").mkdir()
    path = tmp_path / "config.toml"
    route = '[[watch.route]]\nmatch = "*.png"\nartifact_path = "plots"\n'
    path.write_text(f'state_dir = "{tmp_path}/state"\n[[watch]]\npath = "{tmp_path}/drop"\n{route}')
    listed, _, _ = re.split(r"\n\n( *What )", call("check", "--config", path).stdout)
    shown = tomllib.loads(listed)
    assert shown["watch"][0]["path"] == f"{tmp_path}/drop"
    assert shown["watch"][0]["settle"] == "5s"
    assert shown["watch"][0]["route"] == [{"match": "*.png", "artifact_path": "plots", "kind": "artifact"}]
    assert shown["retry"]["give_up_after"] == "never"


def test_json(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "state").write_text("a file where the folder should be")
    path = tmp_path / "config.toml"
    path.write_text(f'state_dir = "{tmp_path}/state"\n[[watch]]\npath = "{tmp_path}/drop"\n')
    done = call("check", "--config", path, "--json")
    assert done.exit_code == 1
    data: dict[str, Any] = json.loads(done.stdout)
    assert data["in_order"] is False
    assert data["config"]["state_dir"] == f"{tmp_path}/state"
    by_name = {check["what"]: check for check in data["checks"]}
    assert by_name["state folder"]["ok"] is False
    assert by_name["state folder"]["cure"]
    assert by_name["watched folder"]["ok"] is True
