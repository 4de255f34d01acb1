"""Kinds of values that keys of several tables have: durations, sizes, paths; and what every table is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
)

from artifactd.config.places import absolute_path
from artifactd.config.problems import Mistake
from artifactd.config.units import format_duration, format_size, is_number, parse_duration, parse_size

WRITTEN = "written"
"""Validation context of values that people wrote: there a bare number has no unit."""


class Table(BaseModel):
    """A table of the configuration: read once, never changed, no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def size(value: Any, info: ValidationInfo) -> int:
    """Read a size in bytes, as ``parse_size`` does; with its unit where people write it.

    Raises:
        Mistake: It is none, or has no unit.
    """
    _require_unit(value, info, "B")
    return parse_size(value)


def _duration(value: Any, info: ValidationInfo) -> float:
    _require_unit(value, info, "s")
    return parse_duration(value)


def _require_unit(value: Any, info: ValidationInfo, unit: str) -> None:
    if info.context == WRITTEN and is_number(value) and value != 0:
        raise Mistake(f"{value} has no unit", f'write it with one, as "{value}{unit}"')


def _more_than_zero(value: float) -> float:
    if value == 0:
        raise Mistake("0 is too short", 'write it as "5s" or "2m"')
    return value


def _until(value: Any, info: ValidationInfo) -> float | None:
    if value is None or value == "never":
        return None
    try:
        return _more_than_zero(_duration(value, info))
    except Mistake as mistake:
        raise Mistake(mistake.wrong, 'write "never" or a duration, as "12h" or "7d"') from None


_AsDuration = PlainSerializer(format_duration, when_used="json")
Duration = Annotated[float, BeforeValidator(_duration), _AsDuration]
Period = Annotated[float, AfterValidator(_more_than_zero), BeforeValidator(_duration), _AsDuration]
Until = Annotated[
    float | None,
    BeforeValidator(_until),
    PlainSerializer(lambda value: "never" if value is None else format_duration(value), when_used="json"),
]
Size = Annotated[int, BeforeValidator(size), PlainSerializer(format_size, when_used="json")]
AbsolutePath = Annotated[Path, PlainValidator(absolute_path), PlainSerializer(str, when_used="json")]
