"""What is configured and not, or not wholly, there in this version: said plainly, never passed over in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from artifactd.config.presets import special_kinds
from artifactd.config.problems import Loc, dotted, shown

_NOT_YET: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("watch.route.kind", lambda value: value == "model", "the folder is delivered as plain artifacts"),
    ("watch.preset", lambda value: "model" in special_kinds(value), "a model's folder is delivered as plain artifacts"),
    ("upload.bandwidth_limit", bool, "uploads take what bandwidth there is"),
    ("metrics.listen", bool, "no metrics are served"),
)
"""Key, when it asks for more than there is, and what happens instead: a line goes when its feature comes."""


def notices(config: BaseModel) -> tuple[str, ...]:
    """Give one sentence for each key that is set and does not do in this version all that it says."""
    return tuple(
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
