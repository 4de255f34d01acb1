"""Files that say something: the run is told params, metrics, tags and datasets, once, whatever restarts."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import MlflowServer
from support import Oracle, Program, wait_for

pytestmark = pytest.mark.live

ROUTES = """
[[watch.route]]
match = "params.*"
kind = "params"
[[watch.route]]
match = "metrics*"
kind = "metrics"
[[watch.route]]
match = "tags.*"
kind = "tags"
[[watch.route]]
match = "data/*.csv"
kind = "dataset"
context = "training"
"""


class Site:
    def __init__(self, base: Path, server: MlflowServer) -> None:
        self.program = Program(base, tracking_uri=server.uri, watch=ROUTES)
        self.experiment = base.name
        self.folder = self.program.drop / base.name / "r"
        self.folder.mkdir(parents=True)
        self.oracle = Oracle(server.uri)

    def write(self, name: str, text: str) -> None:
        """As a careful program does: whole, by a rename."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.with_name(f".tmp{path.name}").write_text(text)
        os.replace(path.with_name(f".tmp{path.name}"), path)

    @property
    def run(self) -> Any:
        return self.oracle.run(self.experiment, "r")

    def points(self, key: str) -> Counter[tuple[int, float]]:
        runs = self.oracle.runs(self.experiment)
        history = self.oracle.client.get_metric_history(runs[0].info.run_id, key) if runs else []
        return Counter((m.step, m.value) for m in history)


@pytest.fixture
def site(mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    return Site(tmp_path, mlflow_server)


def test_a_job_that_only_writes_files_gets_what_one_gets_that_calls_mlflow(site: Site) -> None:
    site.write("params.yaml", "lr: 0.1\nmodel:\n  depth: 3\n")
    site.write("tags.json", '{"team": "vision"}')
    site.write("data/train.csv", "x,y\n1,a\n2,b\n")
    site.write("metrics.csv", "step,loss\n0,1.0\n1,0.5\n")
    site.write(".done", "")
    with site.program.running():
        site.program.wait_idle()
        wait_for(lambda: site.run.info.status == "FINISHED", "the run is over", 30)
    run = site.run
    assert run.data.params == {"lr": "0.1", "model.depth": "3"}
    assert run.data.tags["team"] == "vision"
    assert site.points("loss") == Counter({(0, 1.0): 1, (1, 0.5): 1})
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "data/train.csv"
    assert {t.value for t in dataset.tags} == {"training"}
    stored = {a.path for a in site.oracle.client.list_artifacts(run.info.run_id)}
    assert {"params.yaml", "tags.json", "metrics.csv", "data"} <= stored, "and each is an artifact as well"
    assert site.program.call("verify", run.info.run_id).returncode == 0
    assert "to its run, as params" in site.program.call("explain", str(site.folder / "params.yaml")).stdout


def test_lines_count_while_the_file_still_grows(site: Site) -> None:
    with site.program.running(), (site.folder / "metrics.jsonl").open("w", buffering=1) as metrics:
        for step in range(3):
            metrics.write(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\n")
        wait_for(lambda: len(site.points("loss")) == 3, "the first lines", 40)
        for step in range(3, 6):
            metrics.write(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\n")
        wait_for(lambda: len(site.points("loss")) == 6, "the lines that came while the file was open", 40)
        metrics.write(json.dumps({"step": 6, "loss": 0.1}) + "\n")
        site.write(".done", "")
        metrics.close()
        wait_for(lambda: len(site.points("loss")) == 7, "the last line", 40)
    assert set(site.points("loss").values()) == {1}


def test_a_changed_param_is_a_failure_with_its_reason_and_the_file_is_stored(site: Site, tmp_path: Path) -> None:
    with site.program.running():
        site.write("params.json", '{"lr": 0.1}')
        site.program.wait_idle()
        site.write("params.json", '{"lr": 0.2, "batch": 8}')
        (failure,) = wait_for(lambda: site.program.status()["failures"], "the failure", 30)
    assert "'lr': the run has another value already" in failure["error"]
    run = site.run
    assert run.data.params == {"lr": "0.1", "batch": "8"}
    copy = site.oracle.client.download_artifacts(run.info.run_id, "params.json", str(tmp_path))
    assert Path(copy).read_text() == '{"lr": 0.2, "batch": 8}'
    said = site.program.call("explain", str(site.folder / "params.json")).stdout
    assert "another value" in said
    site.write("params.json", '{"lr": 0.1, "batch": 8}')
    with site.program.running():
        wait_for(lambda: not site.program.status()["failures"], "mended", 30)


@pytest.mark.parametrize("step", ["tell.before", "tell.after", "tell.between", "upload.after", "verify.after"])
def test_a_kill_at_each_step_leaves_each_thing_told_once(site: Site, step: str) -> None:
    rows = "".join(json.dumps({"step": n, "loss": n / 7}) + "\n" for n in range(2500))  # three requests
    site.write("metrics.jsonl", rows)
    site.write("params.json", '{"lr": 0.1}')
    site.write("data/train.csv", "x,y\n1,a\n")
    site.write(".done", "")
    with site.program.running(_ARTIFACTD_FAILPOINT=f"{step}:1") as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    with site.program.running():
        site.program.wait_idle()
    assert site.points("loss") == Counter({(n, n / 7): 1 for n in range(2500)})
    run = site.run
    assert run.data.params == {"lr": "0.1"}
    assert len(run.inputs.dataset_inputs) == 1


def test_a_ledger_that_is_lost_tells_nothing_twice(site: Site) -> None:
    site.write("metrics.csv", "step,loss\n0,1.0\n1,0.5\n")
    site.write("data/train.csv", "x,y\n1,a\n")
    site.write(".done", "")
    with site.program.running():
        site.program.wait_idle()
    (site.program.state / "ledger.db").unlink()
    with site.program.running():
        site.program.wait_idle()
    assert set(site.points("loss").values()) == {1}
    assert len(site.run.inputs.dataset_inputs) == 1


def test_a_kind_that_is_configured_later_tells_of_what_is_stored_and_sends_nothing(site: Site) -> None:
    config = site.program.config.read_text()
    site.program.config.write_text(config.replace(ROUTES, ""))
    site.write("params.json", '{"lr": 0.1}')
    with site.program.running():
        before = site.program.wait_idle()
    assert site.run.data.params == {}
    site.program.config.write_text(config)
    with site.program.running():
        wait_for(lambda: site.run.data.params == {"lr": "0.1"}, "told", 30)
        after = site.program.wait_idle()
    assert after["bytes_sent"] == before["bytes_sent"]
