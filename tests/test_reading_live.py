"""What the reading rooms give, a real server takes, keeps and gives back."""

from __future__ import annotations

import io
import json
import math

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

from artifactd.reading.batches import Batch, batches
from artifactd.reading.bookmark import Bookmark, Held, missing, news
from artifactd.reading.dataset import read_shape
from artifactd.reading.metrics import read_metrics
from artifactd.reading.params import read_params, read_tags
from artifactd.reading.points import Point
from conftest import MlflowServer

pytestmark = pytest.mark.live

# Numbers that do not survive just any way, and keys that MLflow would refuse as they are.
METRICS = b"""\
step,timestamp,loss,metrics/mAP50(B),top@5,../a//b,gr\xc3\xb6\xc3\x9fe %
0,1700000000.5,0.1,nan,-0.0,5e-324,1.7976931348623157e308
0,1700000000.5,0.1,,inf,,3
1,1700000001,0.30000000000000004,-inf,1e-5,2,
-4,1700000002,9007199254740993,nan,nan,,
"""


def send(client: MlflowClient, run_id: str, batch: Batch) -> None:
    client.log_batch(
        run_id,
        [Metric(p.key, p.value, p.timestamp_ms or 0, p.step) for p in batch.metrics],
        [Param(*pair) for pair in batch.params],
        [RunTag(*pair) for pair in batch.tags],
    )


def points() -> list[Point]:
    return [point for row in read_metrics(io.BytesIO(METRICS), b"m.csv", ended=True) for point in row.points]


def history(client: MlflowClient, run_id: str) -> Held:
    keys = client.get_run(run_id).data.metrics
    return Held((m.key, m.step, m.value) for key in keys for m in client.get_metric_history(run_id, key))


@pytest.fixture
def client(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return MlflowClient(mlflow_server.uri)


def test_points_come_back_so_that_none_is_missing(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    told = news(points(), Bookmark())
    assert told is not None
    for batch in batches(told):
        send(client, run_id, batch)
    assert set(client.get_run(run_id).data.metrics) == {"loss", "metrics/mAP50B", "top_x40_5", "_x2E_./a_x2F_/b"} | {
        "größe _x25_"
    }
    # The server keeps two equal points of one time as one; all else it holds as often as the file does.
    lacking = list(missing(points(), history(client, run_id)))
    assert lacking == [Point("loss", 0.1, 0, 1_700_000_000_500)]
    assert math.isnan(client.get_metric_history(run_id, "metrics/mAP50B")[-1].value)


def test_a_crash_between_telling_and_remembering_tells_nothing_twice(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    file = [Point("loss", step / 7, step, 1_700_000_000_000 + step) for step in range(2500)]
    first, *_ = batches(news(file, Bookmark()) or [])
    send(client, run_id, first)
    # The bookmark was lost: the history says what is left.
    lacking = missing(file, history(client, run_id))
    for batch in batches(lacking):
        send(client, run_id, batch)
    held = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in sorted(held, key=lambda m: m.step)] == [(p.step, p.value) for p in file]
    again = news(file, lacking.bookmark)
    assert again is not None
    assert list(again) == []


def test_params_and_tags_come_back(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    long, wide = "v" * 6000, "🎉" * 6000
    data = {"a": {"b": [1, 2.5]}, "empty": "", "lines": "x\ny", "../k": 1, "long": long, "wide": wide, "none": None}
    data |= {f"p{index}": "é" * 6000 for index in range(30)} | {f"q{index}": index for index in range(230)}
    params = read_params(json.dumps(data, ensure_ascii=False).encode(), b"p.json")
    tags = read_tags(json.dumps({"team": "ö" * 8000, "mlflow.note.content": "# Hello"}).encode(), b"t.json")
    assert params.problems == tags.problems == ()
    for batch in batches((), params.entries, tags.entries):
        send(client, run_id, batch)
    run = client.get_run(run_id).data
    assert run.params == dict(params.entries)
    assert run.tags["team"] == "ö" * 8000
    assert run.tags["mlflow.note.content"] == "# Hello"


def test_a_datasets_shape_comes_back(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    shape = read_shape(io.BytesIO(b"a,b\n1,x\n2,y\n"), b"train.csv")
    client.log_inputs(run_id, [DatasetInput(Dataset("train", "d1", "local", "{}", shape.schema, shape.profile), [])])
    (found,) = client.get_run(run_id).inputs.dataset_inputs
    assert json.loads(found.dataset.profile) == {"num_rows": 2, "num_elements": 4}
    assert [column["name"] for column in json.loads(found.dataset.schema)["mlflow_colspec"]] == ["a", "b"]
