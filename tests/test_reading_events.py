"""TensorBoard's event files: scalars become points, whoever wrote them; cuts wait, damage is named by its place."""

from __future__ import annotations

import io
import math
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboardX import SummaryWriter

from artifactd import installation
from artifactd.reading.events import is_event_file, prefix
from artifactd.reading.known import is_installed
from artifactd.reading.metrics import read_metrics
from artifactd.reading.points import Point, Row
from artifactd.reading.problems import Unreadable
from artifactd.reading.records import MAX_RECORD_BYTES
from event_files import NAME, event, framed, head, read_back, scalars, shape, simple, tensor

WHEN = 1_700_000_000_500
FILE = head() + scalars("loss", (1.0, 0.5, 0.25)) + event(simple("lr", 0.5), simple("acc", 0.75), step=3)
POINTS = [Point("loss", value, step, WHEN) for step, value in enumerate((1.0, 0.5, 0.25))] + [
    Point("lr", 0.5, 3, WHEN),
    Point("acc", 0.75, 3, WHEN),
]
ENDS = [len(head()), *(len(head() + scalars("loss", (1.0, 0.5, 0.25)[:n])) for n in (1, 2, 3)), len(FILE)]
"""Where its records end."""


def rows(data: bytes, folder: str = "", *, ended: bool = True) -> list[Row]:
    return list(read_metrics(io.BytesIO(data), NAME.encode(), folder, ended=ended))


def points(data: bytes, folder: str = "", *, ended: bool = True) -> list[Point]:
    return [point for row in rows(data, folder, ended=ended) for point in row.points]


def problems(data: bytes, *, ended: bool = True) -> list[str]:
    return [str(problem) for row in rows(data, ended=ended) for problem in row.problems]


def value(made: Any) -> float:
    (point,) = points(head() + event(made))
    assert point.key == "x"
    return point.value


# -- what is in them -------------------------------------------------------------------------------------------------


def test_scalars_are_points_with_step_and_time_and_each_record_counts() -> None:
    assert points(FILE) == POINTS
    assert [row.number for row in rows(FILE)] == [1, 2, 3, 4, 5]
    assert problems(FILE) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "DT_FLOAT", "float_val": [2.5]},
        {"dtype": "DT_DOUBLE", "double_val": [2.5]},
        {"dtype": "DT_HALF", "half_val": [struct.unpack("<H", struct.pack("<e", 2.5))[0]]},
        {"dtype": "DT_BFLOAT16", "half_val": [struct.unpack("<I", struct.pack("<f", 2.5))[0] >> 16]},
        {"dtype": "DT_FLOAT", "tensor_content": struct.pack("<f", 2.5)},
        {"dtype": "DT_DOUBLE", "tensor_content": struct.pack("<d", 2.5)},
        {"dtype": "DT_HALF", "tensor_content": struct.pack("<e", 2.5)},
        {"dtype": "DT_BFLOAT16", "tensor_content": struct.pack("<f", 2.5)[2:]},
        {"dtype": "DT_FLOAT", "tensor_content": struct.pack("<f", 2.5), "tensor_shape": shape(1, 1)},
    ],
    ids=str,
)
def test_a_number_of_a_tensor(fields: dict[str, Any]) -> None:
    assert value(tensor("x", **fields)) == 2.5


@pytest.mark.parametrize(
    ("dtype", "field", "form"),
    [
        ("DT_INT8", "int_val", "<b"), ("DT_INT16", "int_val", "<h"), ("DT_INT32", "int_val", "<i"),
        ("DT_INT64", "int64_val", "<q"), ("DT_UINT8", "int_val", "<B"), ("DT_UINT16", "int_val", "<H"),
        ("DT_UINT32", "uint32_val", "<I"), ("DT_UINT64", "uint64_val", "<Q"), ("DT_BOOL", "bool_val", "<?"),
    ],
)  # fmt: skip
def test_a_whole_number_of_a_tensor(dtype: str, field: str, form: str) -> None:
    for number in (0, 1) if form == "<?" else (-7, 100) if form in "<b<h<i<q" else (0, 200):
        fields: dict[str, Any] = {"dtype": dtype, field: [number]}
        assert value(tensor("x", **fields)) == number
        assert value(tensor("x", dtype=dtype, tensor_content=struct.pack(form, number))) == number


def test_a_tensor_without_a_value_is_a_zero() -> None:
    assert value(tensor("x", dtype="DT_FLOAT", tensor_shape=shape())) == 0.0


def test_nan_and_infinities_are_kept() -> None:
    found = [p.value for p in points(head() + scalars("x", (math.nan, math.inf, -math.inf)))]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf]


def test_what_is_no_scalar_is_nothing_and_no_problem() -> None:
    other = (
        tensor("x", "text", dtype="DT_STRING", string_val=[b"words"]),
        tensor("x1", "histograms", dtype="DT_DOUBLE", double_val=[1.0]),
        tensor("x2", None, dtype="DT_FLOAT", float_val=[1.0]),
        tensor("x3", dtype="DT_FLOAT", float_val=[1.0, 2.0], tensor_shape=shape(2)),
        tensor("x4", dtype="DT_STRING", string_val=[b"1"]),
        tensor("x5", dtype="DT_FLOAT", tensor_content=b"abc"),
        tensor("_hparams_/session_start_info", "hparams", dtype="DT_FLOAT"),
        Summary.Value(tag="h", histo=HistogramProto(num=3)),
        Summary.Value(tag="i", image=Summary.Image(height=1, encoded_image_string=b"png")),
    )
    data = head() + event(*other) + framed(Event(graph_def=b"graph").SerializeToString())
    assert (points(data), problems(data)) == ([], [])


def test_a_tags_first_metadata_counts_for_all_that_come_after() -> None:
    data = head() + event(tensor("x", dtype="DT_FLOAT", float_val=[1]))
    data += event(tensor("x", None, dtype="DT_FLOAT", float_val=[2]), step=1)
    assert [p.value for p in points(data)] == [1, 2]


def test_a_data_class_is_as_good_as_the_plugin() -> None:
    made = tensor("x", "mine", dtype="DT_FLOAT", float_val=[1])
    made.metadata.MergeFrom(SummaryMetadata(data_class="DATA_CLASS_SCALAR"))
    assert value(made) == 1


@pytest.mark.parametrize("wall_time", [0.0, -1.0, math.nan, math.inf, 1e300])
def test_a_time_that_is_none_is_left_to_the_teller(wall_time: float) -> None:
    (point,) = points(event(simple("x", 1), step=-3, wall_time=wall_time))
    assert point == Point("x", 1, -3, None)


def test_a_tag_that_mlflow_refuses_is_written_so_that_it_takes_it_or_named_once() -> None:
    data = head() + event(simple("top@5", 1)) + event(simple("", 1)) + scalars("k" * 251, (1, 2))
    assert [p.key for p in points(data)] == ["top_x40_5"]
    nameless, long = problems(data)
    assert "it has no name" in nameless
    assert "251 characters" in long


def test_what_tensorboardx_writes(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=1_700_000_000 + step)
        writer.add_text("note", "the end")
        writer.add_histogram("weights", [1.0, 2.0, 3.0], 0)
    (file,) = tmp_path.iterdir()
    theirs = [
        (v.tag, v.simple_value) for e in read_back(str(file)) for v in e.summary.value if v.HasField("simple_value")
    ]
    found = points(file.read_bytes())
    assert [(p.key, p.value) for p in found] == theirs
    assert [(p.step, p.timestamp_ms) for p in found] == [(n, 1_700_000_000_000 + 1000 * n) for n in range(5)]


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "before"),
    [
        ("", ""),
        ("both/train", "both/train/"),
        ("logs/train", "train/"),
        ("logs/validation", "validation/"),
        ("logs/fit/20261126-101500/train", "train/"),
        ("runs/Nov26_06-41-02_host", ""),
        ("runs/Nov26_06-41-02_gpu-1.lan/both_train", "both_train/"),
        ("lightning_logs/version_3", ""),
        ("tb_logs/my_model/version_0", "my_model/"),
        ("1795676031.2370157", ""),
        ("runs/exp/1795676031.2370157", "exp/"),
        ("Logs", ""),
        ("model/logs", "model/logs/"),
        ("version_two", "version_two/"),
    ],
)
def test_the_folder_is_a_part_of_the_key_unless_it_says_nothing(folder: str, before: str) -> None:
    assert prefix(folder) == before
    assert points(event(simple("loss", 1)), folder)[0].key == f"{before}loss"


def test_a_folder_of_any_name_makes_keys_that_mlflow_takes() -> None:
    assert points(event(simple("loss", 1)), "ba#d/\udcff")[0].key == "ba_x23_d/_xED__xB3__xBF_/loss"


# -- cut and damaged -------------------------------------------------------------------------------------------------


@given(st.integers(0, len(FILE)), st.booleans())
def test_a_file_that_is_cut_anywhere_says_what_its_whole_records_say(cut: int, ended: bool) -> None:
    whole = sum(end <= cut for end in ENDS)
    assert points(FILE[:cut], ended=ended) == POINTS[: max(0, whole - 1)] + (POINTS[4:] if whole == 5 else [])
    assert problems(FILE[:cut], ended=ended) == []


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255), st.booleans())
def test_any_other_byte_is_found_and_what_stands_before_it_is_told(place: int, other: int, ended: bool) -> None:
    data = FILE[:place] + bytes([FILE[place] ^ other]) + FILE[place + 1 :]
    start = max(end for end in [0, *ENDS] if end <= place)
    first = sum(end <= place for end in ENDS)
    found = points(data, ended=ended)
    in_header = place - start < 12
    before, behind = POINTS[: max(0, first - 1)], POINTS[max(0, first) :] if first < 4 else []
    assert found == (before if in_header else before + behind)
    said = problems(data, ended=ended)
    if first == 4 and not in_header and not ended:
        assert said == [], "the last record may be in the making"
    else:
        (problem,) = said
        assert problem.startswith(f"byte {start}: the record there is damaged: ")


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_end_in_words(data: bytes, ended: bool) -> None:
    assert points(data, ended=ended) == []


@given(st.binary(max_size=60))
def test_any_record_ends_in_words_and_does_not_hide_the_next(data: bytes) -> None:
    assert points(head() + framed(data) + scalars("loss", (1.0,)))[-1] == POINTS[0]


def test_a_record_that_is_no_event_is_named() -> None:
    data = head() + framed(b"\xff\xff") + scalars("loss", (1.0,))
    assert problems(data) == [f"byte {len(head())}: the record there is no event"]
    assert points(data) == POINTS[:1]


def test_of_endless_damage_the_first_is_named() -> None:
    broken = bytearray(event(simple("loss", 1)))
    broken[-1] ^= 1
    assert len(problems(bytes(broken) * 3000)) == 1000
    nameless = head() + b"".join(event(simple("k" * 3000 + str(n), n)) for n in range(3))
    assert ["MLflow takes 250" in said for said in problems(nameless)] == [True] * 3
    assert points(bytes(broken) * 3000 + scalars("loss", (1.0,))) == POINTS[:1]


def test_a_shape_without_end_takes_no_time() -> None:
    made = tensor("x", dtype="DT_FLOAT", float_val=[1], tensor_shape=shape(*[2**62] * 300_000))
    assert points(event(made)) == []


def test_zeros_that_are_not_written_yet_wait_and_are_named_when_nothing_comes() -> None:
    """What a network filesystem shows of a file that grows, and what a power cut leaves of one."""
    data = FILE + bytes(5000)
    assert (points(data, ended=False), problems(data, ended=False)) == (POINTS, [])
    assert points(data) == POINTS
    (problem,) = problems(data)
    assert problem.startswith(f"byte {len(FILE)}: ")


def test_a_record_that_claims_to_be_endless_takes_no_memory() -> None:
    length = framed(b"")[:0] + struct.pack("<Q", 2**60)
    to = io.BytesIO()
    from tensorboard.summary.writer.record_writer import masked_crc32c

    to.write(FILE + length + struct.pack("<I", masked_crc32c(length)) + b"x" * 100)
    tracemalloc.start()
    assert points(to.getvalue()) == POINTS
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_a_record_beyond_what_is_read_is_passed_by_and_its_checksum_counts() -> None:
    import google_crc32c

    long = bytes(MAX_RECORD_BYTES + 1)

    def sum_of(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(long))
    record = length + sum_of(length) + long + sum_of(long)
    assert points(head() + record + scalars("loss", (1.0,))) == POINTS[:1]
    torn = record[:-100] + b"x" + record[-99:]
    assert problems(head() + torn + scalars("loss", (1.0,))) == [
        f"byte {len(head())}: the record there is damaged: its checksum is wrong"
    ]
    assert problems(head() + record[:-1]) == []


# -- the extra -------------------------------------------------------------------------------------------------------


def test_without_the_extra_the_sentence_names_it_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed()
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    assert not is_installed()
    with pytest.raises(Unreadable) as caught:
        rows(FILE)
    assert f"`{installation.here().with_extra('tensorboard').command}`" in str(caught.value)
    assert rows(FILE, ended=False) == []


def test_the_name_decides_as_for_tensorboard() -> None:
    for name in (NAME, f"{NAME}.123.0.v2", "events.out.tfevents_v2", "my.tfevents"):
        assert is_event_file(name.encode())
    assert not is_event_file(b"events.jsonl")


# -- much ------------------------------------------------------------------------------------------------------------


def test_a_long_file_takes_no_memory() -> None:
    data = head() + scalars("loss", range(500)) * 40
    stream = io.BytesIO(data)
    next(read_metrics(io.BytesIO(data), NAME.encode()))  # what is made once
    tracemalloc.start()
    count = sum(len(row.points) for row in read_metrics(stream, NAME.encode()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 256 * 1024
