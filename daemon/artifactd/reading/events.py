"""Metric points of TensorBoard's event files: the scalars in them, each with its tag, step and time.

Told are a value's ``simple_value`` (torch, tensorboardX), and a tensor of one number that is of the plugin ``scalars``
or of the data class scalar (TensorFlow, Keras, JAX). Pictures, histograms, texts, graphs and hyperparameters are not.

One run of MLflow holds what TensorBoard shows as several: each folder of event files. So the folder is a part of the
key, ``train/epoch_loss`` beside ``validation/epoch_loss``, except for levels that say nothing: ``CONTAINERS`` at its
start, and names made of the moment when a training began (with those, no two runs would have a key in common).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from artifactd import installation
from artifactd.reading.eventproto import event_class
from artifactd.reading.keys import MAX_RAW_CHARACTERS, fit, shown, why_unfit
from artifactd.reading.known import EXTRA, MARK
from artifactd.reading.points import Point, Row
from artifactd.reading.problems import WHOLE, Problem, Unreadable
from artifactd.reading.records import Crc32c, Record, records

CONTAINERS = frozenset(
    ("events", "fit", "lightning_logs", "log", "logs", "runs", "summaries", "tb", "tb_logs", "tensorboard")
)
"""Names of folders, lower case, that say only that event files lie in them."""

_MOMENTS = re.compile(
    r"[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_.*"  # torch and transformers: Nov26_06-41-02_host
    r"|version_\d+"  # Lightning
    r"|\d{8}[-_]?\d{6}|\d{4}-\d\d-\d\d[-_T ]\d\d[-:_]\d\d[-:_]\d\d"  # TensorFlow's guides
    r"|\d{9,}(?:\.\d+)?"  # add_hparams: time.time()
)

_MOST_TAGS = 10_000
"""Tags of one file of which is remembered what they are."""
_MOST_PROBLEMS = 1000
"""Problems of one file that are named: the first says enough, and a broken disk makes millions."""
_MOST_MOMENT = 1e11
"""Seconds: the year 5138."""

_SCALARS = b"scalars"
_SCALAR_CLASS = 1  # DATA_CLASS_SCALAR in summary.proto

# Number of a type in types.proto: where its values stand, and how one is written in `content`.
_TYPES = {
    1: ("float_val", "<f"),
    2: ("double_val", "<d"),
    3: ("int_val", "<i"),
    4: ("int_val", "<B"),
    5: ("int_val", "<h"),
    6: ("int_val", "<b"),
    9: ("int64_val", "<q"),
    10: ("bool_val", "<?"),
    14: ("half_val", "<H"),  # bfloat16: the upper half of a float
    17: ("int_val", "<H"),
    19: ("half_val", "<e"),
    22: ("uint32_val", "<I"),
    23: ("uint64_val", "<Q"),
}
_BFLOAT16, _HALF = 14, 19


def is_event_file(name: bytes) -> bool:
    """Whether a file is one of TensorBoard's, by its own name."""
    return MARK in name


def prefix(folder: str) -> str:
    """What stands before the tags of an event file.

    Args:
        folder: The one it has in the run, with the names that it has on the disk; empty for the run's root.

    Returns:
        Empty, or folders and a closing ``/``.
    """
    levels = [level for level in folder.split("/") if level and not _MOMENTS.fullmatch(level)]
    while levels and levels[0].lower() in CONTAINERS:
        del levels[0]
    return "".join(f"{level}/" for level in levels)


def from_events(stream: BinaryIO, folder: str, *, ended: bool) -> Iterator[Row]:
    """Read an event file.

    Args:
        stream: The content from its start, buffered.
        folder: The one it has in the run.
        ended: Nothing will be added to it.

    Returns:
        A row for each record. A last record that is not all there says nothing: a training that was killed leaves one.
        Of a damaged one the offset is named; what stands before it, and behind it where that can be found, is told.

    Raises:
        Unreadable: While iterating: the extra is not installed, and the file has ended. Until then it has no points:
            one sentence at the end is better than one every few seconds.
    """
    parse = _parser()
    if parse is None or (crc32c := _crc32c()) is None:
        if ended:
            line = installation.here().with_extra(EXTRA).command
            raise Unreadable(WHOLE, "what reads TensorBoard's event files is not installed", f"Run `{line}`")
        return
    values, named = _Values(prefix(folder)), 0
    for row in _rows(records(stream, crc32c, ended=ended), parse, values):
        named += len(row.problems)
        yield row if named <= _MOST_PROBLEMS else Row(row.number, row.points)


def _rows(found: Iterator[Record], parse: Any, values: _Values) -> Iterator[Row]:
    for number, record in enumerate(found, 1):
        place = f"byte {record.offset}"
        if record.damage:
            yield Row(number, (), (Problem(place, f"the record there is damaged: {record.damage}"),))
        elif record.data is None:
            yield Row(number)
        elif (event := parse(record.data)) is None:
            yield Row(number, (), (Problem(place, "the record there is no event"),))
        else:
            yield values.row(number, place, event)


def _parser() -> Any:
    try:
        from google.protobuf.message import DecodeError  # noqa: PLC0415  (an extra)

        from_bytes = event_class().FromString
    except ImportError:
        return None

    def parse(data: bytes) -> Any:
        try:
            return from_bytes(data)
        except DecodeError:
            return None

    return parse


def _crc32c() -> Crc32c | None:
    try:
        from google_crc32c import extend  # noqa: PLC0415  (an extra)
    except ImportError:
        return None
    return lambda crc, data: int(extend(crc, data))


class _Values:
    """What the tags of one file mean."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._scalars: dict[bytes, bool] = {}
        self._keys: dict[bytes, str | None] = {}

    def row(self, number: int, place: str, event: Any) -> Row:
        """The points of one event, in its order."""
        points: list[Point] = []
        problems: list[Problem] = []
        for value in event.summary.value:
            found = self._value(value)
            if found is None:
                continue
            key = self._keys.get(value.tag, "")
            if key == "":
                key, problem = self._key(value.tag, place)
                problems += problem
            if key:
                points.append(Point(key, found, event.step, _moment(event.wall_time)))
        return Row(number, tuple(points), tuple(problems))

    def _value(self, value: Any) -> float | None:
        """A value's number; None if it is something else."""
        if value.HasField("metadata"):
            # TensorBoard takes a tag's first metadata for all that come after it.
            meta = value.metadata
            if value.tag not in self._scalars and self._is_kept(value.tag, self._scalars):
                self._scalars[value.tag] = meta.plugin.name == _SCALARS or meta.data_class == _SCALAR_CLASS
        if value.HasField("simple_value"):
            return float(value.simple_value)
        return _number(value.tensor) if self._scalars.get(value.tag) and value.HasField("tensor") else None

    def _key(self, tag: bytes, place: str) -> tuple[str | None, list[Problem]]:
        raw = self._prefix + tag.decode("utf-8", "surrogateescape")
        key: str | None = fit(raw) if len(raw) <= MAX_RAW_CHARACTERS else raw
        reason = why_unfit(key or "") if tag else "it has no name"
        if reason:
            key = None
        if self._is_kept(tag, self._keys):
            self._keys[tag] = key
        return key, [Problem(f"{place}, {shown(raw)}", reason)] if reason else []

    @staticmethod
    def _is_kept(tag: bytes, among: dict[bytes, Any]) -> bool:
        return len(among) < _MOST_TAGS and len(tag) <= MAX_RAW_CHARACTERS


def _number(tensor: Any) -> float | None:
    """The number of a tensor that holds one."""
    if tensor.dtype not in _TYPES or any(dim.size != 1 for dim in tensor.shape.dim):
        return None
    field, form = _TYPES[tensor.dtype]
    if tensor.content:
        if len(tensor.content) != struct.calcsize(form):
            return None
        (found,) = struct.unpack(form, tensor.content)
        return _widened(found) if tensor.dtype == _BFLOAT16 else float(found)
    values = getattr(tensor, field)
    if not values:
        return 0.0  # TensorFlow leaves out zeros
    if tensor.dtype == _HALF:
        (found,) = struct.unpack("<e", struct.pack("<H", values[0] & 0xFFFF))
        return float(found)
    return _widened(values[0]) if tensor.dtype == _BFLOAT16 else float(values[0])


def _widened(bits: int) -> float:
    (found,) = struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF) << 16))
    return float(found)


def _moment(wall_time: float) -> int | None:
    return round(wall_time * 1000) if 0 < wall_time < _MOST_MOMENT else None
