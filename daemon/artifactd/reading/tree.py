"""A table of any format, and its entries with their keys joined by dots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from artifactd.reading.keys import MAX_RAW_CHARACTERS, shown, why_unfit
from artifactd.reading.problems import Problem, Unreadable

MAX_DEPTH = 100
"""Most levels of a table."""


@dataclass(frozen=True, slots=True)
class Table:
    """Keys and values in the file's order; a key may stand in it twice.

    Attributes:
        pairs: Values are text, numbers, truth values, None, dates, lists, or tables.
    """

    pairs: tuple[tuple[str, object], ...]


def leaves(table: Table) -> Iterator[tuple[str, object] | Problem]:
    """Walk through a table in its order.

    Args:
        table: Any.

    Returns:
        The path of each value, keys joined by dots, and the value: a scalar, an empty table, or a list in which no
        table stands at any depth. A list that holds tables is walked through by its indices, ``layers.0.units``.

    Raises:
        Unreadable: It has more than ``MAX_DEPTH`` levels.
    """
    return _below("", table, 0)


def _below(path: str, value: object, depth: int) -> Iterator[tuple[str, object] | Problem]:
    if depth > MAX_DEPTH:
        raise Unreadable(shown(path), f"it is nested more than {MAX_DEPTH} levels deep")
    if len(path) > MAX_RAW_CHARACTERS:
        # Not followed further: a long name before each of many would take memory without end.
        yield Problem(shown(path), why_unfit(path) or "")
    elif isinstance(value, Table) and (value.pairs or not path):
        for key, item in value.pairs:
            yield from _below(f"{path}.{key}" if depth else key, item, depth + 1)
    elif isinstance(value, list) and _has_table(value, depth):
        for index, item in enumerate(value):
            yield from _below(f"{path}.{index}", item, depth + 1)
    else:
        yield path, value


def _has_table(value: object, depth: int) -> bool:
    if depth > MAX_DEPTH:
        raise Unreadable("a list", f"it is nested more than {MAX_DEPTH} levels deep")
    return isinstance(value, Table) or (isinstance(value, list) and any(_has_table(item, depth + 1) for item in value))
