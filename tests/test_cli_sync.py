"""``artifactd sync``: what it says at the end, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_support import own_environment
from conftest import MlflowServer
from schemas import hold
from support import Oracle, environment, free_port


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Path]:
    with own_environment(tmp_path):
        drop = tmp_path / "drop"
        drop.mkdir()
        yield drop


def sync(drop: Path, *args: str, server: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "artifactd",
        "sync",
        *args,
        "--settle",
        "0.1s",
        "--state-dir",
        str(drop.parent / "state"),
    ]
    return subprocess.run(
        command, env=environment(MLFLOW_TRACKING_URI=server), capture_output=True, text=True, timeout=60, check=False
    )


def data_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(done.stdout)
    hold(data, "sync")
    return data


def write(drop: Path, rel: str, content: str = "x") -> Path:
    path = drop / rel
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.live
def test_a_folder_is_delivered_and_a_part_of_it_too(drop: Path, mlflow_server: MlflowServer) -> None:
    for rel in ("sync/one/a", "sync/one/b", "sync/two/c"):
        write(drop, rel)
    done = sync(drop, str(drop), server=mlflow_server.uri)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("Delivering: ")] == []
    assert done.stdout.startswith("3 files stored (3 B), 0 failed, 0 left, in ")
    write(drop, "sync/one/new")
    write(drop, "sync/two/new")
    config = drop.parent / "config.toml"
    config.write_text(f'[[watch]]\npath = "{drop}"\n')
    part = sync(drop, str(drop / "sync" / "two"), "--config", str(config), "--json", server=mlflow_server.uri)
    assert data_of(part)["stored"] == 1
    names = {r.info.run_name: r.info.run_id for r in Oracle(mlflow_server.uri).runs("sync")}
    files = {n: {f.path for f in Oracle(mlflow_server.uri).client.list_artifacts(i)} for n, i in names.items()}
    assert files == {"one": {"a", "b"}, "two": {"c", "new"}}


def test_a_server_that_is_away_is_75_and_says_what_waits(drop: Path) -> None:
    server = f"http://user:hunter22@127.0.0.1:{free_port()}"
    path, other = write(drop, "e/r/a"), write(drop, "e/r/b")
    done = sync(drop, str(drop), "--deadline", "12s", server=server)
    assert done.returncode == 75, done.stdout + done.stderr
    said = done.stdout
    assert "0 files stored (0 B), 0 failed, 2 left" in said
    assert said.count("cannot be reached") == 1, "a reason is said once for all its files"
    assert f"    {path}\n    {other}\n" in said
    assert "hunter22" not in done.stdout + done.stderr
    kept = [path.read_bytes() for path in (drop.parent / "state").rglob("*") if path.is_file()]
    assert kept, "there is a ledger"
    assert b"hunter22" not in b"".join(kept)
    assert "Traceback" not in done.stderr
    left = data_of(sync(drop, str(drop), "--deadline", "1s", "--json", server=server))["left"]
    assert {(file["path"], file["kind"]) for file in left} == {(str(path), "transient"), (str(other), "transient")}


def test_what_failed_is_listed_with_its_cure_and_exit_3(drop: Path) -> None:
    path = write(drop, "e/r/a")
    write(drop, "e/r/artifactd.toml", "nmae = 'x'")
    server = f"http://127.0.0.1:{free_port()}"
    done = sync(drop, str(drop), server=server)
    assert done.returncode == 3, done.stderr
    assert "2 failed, 0 left" in done.stdout
    assert "artifactd.toml is wrong: 'nmae' is not a key of this file; did you mean 'name'?" in done.stdout
    assert f"    {path}\n" in done.stdout
    data = data_of(sync(drop, str(drop), "--json", server=server))
    assert {f["path"] for f in data["failed"]} == {str(path), str(path.parent / "artifactd.toml")}
    assert data["left"] == []


def test_nothing_to_do(drop: Path) -> None:
    done = sync(drop, str(drop), server=f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 files stored (0 B), 0 failed, 0 left, in ")
