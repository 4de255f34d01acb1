"""Pydantic's errors in the words of ``Problem``."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from artifactd.config.problems import Loc, Mistake, shown
from artifactd.config.schema import example, field_at, nearest, table_of


def mistakes(error: ValidationError) -> Iterator[tuple[Loc, Mistake]]:
    """Give each error's key and what is wrong with it."""
    for details in error.errors(include_url=False):
        yield details["loc"], _mistake(details)


def _mistake(details: ErrorDetails) -> Mistake:
    loc, value = details["loc"], details["input"]
    write = f"write {example(loc)}"
    match details["type"]:
        case "value_error" if isinstance(mistake := details["ctx"]["error"], Mistake):
            return mistake
        case "extra_forbidden":
            return Mistake("there is no such key", nearest(loc))
        case "missing":
            return Mistake("it is missing", write)
        case "literal_error":
            return Mistake(f"{shown(value)} is not known", f"write {details['ctx']['expected']}")
        case "string_type":
            return Mistake(f"{shown(value)} is no text", write)
        case "model_type" | "dict_type":
            return Mistake(f"{shown(value)} is no table", write)
        case "tuple_type" if isinstance(value, dict) and (field := field_at(loc)) and table_of(field):
            return Mistake("it is a single table", f"{write}, with two brackets")
        case "tuple_type":
            return Mistake(f"{shown(value)} is no list", write)
        case _:
            return Mistake(f"{shown(value)} cannot be used ({details['msg']})", write)
