"""Where configuration comes from: the data of each source, and the place of every key in it.

pydantic-settings lays the sources over one another. Until then a list of tables is a table by index, so that
``ARTIFACTD_WATCH__0__SETTLE`` reaches into a file's ``[[watch]]``; a list given as a whole replaces a list.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactd.config.lines import key_lines
from artifactd.config.problems import Loc, Problem, dotted
from artifactd.config.schema import json_example, locate, nearest_variable
from artifactd.text import printable

COMMAND_LINE = "the command line"
DIRECTORY = "DIR"
PREFIX = "ARTIFACTD_"
FILE_VARIABLE = "ARTIFACTD_CONFIG"

Place = tuple[str, int | None]
"""File, ``$VARIABLE``, ``COMMAND_LINE`` or ``DIRECTORY``, and the line where known."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source of configuration.

    Attributes:
        data: Nested tables; a list of tables may be a table by index.
        places: Where keys stand; ``()`` is the source as a whole.
    """

    data: dict[str, Any]
    places: Mapping[Loc, Place] = field(default_factory=dict)

    def depth(self, loc: Loc) -> int:
        """How far down to a key this source goes."""
        node: Any = self.data
        for depth, part in enumerate(loc):
            if isinstance(node, list):
                node = dict(enumerate(node))
            if not isinstance(node, dict) or part not in node:
                return depth
            node = node[part]
        return len(loc)

    def place(self, loc: Loc) -> Place | None:
        """Where a key stands, else something beside it, else the nearest table around it."""
        for end in range(len(loc), 0, -1):
            if found := next((self.places[key] for key in self.places if key[:end] == loc[:end]), None):
                return self.places.get(loc[:end], found)
        return self.places.get(())


def place_of(loc: Loc, sources: Sequence[Source]) -> Place:
    """Say where a key's value comes from, or where it would stand if it is missing.

    Args:
        loc: The key.
        sources: The highest precedence first.
    """
    placed = [(source.depth(loc), place) for source in sources if (place := source.place(loc)) is not None]
    whole = [place for depth, place in placed if depth == len(loc)]
    if whole:
        return whole[0]
    # A key that is missing is missed in the file rather than in what overlays it: the lowest of the nearest.
    return max(reversed(placed), key=lambda found: found[0], default=(0, (COMMAND_LINE, None)))[1]


def merge(sources: Sequence[Source]) -> tuple[dict[str, Any], list[Problem]]:
    """Lay sources over one another.

    Args:
        sources: The highest precedence first.

    Returns:
        The data, with plain lists.
    """
    gaps: list[tuple[Loc, Loc]] = []
    told = [source.data for source in sources if source.data]
    data = _with_lists(_laid(told) if len(told) > 1 else dict(*told), (), gaps)
    problems = []
    for loc, free in gaps:
        file, line = place_of(loc, sources)
        wrong = f"there is no {dotted(free)} before it"
        problems.append(Problem(file, dotted(loc), wrong, "count from 0, without a gap", line))
    return data, problems


def flags(overrides: Mapping[str, Any]) -> Source:
    """Take what was given on the command line: None is not given, a relative path is seen from the current folder."""
    data = _without_none(overrides)
    if isinstance(path := data.get("state_dir"), str | os.PathLike):
        data["state_dir"] = os.path.abspath(os.path.expanduser(path))
    return Source(data, {(): (COMMAND_LINE, None)})


def environment(variables: Mapping[str, str]) -> tuple[Source, list[Problem]]:
    """Read the ``ARTIFACTD_…`` variables; an empty one is not set. Tables and lists are JSON."""
    data: dict[str, Any] = {}
    places: dict[Loc, Place] = {}
    problems: list[Problem] = []
    # JSON first, and then what stands nearer to a single value.
    for name in sorted(variables, key=lambda name: (name.count("__"), name)):
        if not (upper := name.upper()).startswith(PREFIX) or upper == FILE_VARIABLE or not variables[name]:
            continue
        place = f"${name}"
        found = locate(upper.removeprefix(PREFIX).lower().split("__"))
        if found is None:
            problems.append(Problem(place, "", "there is no such key", nearest_variable(upper)))
            continue
        loc, is_json = found
        value: Any = variables[name]
        try:
            value = json.loads(value) if is_json else value
        except (ValueError, RecursionError) as error:
            instead = f"write {json_example(loc)}"
            problems.append(Problem(place, dotted(loc), f"it is no JSON ({error})", instead))
            continue
        if _is_deep(value):
            problems.append(Problem(place, dotted(loc), _DEEP, _FLAT))
            continue
        places[loc] = (place, None)
        if not _put(data, loc, value):
            wrong = "what it belongs to is set as a whole by another variable"
            problems.append(Problem(place, dotted(loc), wrong, "unset one of the two"))
    return Source(data, places), problems


def surroundings(variables: Mapping[str, str]) -> Source:
    """Read what MLflow and systemd say when nobody else does."""
    data: dict[str, Any] = {}
    places: dict[Loc, Place] = {}
    if uri := variables.get("MLFLOW_TRACKING_URI"):
        data["mlflow"] = {"tracking_uri": uri}
        places["mlflow", "tracking_uri"] = ("$MLFLOW_TRACKING_URI", None)
    # systemd.exec(5): several state folders are joined by colons.
    if folder := variables.get("STATE_DIRECTORY", "").partition(":")[0]:
        data["state_dir"] = folder
        places["state_dir",] = ("$STATE_DIRECTORY", None)
    return Source(data, places)


def toml_file(path: Path) -> tuple[Source, list[Problem]]:
    """Read a TOML file.

    Returns:
        Its data, and why it cannot be read, if so.
    """
    name = printable(os.fsencode(path))

    def unreadable(wrong: str, instead: str, line: int | None = None) -> tuple[Source, list[Problem]]:
        return Source({}, {(): (name, None)}), [Problem(name, "", wrong, instead, line)]

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return unreadable("there is no such file", "name a TOML file, by --config or $ARTIFACTD_CONFIG")
    except IsADirectoryError:
        return unreadable("it is a folder", "name a TOML file, by --config or $ARTIFACTD_CONFIG")
    except OSError as error:
        return unreadable(f"it cannot be read ({error.strerror})", "let the service's user read it")
    except UnicodeDecodeError as error:
        return unreadable("it is no UTF-8 text", "save it as UTF-8", error.object.count(b"\n", 0, error.start) + 1)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        at = re.search(r"at line (\d+)", str(error))
        instead = 'mend it; texts stand in quotes, as settle = "5s"'
        return unreadable(f"it is no TOML: {error}", instead, int(at[1]) if at else None)
    if _is_deep(data):
        return unreadable(_DEEP, _FLAT)
    places = {loc: (name, line) for loc, line in key_lines(text).items()}
    return Source(_by_index(data), {(): (name, None), **places}), []


_DEEP, _FLAT = "it is nested too deeply", "see config.example.toml for every key that there is"
_DEEPEST = 16
"""Levels of tables and lists; no key lies half as deep."""


def _is_deep(value: Any) -> bool:
    """Whether what follows would run out of Python's stack, or nearly."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner for item in level if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]  # fmt: skip
    return bool(level)


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def _by_index(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    return {key: _by_index(item) for key, item in value.items()} if isinstance(value, dict) else value


def _laid(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    # It brings asyncio, argparse and ssl, a quarter of a command's start: where one source says it all, for nothing.
    from pydantic_settings import (  # noqa: PLC0415
        BaseSettings,
        InitSettingsSource,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
    )

    class Merged(BaseSettings):
        model_config = SettingsConfigDict(extra="allow")

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: object, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, data) for data in told)

    return Merged().model_extra or {}


def _with_lists(value: Any, loc: Loc, gaps: list[tuple[Loc, Loc]]) -> Any:
    if not isinstance(value, dict):
        return value
    items = {key: _with_lists(item, (*loc, key), gaps) for key, item in value.items()}
    if not items or not all(isinstance(key, int) for key in items):
        return items
    length = next(index for index in range(len(items) + 1) if index not in items)
    gaps += [((*loc, index), (*loc, length)) for index in sorted(items) if index > length]
    return [items[index] for index in range(length)]


def _put(data: dict[str, Any], loc: Loc, value: Any) -> bool:
    node: Any = data
    for part in loc[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return False
    node[loc[-1]] = value
    return True
