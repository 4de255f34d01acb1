"""What many files of one training repeat is told once: whoever tells it, in whatever order, and over kills."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from conftest import MlflowServer
from presets.replay import FINAL, MARKER, SUMMARY, results, trainer_state
from support import Oracle, Program, wait_for

pytestmark = pytest.mark.live

CHECKPOINTS = 20
EACH = 40
"""Records that are logged between two checkpoints."""


class Training:
    """A run folder as transformers' Trainer leaves it, and what its run was told."""

    def __init__(self, base: Path, server: MlflowServer) -> None:
        self.program = Program(
            base, tracking_uri=server.uri, watch='preset = "huggingface"', more="[upload]\nworkers = 4\n"
        )
        self.experiment = base.name
        self.folder = self.program.drop / base.name / "r"
        self.oracle = Oracle(server.uri)

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def checkpoint(self, records: int) -> None:
        self.write(f"checkpoint-{records}/model.safetensors", bytes(1000))
        self.write(f"checkpoint-{records}/{MARKER}", trainer_state(records))

    def points(self, key: str) -> Counter[tuple[int, float]]:
        run = self.oracle.run(self.experiment, "r")
        return Counter((m.step, m.value) for m in self.oracle.client.get_metric_history(run.info.run_id, key))

    def told(self) -> Counter[tuple[str, int, float]]:
        """Each point of the run, as often as it is there."""
        keys = self.oracle.run(self.experiment, "r").data.metrics
        return Counter((key, *point) for key in keys for point in self.points(key).elements())

    def ends(self) -> None:
        """The service that runs delivers all of it."""
        wait_for(
            lambda: self.oracle.run(self.experiment, "r").info.status == "FINISHED",
            f"the run is over; log:\n{self.program.text()[-3000:]}", 90,
        )  # fmt: skip


def once(*records: dict[str, float]) -> Counter[tuple[str, int, float]]:
    return Counter({(key, int(r["step"]), value) for r in records for key, value in r.items() if key != "step"})


def history(content: bytes) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads(content)["log_history"]
    return found


@pytest.fixture
def training(mlflow_server: MlflowServer, tmp_path: Path) -> Training:
    return Training(tmp_path, mlflow_server)


def test_workers_that_catch_up_on_many_checkpoints_tell_each_point_once(training: Training) -> None:
    for number in range(1, CHECKPOINTS + 1):
        training.checkpoint(number * EACH)
    last = CHECKPOINTS * EACH
    final = {**SUMMARY, "epoch": last / 2, "step": last}
    training.write("train_results.json", results(final))
    training.write(MARKER, trainer_state(last, final))
    training.write("eval_results.json", results({**FINAL, "epoch": last / 2}))
    training.write(".done", b"")
    with training.program.running():
        wait_for(lambda: training.oracle.runs(training.experiment), "the run", 60)
        training.ends()
    evaluated = {**FINAL, "epoch": last / 2, "step": last}
    assert training.told() == once(*history(trainer_state(last, final)), evaluated)
    told = [e for e in training.program.events() if e["event"] == "stored" and e["artifact_path"].endswith(MARKER)]
    assert len(told) == CHECKPOINTS + 1
    said = training.program.call("explain", str(training.folder / MARKER)).stdout
    assert "to its run, as metrics," in said
    assert "preset huggingface: route **/trainer_state.json as metrics" in said


@pytest.mark.parametrize("step", ["tell.before:2", "tell.between:1", "tell.after:1"])
def test_a_kill_at_each_step_of_a_telling_leaves_each_point_told_once(training: Training, step: str) -> None:
    for records in (300, 600):  # of some 1,500 and 3,000 points: several requests
        training.checkpoint(records)
    training.write("train_results.json", results({**SUMMARY, "epoch": 300.0}))
    training.write(".done", b"")
    with training.program.running(_ARTIFACTD_FAILPOINT=step) as killed:
        assert killed.wait(60) == -signal.SIGKILL, training.program.text()[-2000:]
    with training.program.running():
        training.ends()
    assert training.told() == once(*history(trainer_state(600)), {**SUMMARY, "epoch": 300.0, "step": 600})


def test_what_was_told_as_plain_metrics_before_is_not_told_again(training: Training) -> None:
    """As by a version that knew of results alone, and took their epoch for their step."""
    config = training.program.config.read_text()
    route = '[[watch.route]]\nmatch = "*_results.json"\nkind = "metrics"\n'
    training.program.config.write_text(config + route)
    training.checkpoint(4)
    training.write("eval_results.json", results(FINAL))
    with training.program.running():
        wait_for(lambda: training.oracle.runs(training.experiment), "the run", 60)
        wait_for(lambda: training.points("eval_loss")[(3, FINAL["eval_loss"])], "told at its epoch", 30)
    training.program.config.write_text(config)
    training.write(".done", b"")
    with training.program.running():
        training.ends()
    assert training.points("eval_loss") == Counter({(2, 1 / 4): 1, (4, 1 / 6): 1, (3, FINAL["eval_loss"]): 1})
