"""Metrics: what frameworks really write becomes points, what is torn waits, what is broken is named."""

from __future__ import annotations

import csv
import io
import json
import math
import string
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric

from artifactd.reading.metrics import read_metrics
from artifactd.reading.moments import moment_of, step_of
from artifactd.reading.points import Point, Row
from artifactd.reading.problems import Unreadable

# As Lightning 2.6's CSVLogger writes it: an epoch's values stand in a row of their own.
LIGHTNING = b"""\
epoch,lr-SGD,step,train_loss,val_loss
,0.1,0,,
0,,9,0.52,
0,,9,,0.61
,0.01,10,,
1,,19,nan,
1,,19,,inf
"""
# Older Ultralytics pads the header; newer ones have the time since the start.
ULTRALYTICS_OLD = b"""\
                  epoch,         train/box_loss,      metrics/mAP50(B),   metrics/mAP50-95(B)
                      0,                 1.0411,               0.61218,               0.37404
                      1,                0.98912,               0.64771,               0.40112
"""
ULTRALYTICS_NEW = b"""\
epoch,time,train/box_loss,metrics/mAP50(B),lr/pg0
1,12.3456,1.0411,0.61218,0.0001
2,24.1,0.98912,0.64771,9e-05
"""
KERAS = b"epoch,accuracy,loss,val_loss\n0,0.5,0.9,NA\n1,0.6,0.8,0.7\n"
TRAINER_STATE = {
    "best_metric": None,
    "epoch": 2.0,
    "global_step": 20,
    "is_world_process_zero": True,
    "log_history": [
        {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 4e-05, "loss": 0.7, "step": 5},
        {"epoch": 1.0, "eval_loss": 0.6, "eval_runtime": 0.1, "step": 10},
        {"epoch": 2.0, "step": 20, "total_flos": 123456789.0, "train_loss": 0.5},
    ],
    "max_steps": 20,
}


def rows(text: bytes, name: bytes, *, ended: bool = True) -> list[Row]:
    return list(read_metrics(io.BytesIO(text), name, ended=ended))


def points(text: bytes, name: bytes, *, ended: bool = True) -> list[tuple[str, float, int]]:
    read = rows(text, name, ended=ended)
    assert [row.problems for row in read if row.problems] == []
    return [(point.key, point.value, point.step) for row in read for point in row.points]


def problems(text: bytes, name: bytes, *, ended: bool = True) -> list[str]:
    return [str(problem) for row in rows(text, name, ended=ended) for problem in row.problems]


def test_lightnings_metrics() -> None:
    read = points(LIGHTNING, b"metrics.csv")
    assert read[:6] == [
        ("lr-SGD", 0.1, 0),
        ("epoch", 0.0, 9),
        ("train_loss", 0.52, 9),
        ("epoch", 0.0, 9),
        ("val_loss", 0.61, 9),
        ("lr-SGD", 0.01, 10),
    ]
    assert math.isnan(read[7][1])
    assert read[9] == ("val_loss", math.inf, 19)


def test_ultralytics_results() -> None:
    assert points(ULTRALYTICS_OLD, b"results.csv")[:3] == [
        ("metrics/mAP50-95B", 0.37404, 0),
        ("metrics/mAP50B", 0.61218, 0),
        ("train/box_loss", 1.0411, 0),
    ]
    read = rows(ULTRALYTICS_NEW, b"results.csv")[1].points
    assert [(point.key, point.value, point.step, point.timestamp_ms) for point in read] == [
        ("lr/pg0", 9e-05, 2, None),
        ("metrics/mAP50B", 0.64771, 2, None),
        ("time", 24.1, 2, None),
        ("train/box_loss", 0.98912, 2, None),
    ]


def test_keras_training_log() -> None:
    assert points(KERAS, b"training.csv") == [
        ("accuracy", 0.5, 0),
        ("loss", 0.9, 0),
        ("accuracy", 0.6, 1),
        ("loss", 0.8, 1),
        ("val_loss", 0.7, 1),
    ]
    assert rows(b"", b"training.csv") == []


@pytest.mark.parametrize("text", [json.dumps(TRAINER_STATE, indent=2), json.dumps(TRAINER_STATE)])
def test_trainer_state_tells_its_history(text: str) -> None:
    assert points(text.encode(), b"trainer_state.json") == [
        ("epoch", 0.5, 5),
        ("grad_norm", 1.5, 5),
        ("learning_rate", 4e-05, 5),
        ("loss", 0.7, 5),
        ("epoch", 1.0, 10),
        ("eval_loss", 0.6, 10),
        ("eval_runtime", 0.1, 10),
        ("epoch", 2.0, 20),
        ("total_flos", 123456789.0, 20),
        ("train_loss", 0.5, 20),
    ]


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("ended", [True, False])
def test_one_object(indent: int | None, ended: bool) -> None:
    text = json.dumps({"epoch": 3.0, "eval": {"acc": 0.9, "ok": True}, "name": "x", "n": [1], "s": "4"}, indent=indent)
    assert points(text.encode(), b"all_results.json", ended=ended) == [("eval.acc", 0.9, 3), ("eval.ok", 1.0, 3)]


def test_the_step_is_the_most_specific_one_and_a_broken_one_counts_whole() -> None:
    lines = b"""\
{"epoch": 1, "step": 7, "global_step": 70, "a": 1}
{"Epoch": 2.5, "a": 2}
{"a": 3}
{"step": "x", "epoch": 4, "a": 4}
"""
    assert points(lines, b"m.jsonl") == [
        ("a", 1.0, 70),
        ("epoch", 1.0, 70),
        ("step", 7.0, 70),
        ("Epoch", 2.5, 2),
        ("a", 2.0, 2),
        ("a", 3.0, 2),
        ("a", 4.0, 4),
    ]
    assert points(b"iter,epoch,a\n5,0.5,1\n", b"m.csv") == [("a", 1.0, 5), ("epoch", 0.5, 5)]
    assert points(b"epoch,a,z\n1.5,1,2\n", b"m.csv") == [("a", 1.0, 1), ("epoch", 1.5, 1), ("z", 2.0, 1)]
    assert points(b"step,a\n9007199254740993,1\n", b"m.csv") == [("a", 1.0, 9007199254740993)]


def test_without_a_step_the_rows_are_counted() -> None:
    assert points(b"a;b\n1;x\n2;\n\n3;4\n", b"m.csv") == [("a", 1.0, 0), ("a", 2.0, 1), ("a", 3.0, 2), ("b", 4.0, 2)]
    assert points(b"a\tb\n1\t2\n", b"m.tsv") == [("a", 1.0, 0), ("b", 2.0, 0)]
    assert points(b"a\tb\n1\t2\n", b"train.log") == [("a", 1.0, 0), ("b", 2.0, 0)]
    assert points(b'[{"a": 1}, {"a": 2}]', b"m") == [("a", 1.0, 0), ("a", 2.0, 1)]


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.123, 1_700_000_000_123),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123_456, 1_700_000_000_123),
        (1_700_000_000_123_456_789, 1_700_000_000_123),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14 22:13:20.5", 1_700_000_000_500),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        (12.5, None),
        (99_999_999, None),
        (100_000_000, 100_000_000_000),
        (-5, None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        ("1969-12-31", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_moments(value: object, milliseconds: int | None) -> None:
    assert moment_of(value) == milliseconds


@pytest.mark.parametrize(
    ("value", "step"),
    [(3, 3), (2.9, 2), (-1, -1), (True, None), (math.nan, None), (math.inf, None), (2**63, None), (10**400, None)],
)
def test_steps(value: object, step: int | None) -> None:
    assert step_of(value) == step


def test_times_of_rows() -> None:
    text = b"_step,_timestamp,wall_time,a\n1,1700000000.5,1700000001,1\n2,,1700000002,2\n3,x,,3\n"
    told = [(p.key, p.value, p.step, p.timestamp_ms) for row in rows(text, b"m.csv") for p in row.points]
    assert told == [
        ("a", 1.0, 1, 1_700_000_000_500),
        ("wall_time", 1700000001.0, 1, 1_700_000_000_500),
        ("a", 2.0, 2, 1_700_000_002_000),
        ("a", 3.0, 3, None),
    ]
    line = b'{"step": 1, "a": 2, "timestamp": "2023-11-14T22:13:20Z", "time": 3.5}\n'
    assert rows(line, b"m.jsonl")[0].points == (
        Point("a", 2.0, 1, 1_700_000_000_000),
        Point("time", 3.5, 1, 1_700_000_000_000),
    )


def test_a_line_that_may_go_on_is_left_until_the_file_has_ended() -> None:
    for text, name in ((b"a,b\n1,2\n3,4", b"m.csv"), (b'{"a": 1, "b": 2}\n{"a": 3, "b": 4', b"m.jsonl")):
        assert points(text, name, ended=False) == [("a", 1.0, 0), ("b", 2.0, 0)]
    assert len(points(b"a,b\n1,2\n3,4", b"m.csv")) == 4
    assert points(b"a,b", b"m.csv", ended=False) == []
    assert problems(b'{"a": 1}\n{"a": 3', b"m.jsonl") == ["line 2: not JSON: Expecting ',' delimiter (column 8)"]
    # An object is whole when its brace is closed.
    assert points(b'{"a": 1}\n{"a": 3}', b"m.jsonl", ended=False) == [("a", 1.0, 0), ("a", 3.0, 1)]
    assert points(b'{"a": [1,\n', b"m.json", ended=False) == []
    assert points(b'a,b\n1,"x\n', b"m.csv", ended=False) == []
    assert problems(b'a,b\n1,2\n1,"x\n', b"m.csv") == ["line 3: its quotes are not closed"]


def test_a_broken_line_is_named_and_the_rest_goes_on() -> None:
    text = b'a,b\n1,2\n3,\xff\n5\n6,7,8\n9,"x"y\n10,11\n'
    assert problems(text, b"m.csv") == [
        "line 3: byte 3 of it is not UTF-8",
        "line 4: it has 1 cells, the header 2",
        "line 5: it has 3 cells, the header 2",
        "line 6: not CSV: ',' expected after '\"'",
    ]
    assert rows(text, b"m.csv")[-1] == Row(6, (Point("a", 10.0, 5), Point("b", 11.0, 5)))
    text = b'{"a": 1}\nnoise\n\n[2]\n{"a": "\xff"}\n{"a": 5}\n'
    assert problems(text, b"m.jsonl") == [
        "line 2: not JSON: Expecting value (column 1)",
        "line 4: it is no JSON object",
        "line 5: byte 8 of it is not UTF-8",
    ]
    assert rows(text, b"m.jsonl")[-1] == Row(5, (Point("a", 5.0, 4),))
    assert problems(b"step,a\n1,2\n,3\n", b"m.csv") == ["line 3: its 'step' is no number"]


def test_a_broken_byte_counts_for_all_lines_of_its_row() -> None:
    assert problems(b'a,t\n1,"x\xff\ny"\n2,3\n', b"m.csv") == ["line 2: byte 5 of it is not UTF-8"]


def test_what_only_python_takes_for_a_number_is_text() -> None:
    assert points(b"a,b\n1_000,2\n", b"m.csv") == [("b", 2.0, 0)]


def test_of_two_names_of_a_step_that_differ_in_case_the_first_counts() -> None:
    assert points(b'{"Step": 1, "step": 2, "a": 3}\n', b"m.jsonl") == [("a", 3.0, 1), ("step", 2.0, 1)]
    assert points(b"Step,step,a\n1,2,3\n", b"m.csv") == [("a", 3.0, 1), ("step", 2.0, 1)]


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert moment_of("2023-11-14 22:13:20") == 1_700_000_000_000
    time.tzset()


def test_rows_of_several_lines_are_named_by_their_first() -> None:
    assert problems(b'a,t\n1,"x\ny\nz"\n2,"p\nq",3\n4,5\n', b"m.csv") == ["line 5: it has 3 cells, the header 2"]


def test_keys_that_mlflow_refuses_are_named_once() -> None:
    long = "k" * 251
    assert problems(f"a,{long},f(x),fx\n1,2,3,4\n1,2,3,4\n".encode(), b"m.csv") == [
        f"line 1, '{'k' * 79}…': its name has 251 characters; MLflow takes 250",
        "line 1, 'fx': MLflow takes it for an earlier column",
    ]
    line = json.dumps({"a": 1, "f(x)": 2, "fx": 3, long: 4}).encode() + b"\n"
    assert len(problems(line * 3, b"m.jsonl")) == 2
    # The index of a data frame has no name.
    assert points(b",a\n0,1\n1,2\n", b"m.csv") == [("a", 1.0, 0), ("a", 2.0, 1)]
    assert problems(b'{"a": {"b": 1}, "a.b": 2}\n', b"m.jsonl") == ["line 1: the key 'a.b' stands twice"]
    assert problems(b'{"a": 1, "b": 1' + b"0" * 400 + b"}\n", b"m.jsonl") == [
        "line 1, 'b': its number is beyond what MLflow can hold"
    ]


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (b"a,b\nx,y\n", b"m.csv", "it holds no number to tell. Write"),
        (b"1,2\n3,4\n", b"m.csv", "line 1: it holds numbers, not the names of columns"),
        (b"a\xff,b\n3,4\n", b"m.csv", "line 1: byte 2 of it is not UTF-8"),
        (b'{"a": "b"}', b"m.json", "it holds no number to tell"),
        (b'"a"', b"m.json", "it holds no number to tell (row 1: it is no JSON object)"),
        (b"nonsense\n", b"m.jsonl", "it holds no number to tell (line 1: not JSON"),
        (b"\n{\n  'a': 1}", b"m.json", "line 3: not JSON"),
        (b'{\n"a": "\xff"}', b"m.json", "line 2: byte 8 is not UTF-8"),
        (b"[" * 100_000, b"m.json", "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", b"m.json", "thousands of digits"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, b"m.json", "nested more than 100 levels deep"),
        (b"\0" * (2 * 1024 * 1024), b"m.csv", "longer than 1024 KiB"),
    ],
)
def test_a_file_that_says_nothing_is_a_sentence(text: bytes, name: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        rows(text, name)
    assert reason in str(error.value)


@pytest.mark.parametrize("text", [b"a,b\n", b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_young_and_no_problem(text: bytes) -> None:
    assert rows(text, b"m.csv") == []


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert points(b"\xef\xbb\xbfstep,a\r\n1,2\r\n", b"m.csv") == [("a", 2.0, 1)]
    assert points(b'\xef\xbb\xbf{"a": 2}\n', b"m.jsonl") == [("a", 2.0, 0)]


class Endless(io.RawIOBase):
    """A file that is made while it is read."""

    def __init__(self, head: bytes, line: bytes, lines: int) -> None:
        self._pieces: Iterator[bytes] = iter([head + line * 100] + [line * 100] * (lines // 100 - 1))
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._pieces, b"")
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize(
    ("head", "line", "name"),
    [(b"step,a,b\n", b"1,2.5,3\n", b"m.csv"), (b"", b'{"step": 1, "a": 2.5, "b": 3}\n', b"m.jsonl")],
)
def test_memory_is_bounded_whatever_the_length(head: bytes, line: bytes, name: bytes) -> None:
    tracemalloc.start()
    try:
        stream = io.BufferedReader(Endless(head, line, 20_000))
        told = sum(len(row.points) for row in read_metrics(stream, name, ended=True))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told == 40_000
    assert peak < 512 * 1024


@pytest.mark.parametrize("name", [b"m.jsonl", b"m.json"])
def test_a_long_name_over_many_takes_no_memory(name: bytes) -> None:
    long = "k" * 2000
    many = {f"{index}": index for index in range(20_000)}
    data = json.dumps({"a": {long: many}, "b": 1}).encode() + b"\n"
    tracemalloc.start()
    try:
        (row,) = rows(data, name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert row.points == (Point("b", 1.0, 0),)
    assert "its name has 2002 characters" in str(row.problems[0])
    assert peak < 12 * len(data)


names = st.text(string.ascii_lowercase, min_size=1, max_size=5).filter(
    lambda name: name not in {"step", "time", "date", "iter", "epoch"}
)
cells = st.none() | st.floats() | st.sampled_from(["text", "a,b", 'q"', "x\ny"])
tables = st.lists(names, min_size=1, max_size=5, unique=True).flatmap(
    lambda header: st.tuples(
        st.just(header), st.lists(st.lists(cells, min_size=len(header), max_size=len(header)), max_size=8)
    )
)


@given(tables)
def test_csv_and_json_lines_of_a_table_say_the_same(table: tuple[list[str], list[list[object]]]) -> None:
    header, body = table
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", *header])
    for number, row in enumerate(body):
        writer.writerow(
            [number, *("" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row)]
        )
    lines = "".join(json.dumps({"step": n} | dict(zip(header, row, strict=True))) + "\n" for n, row in enumerate(body))
    wanted = [
        sorted((key, repr(cell), n) for key, cell in zip(header, row, strict=True) if isinstance(cell, float))
        for n, row in enumerate(body)
    ]
    for data, name in ((text.getvalue(), b"m.csv"), (lines, b"m.jsonl")):
        read = rows(data.encode(), name, ended=False)
        assert [[(p.key, repr(p.value), p.step) for p in row.points] for row in read] == wanted
        assert not any(row.problems for row in read)


@given(tables, st.integers(0))
def test_a_file_cut_anywhere_says_a_beginning_of_what_it_will_say(
    table: tuple[list[str], list[list[object]]], cut: int
) -> None:
    header, body = table
    text = io.StringIO()
    csv.writer(text).writerows([header, *body])
    data = text.getvalue().encode()
    early = rows(data[: cut % (len(data) + 1)], b"m.csv", ended=False)
    assert [repr(row) for row in rows(data, b"m.csv", ended=False)][: len(early)] == [repr(row) for row in early]


@given(
    st.binary() | st.text('{}[]":,\n 1ae.-', max_size=60).map(str.encode),
    st.sampled_from([b"m.csv", b"m.tsv", b"m.json", b"m.jsonl", b"m"]),
    st.booleans(),
)
def test_any_file_gives_points_that_mlflow_takes_or_a_sentence(data: bytes, name: bytes, ended: bool) -> None:
    try:
        read = rows(data, name, ended=ended)
    except Unreadable as error:
        read = [Row(1, (), (error.problem,))]
    assert [row.number for row in read] == list(range(1, len(read) + 1))
    for row in read:
        assert [point.key for point in row.points] == sorted({point.key for point in row.points})
        for point in row.points:
            _validate_metric(point.key, point.value, point.timestamp_ms or 0, point.step)
        assert not any("\n" in str(problem) for problem in row.problems)
