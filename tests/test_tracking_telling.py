"""What a run is told of a file: once, whatever was told before, and what it refuses is named while the rest is told."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from artifactd import failpoint
from artifactd.errors import Kind, Scope
from artifactd.reading.known import RESULTS, STATE
from artifactd.tracking import runs, server
from artifactd.tracking.telling import Subject, tell
from artifactd.tracking.told import Told, is_told

CONTEXT = "mlflow.data.context"


class Desk:
    """One run in an embedded store, and what it is told."""

    def __init__(self, base: Path) -> None:
        self.uri = f"sqlite:///{base}/mlflow.db"
        self.client: Any = server.connect(self.uri, embedded_artifacts=base / "artifacts")
        self.info = self.new_run("k")

    def new_run(self, key: str) -> runs.RunInfo:
        return runs.prepare_run(self.client, runs.RunSpec(key * 40, None, "e", None, "r"), self.uri)

    def tell(
        self, role: str, name: str, text: str, mark: bytes | None = None, *, doubt: bool = False, ended: bool = True,
        moment: float = 1000.0,
    ) -> Told:  # fmt: skip
        content = text.encode()
        digest = hashlib.sha256(content).digest()
        subject = Subject(
            role, name.encode(), f"sub/{name}", digest, len(content), moment, ended=ended, mark=mark, doubt=doubt
        )
        return tell(self.client, self.info, subject, io.BytesIO(content), self.uri)

    def points(self, key: str) -> list[tuple[int, float, int]]:
        return sorted((m.step, m.value, m.timestamp) for m in self.client.get_metric_history(self.info.run_id, key))

    @property
    def run(self) -> Any:
        return self.client.get_run(self.info.run_id)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def desk(shared: Desk, request: pytest.FixtureRequest) -> Desk:
    shared.info = shared.new_run(hashlib.sha256(request.node.name.encode()).hexdigest()[:1] + request.node.name[-20:])
    return shared


def test_params_are_told_once(desk: Desk) -> None:
    text = "lr: 0.1\nmodel:\n  layers: [64, 32]\n"
    told = desk.tell("params", "hparams.yaml", text)
    assert told.failure is None
    assert is_told(told.mark, hashlib.sha256(text.encode()).digest())
    assert desk.run.data.params == {"lr": "0.1", "model.layers": "[64, 32]"}
    assert desk.tell("params", "hparams.yaml", text).failure is None, "and again, as after a crash"


def test_a_param_that_the_run_has_with_another_value_is_named_and_the_rest_is_told(desk: Desk) -> None:
    desk.tell("params", "a.json", '{"lr": 0.1}')
    told = desk.tell("params", "a.json", '{"lr": 0.2, "batch": 8}')
    assert desk.run.data.params == {"lr": "0.1", "batch": "8"}
    assert told.failure is not None
    assert (told.failure.kind, told.failure.scope) == (Kind.PERMANENT, Scope.FILE)
    assert "'lr': the run has another value already" in told.failure.error
    assert "stored" in told.failure.cure
    assert not is_told(told.mark, hashlib.sha256(b'{"lr": 0.2, "batch": 8}').digest()), "a retry looks again"


def test_more_params_than_a_request_takes(desk: Desk) -> None:
    assert desk.tell("params", "many.json", json.dumps({f"p{n}": n for n in range(250)})).failure is None
    assert len(desk.run.data.params) == 250


def test_tags_change_and_those_of_mlflow_are_left_alone(desk: Desk) -> None:
    desk.tell("tags", "tags.env", "team=vision\n")
    told = desk.tell("tags", "tags.env", "team=audio\nmlflow.runName=mine\n")
    assert desk.run.data.tags["team"] == "audio"
    assert desk.run.info.run_name == "r"
    assert told.failure is not None
    assert "mlflow.runName" in told.failure.error


def test_a_growing_metrics_file_counts_each_line_once(desk: Desk) -> None:
    lines = ["step,loss", "0,1.0", "1,0.5"]
    first = desk.tell("metrics", "m.csv", "\n".join(lines) + "\n", ended=False)
    second = desk.tell("metrics", "m.csv", "\n".join([*lines, "2,0.25"]) + "\n", first.mark, ended=False, moment=2000)
    assert desk.points("loss") == [(0, 1.0, 10**6), (1, 0.5, 10**6), (2, 0.25, 2 * 10**6)]
    third = desk.tell("metrics", "m.csv", "\n".join([*lines, "2,0.25"]) + "\n", second.mark, doubt=True, moment=3000)
    assert third.failure is None
    assert len(desk.points("loss")) == 3, "what was told without a receipt is asked for, and not told again"


def test_a_metrics_file_that_is_rewritten_with_a_further_column(desk: Desk) -> None:
    first = desk.tell("metrics", "metrics.csv", "epoch,step,loss\n0,9,1.0\n0,19,0.5\n", ended=False)
    wider = "epoch,step,loss,val\n0,9,1.0,\n0,19,0.5,\n0,19,,0.7\n"
    assert desk.tell("metrics", "metrics.csv", wider, first.mark).failure is None
    assert [p[:2] for p in desk.points("loss")] == [(9, 1.0), (19, 0.5)]
    assert [p[:2] for p in desk.points("val")] == [(19, 0.7)]


def test_a_metrics_file_that_is_rewritten_from_scratch_adds_what_the_server_lacks(desk: Desk) -> None:
    first = desk.tell("metrics", "m.jsonl", '{"step": 0, "loss": 1}\n{"step": 1, "loss": 2}\n')
    desk.tell("metrics", "m.jsonl", '{"step": 1, "loss": 2}\n{"step": 2, "loss": 3}\n', first.mark)
    assert [p[:2] for p in desk.points("loss")] == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_the_ledger_may_be_lost(desk: Desk) -> None:
    text = "".join(f'{{"step": {n}, "loss": {n}}}\n' for n in range(2500))
    desk.tell("metrics", "m.jsonl", text)
    desk.tell("metrics", "m.jsonl", text, None, doubt=True, moment=5)
    assert len(desk.points("loss")) == 2500


def test_times_in_the_file_are_kept(desk: Desk) -> None:
    desk.tell("metrics", "m.jsonl", '{"step": 3, "loss": 1, "timestamp": 1700000000.5}\n')
    assert desk.points("loss") == [(3, 1.0, 1700000000500)]


def test_a_file_without_a_number_is_named(desk: Desk) -> None:
    told = desk.tell("metrics", "m.csv", "a,b\nx,y\n")
    assert told.failure is not None
    assert "no number" in told.failure.error


def test_a_dataset_is_an_input_once(desk: Desk) -> None:
    text = "x,y\n1,a\n2,b\n"
    for _ in range(2):
        assert desk.tell("dataset:training", "train.csv", text).failure is None
    (found,) = desk.run.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == (
        "sub/train.csv", hashlib.sha256(text.encode()).hexdigest()[:36]
    )  # fmt: skip
    assert {t.key: t.value for t in found.tags} == {CONTEXT: "training"}
    assert json.loads(found.dataset.profile)["num_rows"] == 2
    assert [c["name"] for c in json.loads(found.dataset.schema)["mlflow_colspec"]] == ["x", "y"]
    assert json.loads(found.dataset.source)["uri"].endswith(f"{desk.info.run_id}/artifacts/sub/train.csv")
    desk.tell("dataset:training", "train.csv", "x,y\n3,c\n")
    assert len(desk.run.inputs.dataset_inputs) == 2, "another content is another dataset"


def test_a_dataset_that_changed_meanwhile_is_not_told(desk: Desk) -> None:
    subject = Subject("dataset", b"a.csv", "a.csv", b"d" * 32, 4, 1.0, ended=True, unchanged=lambda: False)
    assert tell(desk.client, desk.info, subject, io.BytesIO(b"a,b\n"), desk.uri) == Told()
    assert desk.run.inputs.dataset_inputs == []


def test_a_server_that_is_down_is_the_targets_trouble(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from mlflow import MlflowClient

    client: Any = MlflowClient("http://127.0.0.1:9", registry_uri="http://127.0.0.1:9")
    subject = Subject("params", b"p.json", "p.json", b"d" * 32, 8, 1.0, ended=True)
    told = tell(client, desk.info, subject, io.BytesIO(b'{"a": 1}'), "http://127.0.0.1:9")
    assert told.failure is not None
    assert (told.failure.kind, told.failure.scope) == (Kind.TRANSIENT, Scope.TARGET)


# -- files that repeat one another -------------------------------------------------------------------------------------


def state(steps: int) -> str:
    return json.dumps({"log_history": [{"step": n, "epoch": n / 7, "loss": 1 / (n + 3)} for n in range(steps)]})


def test_checkpoints_and_results_tell_each_point_once(desk: Desk) -> None:
    curve = [(n, 1 / (n + 3)) for n in range(6)]
    for checkpoint, steps in enumerate((2, 4, 6, 3)):
        told = desk.tell(STATE, "trainer_state.json", state(steps), moment=1000.0 + checkpoint)
        assert told == Told(hashlib.sha256(state(steps).encode()).digest())
    assert [p[:2] for p in desk.points("loss")] == curve
    assert [p[2] for p in desk.points("loss")] == [1000000] * 2 + [1001000] * 2 + [1002000] * 2
    results = json.dumps({"epoch": 5 / 7, "loss": 1 / 8, "eval_loss": 0.25})
    assert desk.tell(RESULTS, "eval_results.json", results, moment=2000).failure is None
    assert [p[:2] for p in desk.points("loss")] == curve
    assert desk.points("eval_loss") == [(5, 0.25, 2000000)]
    assert [p[:2] for p in desk.points("epoch")] == [(n, n / 7) for n in range(6)]


def test_what_the_job_has_logged_itself_is_not_told_again(desk: Desk) -> None:
    """As transformers' MLflowCallback does, to the same run."""
    from mlflow.entities import Metric

    for n in range(3):
        metrics = [Metric("loss", 1 / (n + 3), 77 + n, n), Metric("epoch", n / 7, 77 + n, n)]
        desk.client.log_batch(desk.info.run_id, metrics=metrics)
    assert desk.tell(STATE, "trainer_state.json", state(4)).failure is None
    assert desk.points("loss") == [(0, 1 / 3, 77), (1, 1 / 4, 78), (2, 1 / 5, 79), (3, 1 / 6, 1000000)]


def test_a_telling_that_was_cut_short_is_finished_by_the_next_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 metrics go in a request; the process ends between two."""

    class CutError(BaseException):
        pass

    def cut(name: str) -> None:
        if name == "tell.between":
            raise CutError

    monkeypatch.setattr(failpoint, "reach", cut)
    with pytest.raises(CutError):
        desk.tell(STATE, "trainer_state.json", state(1200), moment=1)
    assert len(desk.points("loss")) == 500
    monkeypatch.undo()
    assert desk.tell(STATE, "trainer_state.json", state(1300), moment=2).failure is None
    assert [p[:2] for p in desk.points("loss")] == [(n, 1 / (n + 3)) for n in range(1300)]


def test_a_state_that_cannot_be_read_is_named_once_it_is_at_rest(desk: Desk) -> None:
    assert desk.tell(STATE, "trainer_state.json", "no json {", ended=False).failure is None
    told = desk.tell(STATE, "trainer_state.json", "no json {")
    assert told.failure is not None
    assert "not all of its metrics could be told: line 1: not JSON" in told.failure.error
