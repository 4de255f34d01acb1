"""What is configured and not, or not wholly, there in this version or installation: said plainly, never passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from artifactd.config.presets import lacks_reader
from artifactd.config.problems import Loc, dotted, shown
from artifactd.reading.events import INSTALL, MARK, is_installed

_NOT_YET: tuple[tuple[str, Callable[[Any], bool], str], ...] = (("metrics.listen", bool, "no metrics are served"),)
"""Key, when it asks for more than there is, and what happens instead: a line goes when its feature comes."""


_LACKS = "needs what reads TensorBoard's event files, which is not installed"
_CURE = f"To have them told: {INSTALL}, and a restart"


def notices(config: BaseModel) -> tuple[str, ...]:
    """Give one sentence for each key that is set and does not do, as it is installed here, all that it says."""
    return (*_not_yet(config), *_extras(config))


def _extras(config: BaseModel) -> Iterator[str]:
    for index, watch in enumerate(getattr(config, "watch", ())):
        if lacks_reader(watch.preset):
            key = f"watch[{index}].preset = {shown(watch.preset)}"
            yield f"{key} {_LACKS}: their scalars are not told. {_CURE}."
        for number, route in enumerate(watch.route):
            if route.kind == "metrics" and MARK.decode() in route.match and not is_installed():
                key = f"watch[{index}].route[{number}].match = {shown(route.match)}"
                yield f"{key} {_LACKS}: they fail, though they are stored. {_CURE}."


def _not_yet(config: BaseModel) -> Iterator[str]:
    yield from (
        f"{dotted(loc)} = {shown(value)} is not all there in this version: {instead}."
        for loc, value in _settings(config)
        for key, asks, instead in _NOT_YET
        if key == dotted(tuple(part for part in loc if isinstance(part, str))) and asks(value)
    )


def _settings(table: BaseModel, loc: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    """What was set, defaults left out."""
    for name in type(table).model_fields:
        if name not in table.model_fields_set:
            continue
        value = getattr(table, name)
        tables = value if isinstance(value, tuple) else ()
        if isinstance(value, BaseModel):
            yield from _settings(value, (*loc, name))
        elif any(isinstance(item, BaseModel) for item in tables):
            for index, item in enumerate(tables):
                yield from _settings(item, (*loc, name, index))
        else:
            yield (*loc, name), value
