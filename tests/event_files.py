"""Event files as TensorBoard's own packages write and read them: what artifactd reads is held against these."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

NAME = "events.out.tfevents.1795676028.host"


def framed(data: bytes) -> bytes:
    """One record."""
    to = io.BytesIO()
    RecordWriter(to).write(data)
    return to.getvalue()


def event(*values: Any, step: int = 0, wall_time: float = 1_700_000_000.5) -> bytes:
    """One record with these values."""
    return framed(Event(wall_time=wall_time, step=step, summary=Summary(value=values)).SerializeToString())


def simple(tag: str, value: float) -> Any:
    """A scalar as torch and tensorboardX write it."""
    return Summary.Value(tag=tag, simple_value=value)


def tensor(tag: str, plugin: str | None = "scalars", **fields: Any) -> Any:
    """A value as TensorFlow writes it."""
    metadata = SummaryMetadata(plugin_data={"plugin_name": plugin}) if plugin is not None else None
    return Summary.Value(tag=tag, tensor=TensorProto(**fields), metadata=metadata)


def shape(*sizes: int) -> Any:
    """Of a tensor."""
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


def head() -> bytes:
    """The record that every event file begins with."""
    return framed(Event(wall_time=1_700_000_000, file_version="brain.Event:2").SerializeToString())


def scalars(tag: str, values: Iterable[float], first: int = 0) -> bytes:
    """Records of one tag, step by step."""
    return b"".join(event(simple(tag, value), step=step) for step, value in enumerate(values, first))


def read_back(path: str) -> Iterator[Any]:
    """The events of a file, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    yield from LegacyEventFileLoader(path).Load()
