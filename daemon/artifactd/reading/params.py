"""Params and tags: a table's entries as MLflow keeps them.

``{"model": {"layers": [64, 32]}, "lr": 0.001}`` becomes ``model.layers`` = ``[64, 32]`` and ``lr`` = ``0.001``. Values
are the text that ``mlflow.log_params`` makes of them, ``str(value)`` (``True``, ``None``, ``0.001``); a list is JSON,
and a list that holds tables is told entry by entry (``stages.0.name``); an empty table is ``{}``. Keys are fitted by
``artifactd.reading.keys``. Of two values of one key the first is told and the other named, unless they are equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from artifactd.reading.keys import (
    MAX_PARAM_CHARACTERS,
    MAX_TAG_CHARACTERS,
    fit,
    shown,
    why_reserved,
    why_unfit,
    why_unfit_value,
)
from artifactd.reading.problems import Problem
from artifactd.reading.tables import read_table
from artifactd.reading.tree import Table, leaves


@dataclass(frozen=True, slots=True)
class Entries:
    """What a file of params or tags says.

    Attributes:
        entries: Keys and values that MLflow takes, in the file's order; each key once.
        problems: What cannot be told.
    """

    entries: tuple[tuple[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()


def read_params(data: bytes, name: bytes) -> Entries:
    """Read a file of params.

    Args:
        data: The content; ``tables.MAX_BYTES`` and one byte are enough.
        name: The file's own name: its suffix decides the format, see ``artifactd.reading.tables``.

    Returns:
        The params; a value longer than ``MAX_PARAM_CHARACTERS`` is a problem, never cut.

    Raises:
        Unreadable: It is not of its format or holds no keys.
    """
    return _read(data, name, MAX_PARAM_CHARACTERS, lambda key: None)


def read_tags(data: bytes, name: bytes) -> Entries:
    """Read a file of tags: as ``read_params``, and MLflow's and artifactd's own tags are problems.

    Args:
        data: The content.
        name: The file's own name.

    Returns:
        The tags; a value longer than ``MAX_TAG_CHARACTERS`` is a problem.

    Raises:
        Unreadable: It is not of its format or holds no keys.
    """
    return _read(data, name, MAX_TAG_CHARACTERS, why_reserved)


def _read(data: bytes, name: bytes, most: int, why_not: Callable[[str], str | None]) -> Entries:
    table, lines = read_table(data, name)
    told: dict[str, str] = {}
    problems = list(lines)
    for leaf in leaves(table):
        if isinstance(leaf, Problem):
            problems.append(leaf)
            continue
        raw, value = leaf
        key, text = fit(raw), _text(value)
        if text is None:
            problems.append(Problem(shown(raw), "it is a number of thousands of digits", "Write it in quotes"))
        elif reason := why_unfit(key) or why_not(key) or why_unfit_value(text, most):
            problems.append(Problem(shown(raw), reason))
        elif told.setdefault(key, text) != text:
            problems.append(Problem(shown(raw), f"the key {shown(key)} stands twice, with different values"))
    return Entries(tuple(told.items()), tuple(problems))


def _text(value: object) -> str | None:
    try:
        if isinstance(value, list):
            return json.dumps(value, default=str, ensure_ascii=False)
        return "{}" if isinstance(value, Table) else str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return None
