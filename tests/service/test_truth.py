"""Runs that tell the truth: what MLflow says of a run is what its folder says, whatever dies in between."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import MlflowServer
from support import Oracle, Program, environment, wait_for

pytestmark = pytest.mark.live

SOON = 'abandon_after = "3s"\nscan_interval = "0.3s"'
REASON = "artifactd.reason"


class Site:
    def __init__(self, base: Path, server: MlflowServer, watch: str) -> None:
        self.program = Program(base, tracking_uri=server.uri, watch=watch)
        self.experiment = base.name
        self.oracle = Oracle(server.uri)
        self.folder = self.program.drop / base.name / "r"

    def write(self, name: str, text: str = "x") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def runs(self) -> list[Any]:
        return self.oracle.runs(self.experiment)

    @property
    def run(self) -> Any:
        return self.oracle.run(self.experiment, "r")

    def wait(self, status: str) -> Any:
        def reached() -> Any:
            runs = [r for r in self.runs() if r.info.run_name == "r"]
            return runs[0] if runs and runs[0].info.status == status else None

        try:
            return wait_for(reached, f"{status}", 40)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; {self.runs()}\n{self.program.text()[-3000:]}") from None

    def sync(self) -> None:
        done = self.program.call("sync")
        assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def site(mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    return Site(tmp_path, mlflow_server, SOON)


def ms(path: Path) -> int:
    return path.stat().st_mtime_ns // 1_000_000


def test_times_are_those_of_the_files_and_a_code_in_the_marker_counts(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    site = Site(tmp_path, mlflow_server, "")
    before = time.time()
    old = site.write("data/copied.csv")
    os.utime(old, (1.5e9, 1.5e9))  # of 2017, copied with its time
    done = site.write(".done", "3\n")
    written = time.time()
    site.sync()
    run = site.run
    assert before - 1 <= run.info.start_time / 1000 <= written + 1
    assert (run.info.status, run.info.end_time) == ("FAILED", ms(done))
    assert run.data.tags[REASON] == "exit code 3"
    assert "FAILED since" in site.program.call("explain", str(old)).stdout
    (row,) = site.program.status()["runs"]
    assert (row["status"], row["reason"]) == ("FAILED", "exit code 3")
    # The next training in the same folder.
    done.unlink()
    site.write("new")
    site.sync()
    assert site.run.info.status == "RUNNING"
    assert REASON not in site.run.data.tags
    done = site.write(".done")
    site.sync()
    assert (site.run.info.status, site.run.info.end_time) == ("FINISHED", ms(done))


def test_a_run_that_its_job_logs_to_keeps_its_own_status(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    site = Site(tmp_path, mlflow_server, SOON)
    ident = site.oracle.client.create_experiment(site.experiment)
    mine, told, own = (site.oracle.client.create_run(ident, run_name=n).info.run_id for n in ("mine", "told", "own"))
    for run_id in (mine, told, own):
        (site.program.drop / "e" / run_id).mkdir(parents=True)
        (site.program.drop / "e" / run_id / "a").write_text("x")
    (site.program.drop / "e" / mine / ".failed").write_text("out of memory")
    (site.program.drop / "e" / told / "artifactd.toml").write_text("end_run = true\n")
    (site.program.drop / "e" / told / ".failed").write_text("out of memory")
    site.sync()
    assert site.oracle.client.get_run(mine).info.status == "RUNNING"
    assert REASON not in site.oracle.client.get_run(mine).data.tags
    assert site.oracle.client.get_run(told).info.status == "FAILED"
    assert site.oracle.client.get_run(told).data.tags[REASON] == "out of memory"
    assert "its own job ends it" in site.program.call("explain", str(site.program.drop / "e" / own / "a")).stdout
    # Of artifactd's own run, but ended by its job: kept, only a failure is added.
    site = Site(tmp_path / "kept", mlflow_server, "")
    site.write("a")
    site.sync()
    run_id = site.run.info.run_id
    site.oracle.client.set_terminated(run_id, "KILLED", 5_000_000_000_000)
    site.write(".done")
    site.sync()
    assert (site.run.info.status, site.run.info.end_time) == ("KILLED", 5_000_000_000_000)
    site.oracle.client.set_terminated(run_id, "FINISHED")
    site.write(".failed", "1\n")
    site.sync()
    assert (site.run.info.status, site.run.data.tags[REASON]) == ("FAILED", "exit code 1")


def test_a_run_that_is_given_up_is_killed_and_lives_again(site: Site) -> None:
    last = site.write("model.pt")
    with site.program.running():
        run = site.wait("KILLED")
        assert run.info.end_time == last.stat().st_ctime_ns // 1_000_000
        assert run.data.tags[REASON].startswith("no sign of life since ")
        shown = wait_for(lambda: [r for r in site.program.status()["runs"] if r["status"] == "KILLED"], "shown", 10)
        assert shown[0]["reason"].startswith("no sign of life since ")
        assert "KILLED since" in site.program.call("status").stdout
        site.write("epoch-2.pt")
        run = site.wait("RUNNING")
        assert wait_for(lambda: REASON not in site.run.data.tags, "no reason is left", 10)
        done = site.write(".done")
        run = site.wait("FINISHED")
        assert run.info.end_time == ms(done)
    assert len(site.runs()) == 1
    assert {b"model.pt", b"epoch-2.pt", b".done"} == set(
        site.oracle.files(run.info.run_id, site.program.base / "back").keys()
    )


HOLD = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("up", flush=True)
time.sleep(600)
"""


def test_a_job_that_only_computes_lives(site: Site) -> None:
    site.write("artifactd.toml", '[alive]\nlock = "train.lock"\n')
    command = [sys.executable, "-c", HOLD, str(site.folder / "train.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as job:
        try:
            assert job.stdout is not None
            assert job.stdout.readline() == b"up\n"
            with site.program.running():
                site.wait("RUNNING")
                quiet = time.time()

                def seen() -> bool:  # a sign, from when the files had been quiet for longer than is allowed
                    return any(r["since"] and moment(r["since"]) > quiet + 5 for r in site.program.status()["runs"])

                wait_for(seen, "the sign of life", 30)
                assert site.run.info.status == "RUNNING"
                job.kill()
                run = site.wait("KILLED")
                assert run.info.end_time / 1000 >= quiet + 5, "its last sign, not that of its files"
        finally:
            job.kill()


def moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def test_a_kill_as_a_run_is_given_up(site: Site) -> None:
    last = site.write("model.pt")
    with site.program.running(_ARTIFACTD_FAILPOINT="end_run.after:1") as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    site.write("late.pt")  # while nobody looked: alive, whatever the server was told
    ended = (site.folder / "late.pt").stat().st_ctime_ns // 1_000_000
    assert ended > ms(last)
    with site.program.running():
        wait_for(lambda: site.run.info.end_time == ended, "given up in its turn", 30)
        assert site.run.info.status == "KILLED"
    assert len(site.runs()) == 1


@pytest.mark.parametrize("step", ["reopen.between", "reopen.after"])
def test_a_kill_as_a_run_is_reopened(mlflow_server: MlflowServer, tmp_path: Path, step: str) -> None:
    site = Site(tmp_path, mlflow_server, "")
    site.write("a")
    failed = site.write(".failed", "boom")
    site.sync()
    assert site.run.info.status == "FAILED"
    failed.unlink()
    site.write("b")
    with site.program.running(_ARTIFACTD_FAILPOINT=f"{step}:1") as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    site.sync()
    assert site.run.info.status == "RUNNING"
    assert REASON not in site.run.data.tags
    site.write(".done")
    site.sync()
    assert site.run.info.status == "FINISHED"


def test_a_ledger_that_is_lost_reopens_what_has_changed_since_and_nothing_else(site: Site) -> None:
    site.write("model.pt")
    with site.program.running():
        ended = site.wait("KILLED").info.end_time
    shutil.rmtree(site.program.state)
    site.sync()
    assert (site.run.info.status, site.run.info.end_time) == ("KILLED", ended)
    site.write("more.pt")
    shutil.rmtree(site.program.state)
    site.program.config.write_text(site.program.config.read_text().replace('"3s"', '"1h"'))  # whatever a pass takes
    site.sync()
    assert site.run.info.status == "RUNNING"
    assert len(site.runs()) == 1


# -- nested runs -------------------------------------------------------------------------------------------------

SWEEP = 'layout = "{experiment}/{parent}/{run}"'


def nested(site: Site) -> tuple[Any, list[Any]]:
    runs = {r.info.run_name: r for r in site.runs()}
    assert len(runs) == len(site.runs()), f"one run each: {[r.info.run_name for r in site.runs()]}"
    parent = runs.pop("r")
    assert {r.data.tags["mlflow.parentRunId"] for r in runs.values()} == {parent.info.run_id}
    assert "mlflow.parentRunId" not in parent.data.tags
    return parent, list(runs.values())


def test_a_sweep_is_a_run_with_runs_in_it(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    site = Site(tmp_path, mlflow_server, SWEEP)
    for n in range(3):
        site.write(f"trial-{n}/model.pt", str(n))
        site.write(f"trial-{n}/.done")
    site.write("summary.json", "{}")
    site.sync()
    parent, children = nested(site)
    assert [r.info.status for r in (parent, *children)] == ["RUNNING"] + 3 * ["FINISHED"], "its own marker ends it"
    assert site.oracle.files(parent.info.run_id, tmp_path / "back") == {b"summary.json": b"{}"}
    listed = site.program.call("ls", str(site.folder / "trial-1")).stdout
    assert "model.pt" in listed
    assert "summary.json" not in listed
    said = site.program.call("explain", str(site.folder / "trial-1/model.pt")).stdout
    assert parent.info.run_id in said
    assert "parent run" in said
    made = site.program.call(
        "exec", "--config", str(site.program.config), "--dir", str(site.folder / "trial-3"), "--",
        sys.executable, "-c", "import os; print('id', os.environ['MLFLOW_RUN_ID'])",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    site.write(".done")
    site.sync()
    parent, children = nested(site)
    assert {r.info.status for r in (parent, *children)} == {"FINISHED"}
    assert made.stdout.split("id ")[1].strip() in {r.info.run_id for r in children}


@pytest.mark.parametrize("step", ["candidate.after:1", "create_run.after:1"])
def test_a_kill_as_a_sweep_begins_leaves_one_run_for_each_folder(
    mlflow_server: MlflowServer, tmp_path: Path, step: str
) -> None:
    site = Site(tmp_path, mlflow_server, SWEEP)
    for n in range(3):
        site.write(f"trial-{n}/model.pt", str(n))
    with site.program.running(_ARTIFACTD_FAILPOINT=step) as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    site.sync()
    assert len(nested(site)[1]) == 3


def test_trials_that_begin_together_have_one_parent(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    site = Site(tmp_path, mlflow_server, SWEEP)
    command = [sys.executable, "-m", "artifactd", "exec", "--config", str(site.program.config), "--dir"]
    trials = [
        subprocess.Popen(
            [*command, str(site.folder / f"trial-{n}"), "--", "true"],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for n in range(3)
    ]  # fmt: skip
    said = [trial.communicate(timeout=120)[0].decode() for trial in trials]
    assert [trial.returncode for trial in trials] == [0] * 3, said
    parent, children = nested(site)
    assert [r.info.status for r in children] == ["FINISHED"] * 3
    assert parent.info.status == "RUNNING"
