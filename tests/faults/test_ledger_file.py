"""The ledger's file deleted, cut, overwritten, from a newer version, on a full and on a read-only disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.proxy import Proxy
from faults.table import Row
from support import Oracle, Program, tree, wait_for


@pytest.fixture
def program(proxy: Proxy, tmp_path: Path) -> Program:
    """A service that has delivered ten files and was stopped."""
    made = Program(tmp_path, tracking_uri=proxy.uri)
    folder = made.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    for n in range(10):
        (folder / f"f{n}").write_bytes(os.urandom(10_000))
    assert made.call("sync").returncode == 0
    return made


def assert_exact(program: Program, server: MlflowServer, to: Path) -> None:
    oracle = Oracle(server.uri)
    run = oracle.run(program.base.name, "r")
    assert oracle.files(run.info.run_id, to) == tree(program.drop / program.base.name / "r")


def refused(program: Program) -> str:
    """What `run` says when it cannot start."""
    done = program.call("run", "--config", str(program.config))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def delete_ledger(program: Program) -> None:
    for path in program.state.glob("ledger.db*"):
        path.unlink()


def test_a_deleted_ledger_is_built_anew_into_the_same_run(
    program: Program, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None], proxy: Proxy
) -> None:
    delete_ledger(program)
    done = program.call("sync")
    assert done.returncode == 0, done.stderr
    assert_exact(program, mlflow_server, tmp_path / "back")
    record(Row("ledger deleted", 1, 0, 0, proxy.counts.repeats, 0))


def test_a_ledger_that_is_built_anew_sends_nothing_that_is_there(program: Program, proxy: Proxy) -> None:
    delete_ledger(program)
    assert program.call("sync").returncode == 0
    assert proxy.counts.repeats == 0


def test_a_ledger_deleted_under_the_running_service(
    program: Program, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running():
        wait_for(lambda: "started" in program.text(), "it works")
        delete_ledger(program)
        (program.drop / program.base.name / "r" / "late").write_bytes(b"late")
        wait_for(lambda: "late" in program.text(), f"it is stored all the same:\n{program.text()}")
    assert "Traceback" not in program.text()
    assert_exact(program, mlflow_server, tmp_path / "back")
    record(Row("ledger deleted under the service", 1, 0, 0, None, 0))


@pytest.mark.parametrize("how", ["cut in the middle", "cut to 100 bytes", "garbage", "newer"])
def test_a_ledger_that_cannot_be_used_is_refused_in_words_and_left_alone(
    how: str, program: Program, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    ledger = program.state / "ledger.db"
    with sqlite3.connect(ledger) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if how == "newer":
            con.execute("PRAGMA user_version = 999")
    con.close()
    for path in program.state.glob("ledger.db-*"):
        path.unlink()
    if how == "garbage":
        ledger.write_bytes(os.urandom(ledger.stat().st_size))
    elif how == "cut in the middle":
        os.truncate(ledger, ledger.stat().st_size // 2 // 4096 * 4096)
    elif how == "cut to 100 bytes":
        os.truncate(ledger, 100)
    before = ledger.read_bytes()
    said = refused(program)
    assert str(ledger) in said
    assert ("newer artifactd" if how == "newer" else "move it away") in said
    assert ledger.read_bytes() == before
    status = program.call("status")
    assert status.returncode == 1
    assert "Traceback" not in status.stderr
    # The cure that it names works.
    ledger.rename(program.base / "ledger.damaged")
    assert program.call("sync").returncode == 0
    assert_exact(program, mlflow_server, tmp_path / "back")
    record(Row(f"ledger {how}", 1, 0, 0, None, 0))


def test_an_empty_ledger_is_a_new_one(program: Program, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    delete_ledger(program)
    (program.state / "ledger.db").touch()
    assert program.call("sync").returncode == 0
    assert_exact(program, mlflow_server, tmp_path / "back")


# -- disks -------------------------------------------------------------------------------------------------------


def mount(*args: str) -> None:
    done = subprocess.run(["mount", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(program: Program) -> Iterator[Path]:
    """The state folder on a disk of 2 MiB of its own."""
    if os.getuid() != 0:
        pytest.skip("needs root, to mount")
    kept = program.base / "kept"
    program.state.rename(kept)
    program.state.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(program.state))
    try:
        shutil.copytree(kept, program.state, dirs_exist_ok=True)
        yield program.state
    finally:
        subprocess.run(["umount", "-l", str(program.state)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError:
            pass
    return ballast


@pytest.mark.root
def test_a_full_disk_at_the_start_is_said_and_passes(
    program: Program, small_disk: Path, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    ballast = fill(small_disk)
    (program.drop / program.base.name / "r" / "new").write_bytes(b"new")
    said = refused(program)
    assert "full" in said or "space" in said
    ballast.unlink()
    assert program.call("sync").returncode == 0
    assert_exact(program, mlflow_server, tmp_path / "back")
    record(Row("ledger on a full disk at the start", 1, 0, 0, None, 0))


@pytest.mark.root
def test_a_disk_that_fills_under_the_service_ends_it_in_words_and_loses_nothing(
    program: Program, small_disk: Path, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with program.running() as service:
        wait_for(lambda: "started" in program.text(), "it works")
        ballast = fill(small_disk)
        for n in range(2000):
            (program.drop / program.base.name / "r" / f"new-{n}").touch()
        assert service.wait(30) == 1, program.text()
    assert "full" in program.text()
    assert "Traceback" not in program.text()
    ballast.unlink()
    for n in range(100, 2000):
        (program.drop / program.base.name / "r" / f"new-{n}").unlink()
    assert program.call("sync", timeout=120).returncode == 0
    assert_exact(program, mlflow_server, tmp_path / "back")
    record(Row("ledger's disk fills under the service", 1, 0, 0, None, 0))


@pytest.mark.root
def test_a_read_only_disk_is_said(
    program: Program, small_disk: Path, mlflow_server: MlflowServer, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    mount("-o", "remount,ro", str(small_disk))
    said = refused(program)
    assert "read-only" in said.lower() or "readonly" in said.lower()
    status = program.call("status")
    assert "Traceback" not in status.stderr
    mount("-o", "remount,rw", str(small_disk))
    (program.drop / program.base.name / "r" / "new").write_bytes(b"new")
    assert program.call("sync").returncode == 0
    assert_exact(program, mlflow_server, tmp_path / "back")
    record(Row("ledger on a read-only disk", 1, 0, 0, None, 0))
