"""The few fields of TensorFlow's Event message that scalars need, for protobuf's own parser.

Numbers are those of ``event.proto``, ``summary.proto``, ``tensor.proto`` and ``tensor_shape.proto``, which files on
disk have kept for ten years. They are put together here, in a pool of their own: the packages that bring them compiled
(tensorboard, tensorboardX) bring numpy too, and a pool that is shared would refuse the second of two.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_PACKAGE = "artifactd.events"
_OPTIONAL, _REPEATED = 1, 3
_DOUBLE, _FLOAT, _INT64, _UINT64, _INT32 = 1, 2, 3, 4, 5
_BOOL, _STRING, _MESSAGE, _BYTES, _UINT32 = 8, 9, 11, 12, 13

# Message: field → (number, type, or the message it holds; a list if repeated).
_MESSAGES: dict[str, dict[str, tuple[int, int | str | list[int | str]]]] = {
    "Event": {"wall_time": (1, _DOUBLE), "step": (2, _INT64), "summary": (5, "Summary")},
    "Summary": {"value": (1, ["Value"])},
    "Value": {
        # bytes: one tag that is not UTF-8 must not make a whole record unreadable.
        "tag": (1, _BYTES),
        "simple_value": (2, _FLOAT),
        "tensor": (8, "Tensor"),
        "metadata": (9, "Metadata"),
    },
    "Metadata": {"plugin": (1, "Plugin"), "data_class": (4, _INT32)},
    "Plugin": {"name": (1, _BYTES)},
    "Tensor": {
        "dtype": (1, _INT32),
        "shape": (2, "Shape"),
        "content": (4, _BYTES),
        "half_val": (13, [_INT32]),
        "float_val": (5, [_FLOAT]),
        "double_val": (6, [_DOUBLE]),
        "int_val": (7, [_INT32]),
        "int64_val": (10, [_INT64]),
        "bool_val": (11, [_BOOL]),
        "uint32_val": (16, [_UINT32]),
        "uint64_val": (17, [_UINT64]),
    },
    "Shape": {"dim": (2, ["Dim"])},
    "Dim": {"size": (1, _INT64)},
}
# Of the fields that are only there when they were set; for the others, their zero says the same.
_ONE_OF = {"Value": ("simple_value", "tensor")}


@cache
def event_class() -> Any:
    """The class of a message as it stands in a record of an event file.

    Raises:
        ImportError: protobuf is not installed.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415  (an extra)

    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name="what")
        for field, (number, held) in fields.items():
            kind = held[0] if isinstance(held, list) else held
            made = message.field.add(
                name=field,
                number=number,
                label=_REPEATED if isinstance(held, list) else _OPTIONAL,
                type=_MESSAGE if isinstance(kind, str) else kind,
            )
            if isinstance(kind, str):
                made.type_name = f".{_PACKAGE}.{kind}"
            if field in _ONE_OF.get(name, ()):
                made.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Event"))
