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
from notify_support import hook, noted, noting, script
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


# -- --notify ----------------------------------------------------------------------------------------------------


def notifying(base: Path, **keys: object) -> Path:
    """A configuration by which no store is asked, and somebody is told."""
    (base / "drop").mkdir()
    (base / "state").write_text("a file where the folder should be, so that nothing further is asked")
    file = base / "config.toml"
    told = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    file.write_text(f'state_dir = "{base}/state"\n[[watch]]\npath = "{base}/drop"\n[notify]\n{told}')
    return file


def told_rows(*args: str | Path) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = json.loads(call("check", "--json", *args).stdout)["checks"]
    return [check for check in checks if check["what"] == "message"]


def test_a_command_and_a_webhook_are_told_a_test(tmp_path: Path) -> None:
    with hook() as server:
        (tmp_path / "key").write_text("hunter22")
        secret = str(tmp_path / "key")
        file = notifying(tmp_path, command=noting(tmp_path), webhook=server.url, secret_file=secret)
        rows = told_rows("--notify", "--config", file)
    assert [(row["ok"], row["detail"]) for row in rows] == [(True, "a test was sent, and taken")] * 2
    assert [row["subject"].endswith(name) for row, name in zip(rows, ("python", "/***"), strict=True)] == [True, True]
    (by_hook,), (by_command,) = server.requests, noted(tmp_path)
    assert "X-Artifactd-Signature" in by_hook.headers
    for message in (by_hook.data, by_command):
        assert message["test"] is True
        assert re.fullmatch("artifactd on .+: this is a test", message["text"])
        assert (message["troubles"], message["more"], message["resolved"]) == ([], 0, [])
        assert message["state_dir"] == f"{tmp_path}/state"


def test_who_was_not_told_is_a_row_with_its_cure_and_exit_1(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    fails = script(tmp_path, "print('token=hunter22'); sys.exit(3)")
    with hook((403, {}, b"who are you?")) as server:
        more = f'[notify]\ncommand = {json.dumps(fails)}\nwebhook = "{server.url}"\n'
        (tmp_path / "drop").mkdir()
        done = call("check", "--notify", "--config", config(tmp_path, mlflow_server.uri, "drop", more=more))
    assert done.exit_code == 1
    assert done.stdout.count("FAILED") == 2
    assert "ended with exit code 3" in done.stdout
    assert "answered 403: who are you?" in done.stdout
    assert "Try it by hand, as artifactd's user" in done.stdout
    for secret in ("hunter22", "s3cret"):
        assert secret not in done.stdout + done.stderr


def test_nobody_is_told_unless_asked_for(tmp_path: Path) -> None:
    file = notifying(tmp_path, command=noting(tmp_path))
    assert told_rows("--config", file) == []
    assert noted(tmp_path) == []


def test_where_nobody_is_named_a_test_is_wrong_usage(tmp_path: Path) -> None:
    done = call("check", "--notify", "--config", notifying(tmp_path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "names no command and no webhook" in done.stderr
    assert "environment" in done.stderr


def test_a_webhook_may_stand_in_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hook() as server:
        monkeypatch.setenv("ARTIFACTD_NOTIFY__WEBHOOK", server.url)
        (row,) = told_rows("--notify", "--config", notifying(tmp_path))
    assert row["ok"]
    assert [request.path for request in server.requests] == ["/hooks/s3cret"]
