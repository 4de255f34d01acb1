"""Batches: MLflow's own checks take each, and together they are what was put in."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from mlflow.protos.service_pb2 import LogBatch
from mlflow.utils import validation
from mlflow.utils.proto_json_utils import message_to_json

from artifactd.reading import batches as module
from artifactd.reading.batches import Batch, batches
from artifactd.reading.points import Point

texts = st.builds(lambda text, times: text * times, st.sampled_from(["v", "é", "🎉", '"', "\n"]), st.integers(0, 6000))
pairs = st.builds(
    lambda values: [(f"k{index}", value) for index, value in enumerate(values)],
    st.lists(st.just("v"), max_size=250) | st.lists(texts, max_size=120),
)
points = st.builds(
    lambda key, count: [Point(key, -1.2345678901234567e-300, 2**63 - 1, 2**62)] * count,
    st.sampled_from(["k", "🎉" * 250]),
    st.integers(0, 2500),
)


def request(batch: Batch) -> LogBatch:
    return LogBatch(
        run_id="0" * 32,
        metrics=[Metric(p.key, p.value, p.timestamp_ms or 0, p.step).to_proto() for p in batch.metrics],
        params=[Param(*pair).to_proto() for pair in batch.params],
        tags=[RunTag(*pair).to_proto() for pair in batch.tags],
    )


@settings(max_examples=30, deadline=None)
@given(points, pairs, pairs)
def test_each_request_is_one_that_mlflow_takes(
    metrics: list[Point], params: list[tuple[str, str]], tags: list[tuple[str, str]]
) -> None:
    cut = list(batches(iter(metrics), params, tags))
    assert [point for batch in cut for point in batch.metrics] == metrics
    assert [pair for batch in cut for pair in batch.params] == params
    assert [pair for batch in cut for pair in batch.tags] == tags
    for batch in cut:
        assert batch != Batch()
        validation._validate_batch_log_limits(batch.metrics, batch.params, batch.tags)
        assert len(message_to_json(request(batch))) <= validation.MAX_BATCH_LOG_REQUEST_SIZE


def test_the_limits_are_those_of_the_mlflow_that_is_installed() -> None:
    assert module.MAX_METRICS == validation.MAX_METRICS_PER_BATCH
    assert module.MAX_PARAMS_OR_TAGS == validation.MAX_PARAMS_TAGS_PER_BATCH
    assert module.MAX_ENTITIES == validation.MAX_ENTITIES_PER_BATCH
    assert module.MAX_REQUEST_BYTES == validation.MAX_BATCH_LOG_REQUEST_SIZE


def test_batches_are_as_few_as_can_be() -> None:
    params = [(f"p{index}", "v") for index in range(250)]
    cut = list(batches([Point("a", 0.0, step) for step in range(2000)], params, params[:150]))
    assert [(len(batch.metrics), len(batch.params), len(batch.tags)) for batch in cut] == [
        (0, 100, 100),
        (0, 100, 50),
        (950, 50, 0),
        (1000, 0, 0),
        (50, 0, 0),
    ]


def test_no_point_is_taken_before_its_batch() -> None:
    taken = 0

    def counted() -> Iterator[Point]:
        nonlocal taken
        for step in range(2001):
            taken += 1
            yield Point("🎉" * 250 if step > 1000 else "a", 0.0, step)

    given_out = 0
    long = [(f"p{index}", "🎉" * 6000) for index in range(13)]
    for batch in batches(counted(), long):
        given_out += len(batch.metrics)
        assert taken == given_out
    assert given_out == 2001


def test_nothing_makes_no_batch() -> None:
    assert list(batches()) == []
