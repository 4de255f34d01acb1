"""The kinds of values that keys have: how each is written, what is wrong with it otherwise, how it is shown; tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

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
from artifactd.config.problems import Mistake, shown
from artifactd.config.timetable import Timetable, format_limit, is_timetable, parse_timetable
from artifactd.config.units import format_duration, format_size, is_number, parse_duration, parse_size
from artifactd.excludes import LayoutError
from artifactd.globs import check_glob
from artifactd.layout import parse_template

WRITTEN = "written"
"""Validation context of values that people wrote: there a bare number has no unit."""

_MOST_WORKERS = 64
_LONGEST_NAME = 500  # MLflow's MAX_EXPERIMENT_NAME_LENGTH
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d{1,5})", re.ASCII)


class Table(BaseModel):
    """A table of the configuration: read once, never changed, no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _duration(value: Any, info: ValidationInfo) -> float:
    _require_unit(value, info, "s")
    return parse_duration(value)


def _size(value: Any, info: ValidationInfo) -> int:
    _require_unit(value, info, "B")
    return parse_size(value)


def _limit(value: Any, info: ValidationInfo) -> int | Timetable:
    if isinstance(value, Timetable):
        return value
    if value == "off":
        return 0
    return parse_timetable(value) if is_timetable(value) else _size(value, info)


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


def _workers(value: Any) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST_WORKERS:
        raise Mistake(f"{shown(value)} is no number of workers", f'write "auto" or a number from 1 to {_MOST_WORKERS}')
    return number


def _layout(value: str) -> str:
    try:
        parse_template(value)
    except LayoutError as error:
        raise Mistake(str(error), 'write folder levels joined by "/", as "{experiment}/{run}"') from None
    return value


def _glob(value: str) -> str:
    if (wrong := check_glob(value)) is not None:
        raise Mistake(
            f"the pattern {shown(value)} cannot be used: {wrong}", 'write it as in a .gitignore, as "**/*.tmp"'
        )
    return value


def _positive_glob(value: str) -> str:
    if value.startswith("!"):
        raise Mistake(
            f"the pattern {shown(value)} is an exception, which only exclude can have",
            f"write {shown(value[1:])}, or move it to exclude",
        )
    return _glob(value)


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise Mistake("the list is empty, so nothing would be delivered", 'write ["**"] for everything')
    return value


def one_or_more(value: Any) -> Any:
    """A list, also where a single text was written."""
    return (value,) if isinstance(value, str) else value


def _constant(value: str) -> str:
    if not value.strip():
        raise Mistake("the name is empty", 'write a name, as "vision"')
    if len(value) > _LONGEST_NAME:
        raise Mistake(f"the name has {len(value)} characters", f"write at most {_LONGEST_NAME}, MLflow's limit")
    return value


def _artifact_path(value: str) -> str:
    if value != "." and ("\0" in value or not {"", ".", ".."}.isdisjoint(value.split("/"))):
        raise Mistake(
            f"{shown(value)} is no folder below the run's root",
            'write names joined by "/", as "plots/train", or "." for the root itself',
        )
    return value


def _listen(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise Mistake(f"{shown(value)} is no address", 'write host and port, as "127.0.0.1:9464" or "[::1]:9464"')
    return value


_AsDuration = PlainSerializer(format_duration, when_used="json")
Duration = Annotated[float, BeforeValidator(_duration), _AsDuration]
Period = Annotated[float, AfterValidator(_more_than_zero), BeforeValidator(_duration), _AsDuration]
Until = Annotated[
    float | None,
    BeforeValidator(_until),
    PlainSerializer(lambda value: "never" if value is None else format_duration(value), when_used="json"),
]
Size = Annotated[int, BeforeValidator(_size), PlainSerializer(format_size, when_used="json")]
Limit = Annotated[int | Timetable, PlainValidator(_limit), PlainSerializer(format_limit, when_used="json")]
AbsolutePath = Annotated[Path, PlainValidator(absolute_path), PlainSerializer(str, when_used="json")]
Glob = Annotated[str, AfterValidator(_positive_glob)]
Name = Annotated[str, AfterValidator(_constant)]
Globs = Annotated[tuple[Glob, ...], AfterValidator(_not_empty)]
AnyGlob = Annotated[str, AfterValidator(_glob)]
Template = Annotated[str, AfterValidator(_layout)]
ArtifactFolder = Annotated[str, AfterValidator(_artifact_path)]
Workers = Annotated[int | Literal["auto"], BeforeValidator(_workers)]
Address = Annotated[str, AfterValidator(_listen)]
