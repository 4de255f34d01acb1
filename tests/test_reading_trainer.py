"""The Trainer's files: named as its own callback names them, and each point once however many files repeat it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.reading import trainer
from artifactd.reading.known import RESULTS, STATE
from artifactd.reading.points import Point
from artifactd.reading.problems import Unreadable
from artifactd.reading.trainer import Logged, Record, lacking, read_trainer, steps_of

LOGGED = [
    {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 4e-05, "loss": 0.7, "step": 5},
    {"epoch": 1.0, "loss": 0.6, "step": 10},
    {"epoch": 1.0, "eval_loss": 0.65, "step": 10},
    {"epoch": 1.0, "step": 10, "train_loss": 0.65},
]


def state(history: Any, **more: Any) -> bytes:
    """As ``TrainerState.save_to_json`` writes it."""
    found = {"best_metric": None, "epoch": 1.0, "global_step": 10, "log_history": history, "max_steps": 10, **more}
    return (json.dumps(found, indent=2, sort_keys=True) + "\n").encode()


def told(*files: bytes, beside: bytes = b"") -> list[tuple[str, int, float]]:
    """What a run holds when it was told these, one after the other, with a state beside them on the disk."""
    held: list[tuple[str, int, float]] = []
    for data in files:
        role = STATE if b"log_history" in data else RESULTS
        read = read_trainer(data, role).records
        held += [(p.key, p.step, p.value) for p in lacking(read, list(held), steps_of(beside))]
    return held


CURVE = [
    *(("epoch", 5, 0.5), ("grad_norm", 5, 1.5), ("learning_rate", 5, 4e-05), ("loss", 5, 0.7)),
    *(("epoch", 10, 1.0), ("loss", 10, 0.6), ("eval_loss", 10, 0.65), ("train_loss", 10, 0.65)),
]


# -- reading ---------------------------------------------------------------------------------------------------------


def test_each_record_is_read_at_its_step_and_nothing_besides() -> None:
    read = read_trainer(state(LOGGED), STATE)
    assert [record.step for record in read.records] == [5, 10, 10, 10]
    assert read.records[0].values == {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 4e-05, "loss": 0.7}
    assert read.problems == ()
    assert read.keys == {"epoch", "grad_norm", "learning_rate", "loss", "eval_loss", "train_loss"}


def test_what_is_no_number_says_nothing() -> None:
    record = {"step": 1, "ok": True, "text": "1.0", "none": None, "list": [1.0], "nested": {"x": 1}, "n": 2}
    assert read_trainer(state([record, "x", 3]), STATE).records == (Record(1, {"n": 2.0}),)
    assert read_trainer(state([]), STATE) == Logged(), "a checkpoint before anything was logged"


def test_numbers_are_as_json_has_them() -> None:
    (record,) = read_trainer(state([{"step": 1, "nan": math.nan, "inf": -math.inf, "tiny": 5e-324}]), STATE).records
    assert math.isnan(record.values["nan"])
    assert (record.values["inf"], record.values["tiny"]) == (-math.inf, 5e-324)


def test_keys_are_those_of_the_callback() -> None:
    """The job may log to the same run by it, and must not find its points there twice."""
    record = {"step": 1, "eval_f1(macro)": 1, "eval_top@5": 2, "größe": 3, "eval/a b-c.d": 4, "a:b": 5}
    (read,) = read_trainer(state([record]), STATE).records
    assert read.values == {"eval_f1_macro_": 1, "eval_top_5": 2, "gr__e": 3, "eval/a b-c.d": 4, "a:b": 5}


def test_what_mlflow_would_refuse_is_named_once() -> None:
    read = read_trainer(state([{"step": n, "k" * 251: 1, "big": 10**400, "ok": n} for n in range(3)]), STATE)
    assert [record.values for record in read.records] == [{"ok": 0.0}, {"ok": 1.0}, {"ok": 2.0}]
    assert sorted(problem.reason for problem in read.problems) == [
        "its name has 251 characters; MLflow takes 250", "its number is beyond what MLflow can hold"
    ]  # fmt: skip


def test_results_are_one_record_without_a_step() -> None:
    text = json.dumps({"epoch": 3.0, "eval_loss": 0.5, "eval": {"a": 1}, "eval_ok": True}, indent=4).encode()
    (record,) = read_trainer(text, RESULTS).records
    assert record == Record(None, {"epoch": 3.0, "eval_loss": 0.5, "eval.a": 1.0})
    assert read_trainer(b'{"eval_loss": 1}', RESULTS).keys == {"epoch", "eval_loss"}, "where its step stands"
    assert read_trainer(b'{"step": 7, "x": 1}', RESULTS).records == (Record(7, {"x": 1.0}),)


@pytest.mark.parametrize("role", [STATE, RESULTS])
def test_a_file_that_a_killed_training_left_says_nothing(role: str) -> None:
    whole = state(LOGGED)
    assert read_trainer(b"", role) == Logged()
    assert read_trainer(whole[:-40], role) == Logged()


@pytest.mark.parametrize(
    ("data", "role", "reason"),
    [
        (b"no json", STATE, "not JSON"),
        (b"\x80\x02", STATE, "not UTF-8"),
        (b"[1]", STATE, "it is no JSON object"),
        (b'{"epoch": 1}', STATE, "it has no log_history"),
        (b"{}", RESULTS, "it holds no number"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, RESULTS, "nested too deeply"),
    ],
)
def test_what_is_no_such_file_is_named(data: bytes, role: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read_trainer(data, role)


def test_a_file_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(Unreadable, match="it is longer than"):
        read_trainer(b"[" * 101, STATE)


# -- what a run lacks ------------------------------------------------------------------------------------------------


def test_states_repeat_one_another_and_each_point_is_told_once() -> None:
    assert told(state(LOGGED)) == CURVE
    assert told(state(LOGGED[:1]), state(LOGGED[:2]), state(LOGGED), state(LOGGED)) == CURVE
    assert sorted(told(state(LOGGED), state(LOGGED[:1]))) == sorted(CURVE), "a later one may come first"


def test_a_step_that_was_trained_again_has_both_values() -> None:
    again = [*LOGGED[:1], {"epoch": 1.0, "loss": 0.61, "step": 10}]
    assert [p for p in told(state(LOGGED), state(again)) if p[:2] == ("loss", 10)] == [
        ("loss", 10, 0.6), ("loss", 10, 0.61)
    ]  # fmt: skip


def test_results_that_the_run_has_at_any_step_are_not_told() -> None:
    results = json.dumps({"epoch": 1.0, "train_loss": 0.65, "grad_norm": 1.5}).encode()
    assert told(state(LOGGED), results) == CURVE


def test_results_that_it_lacks_come_at_the_step_of_their_epoch() -> None:
    """As the callback would have logged them: the final evaluation is in no state that was saved before it."""
    final = {"epoch": 1.0, "eval_loss": 0.55, "train_samples": 64}
    expected = [*CURVE, ("eval_loss", 10, 0.55), ("train_samples", 10, 64.0)]
    assert told(state(LOGGED), json.dumps(final).encode()) == expected
    later = state([*LOGGED, {"epoch": 1.0, "eval_loss": 0.55, "step": 10}])
    assert told(state(LOGGED), json.dumps(final).encode(), later) == expected, "and a state that has it tells nothing"


def test_results_find_their_steps_in_a_state_that_is_not_told_yet() -> None:
    """Scripts write them, and the state after them; a service that starts finds both."""
    final = json.dumps({"epoch": 1.5, "train_loss": 0.65, "eval_loss": 0.55, "train_samples": 64}).encode()
    saved = state(LOGGED, epoch=1.5, global_step=15)
    first = told(final, saved, beside=saved)
    assert sorted(first) == sorted([*CURVE, *((k, 15, v) for k, v in MORE.items())])
    assert sorted(told(saved, final, beside=saved)) == sorted(first), "whichever is told first"


MORE = {"epoch": 1.5, "eval_loss": 0.55, "train_samples": 64.0}


@pytest.mark.parametrize("data", [b"", b"no json", b"{}", b"[]", state([{"step": 1}])[:-30]])
def test_what_is_no_state_knows_no_steps(data: bytes) -> None:
    assert steps_of(data) == ()


def test_a_state_knows_when_it_was_saved() -> None:
    """The Trainer saves a checkpoint at its end, though it may not have logged at that step."""
    assert steps_of(state([], epoch=2.5, global_step=1200)) == (Record(1200, {"epoch": 2.5}),)
    assert told(b'{"epoch": 2.5, "eval_loss": 0.5}', beside=state([], epoch=2.5, global_step=1200)) == [
        ("epoch", 1200, 2.5), ("eval_loss", 1200, 0.5)
    ]  # fmt: skip


def test_results_of_a_run_without_a_curve_are_told_at_step_0() -> None:
    assert told(b'{"eval_loss": 0.5, "epoch": 2.0}') == [("eval_loss", 0, 0.5), ("epoch", 0, 2.0)]


numbers = st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, 1.0])
records = st.lists(
    st.builds(Record, st.integers(0, 5), st.dictionaries(st.sampled_from(["epoch", "loss", "x"]), numbers)), max_size=12
)


@given(records, st.lists(st.integers(0, 12), max_size=5))
def test_whatever_the_states_and_their_order_each_point_is_told_once(history: list[Record], cuts: list[int]) -> None:
    held: list[Point] = []
    for cut in [*cuts, len(history)]:
        # As a SQL store gives them back.
        given_back = [(p.key, p.step, p.value + 0.0) for p in held]
        held += lacking(history[:cut], given_back)
    seen = [(p.key, p.step, repr(p.value + 0.0)) for p in held]
    assert len(seen) == len(set(seen))
    assert set(seen) == {(k, r.step, repr(v + 0.0)) for r in history for k, v in r.values.items()}
