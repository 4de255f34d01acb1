"""The shape of the configuration: which keys there are, how each is written, and which one was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from artifactd.config.model import Config
from artifactd.config.problems import Loc, shown

_CLOSE = 0.6
_INDEX = re.compile(r"(?<=__)[0-9]+(?=__|\Z)")


def is_list(field: FieldInfo) -> bool:
    """Whether a key holds a list, of values or of tables."""
    return get_origin(field.annotation) is tuple


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The table that a key holds, one or a list of them; None when it holds values."""
    item = get_args(field.annotation)[0] if is_list(field) else field.annotation
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None


def field_at(loc: Loc) -> FieldInfo | None:
    """The key at a place; None when there is none."""
    table: type[BaseModel] | None = Config
    field = None
    for name in loc:
        if isinstance(name, str):
            field = table.model_fields.get(name) if table else None
            table = table_of(field) if field else None
    return field


def table_at(loc: Loc) -> type[BaseModel] | None:
    """The table at a place; ``()`` is the whole configuration."""
    if not loc:
        return Config
    field = field_at(loc)
    return table_of(field) if field else None


def all_keys(table: type[BaseModel] = Config, loc: Loc = ()) -> Iterator[Loc]:
    """Every key, a table before what is in it; lists of tables with index 0."""
    for name, field in table.model_fields.items():
        yield (*loc, name)
        if (below := table_of(field)) is not None:
            yield from all_keys(below, (*loc, name, 0) if is_list(field) else (*loc, name))


def locate(names: Sequence[str]) -> tuple[Loc, bool] | None:
    """Find the key that an environment variable means.

    Args:
        names: The variable's parts between ``__``, in lower case: ``["watch", "0", "settle"]``.

    Returns:
        The key, and whether its value is a table or a list; None when there is no such key.
    """
    loc: Loc = ()
    field = None
    for name in names:
        if field and is_list(field) and table_of(field) and isinstance(loc[-1], str):
            if not (name.isascii() and name.isdecimal() and len(name) < 5):
                return None
            loc = (*loc, int(name))
        else:
            loc = (*loc, name)
            if (field := field_at(loc)) is None:
                return None
    if field is None:
        return None
    return loc, is_list(field) or table_of(field) is not None or get_origin(field.annotation) is dict


def example(loc: Loc) -> str:
    """How a key is written in TOML: ``settle = "5s"``, ``[retry]``, ``[[watch]]``."""
    names = [part for part in loc if isinstance(part, str)]
    field = field_at(loc)
    if field is not None and table_of(field) is not None:
        return f"[[{'.'.join(names)}]]" if is_list(field) else f"[{'.'.join(names)}]"
    # An entry of a list of values is written with its list.
    return f"{names[-1]} = {shown(example_value(tuple(names)))}"


def json_example(loc: Loc) -> str:
    """How a table or list is written in JSON: ``[{"path": "/data/drop"}]``."""
    field, table = field_at(loc), table_at(loc)
    if table is None:
        return shown(example_value(loc))
    first = next(iter(table.model_fields))
    entry = shown({first: example_value((*loc, first))})
    return f"[{entry}]" if field and is_list(field) and isinstance(loc[-1], str) else entry


def example_value(loc: Loc) -> Any:
    """A value that people might write for a key: its example, else its default as they would write it."""
    table, field = table_at(loc[:-1]), field_at(loc)
    if table is None or field is None:
        return None
    if field.examples:
        return field.examples[0]
    name = str(loc[-1])
    return table.model_construct(None, **{name: field.default}).model_dump(mode="json", include={name})[name]


def nearest(loc: Loc) -> str:
    """Say, in a sentence, which key was meant by one that does not exist."""
    table = table_at(loc[:-1])
    known = list(table.model_fields) if table else []
    name = str(loc[-1])
    if close := difflib.get_close_matches(name.lower(), known, 1, _CLOSE):
        return f"write {close[0]}, the nearest key"
    homes = {str(key[-1]): key[:-1] for key in all_keys()}
    if close := difflib.get_close_matches(name.lower(), homes, 1, _CLOSE):
        home = example(homes[close[0]]) if homes[close[0]] else "the top, before the first table"
        return f"write {close[0]}, the nearest key, in {home}"
    best = difflib.get_close_matches(name.lower(), known, 1, 0.0)
    return f"the nearest key is {''.join(best)}; known here are {', '.join(known)}"


def nearest_variable(name: str) -> str:
    """Say, in a sentence, which environment variable was meant by one that does not exist.

    Args:
        name: The variable, in upper case.
    """
    indexes = iter(_INDEX.findall(name))
    known = [f"ARTIFACTD_{'__'.join(map(str, loc)).upper()}" for loc in all_keys()]
    best = difflib.get_close_matches(name, known, 1, 0.0)[0]
    best = _INDEX.sub(lambda match: next(indexes, match[0]), best)
    return f"write {best}, the nearest key, or unset it"
