"""JSON, YAML, TOML and ``KEY=value`` files as one kind of table.

The suffix decides which of them a file is (``.json``, ``.yaml``, ``.yml``, ``.toml``, ``.env``, and a file named
``.env`` or ``.env.…``). For any other name the content does: a brace is JSON, ``[`` is TOML, and of the first line that
says something, a ``=`` before any ``:`` is TOML or, when that cannot be read as TOML, ``KEY=value``; the rest is YAML.
"""

from __future__ import annotations

import io
import json
import os
import re
import tomllib

from dotenv.parser import parse_stream

from artifactd.reading.problems import WHOLE, Problem, Unreadable, text_of
from artifactd.reading.tree import Table
from artifactd.reading.yamltext import load_yaml

MAX_BYTES = 1024 * 1024
"""Longest file that is read."""

MAX_TOML_CHARACTERS = 64 * 1024
"""Longest TOML: Python's reader takes quadratic time for a key of many dots, minutes for one of ``MAX_BYTES``."""

_SUFFIXES = {b".json": "json", b".yaml": "yaml", b".yml": "yaml", b".toml": "toml", b".env": "env"}


def read_table(data: bytes, name: bytes) -> tuple[Table, tuple[Problem, ...]]:
    """Read a file of keys and values.

    Args:
        data: The content; ``MAX_BYTES`` and one byte are enough.
        name: The file's own name.

    Returns:
        The table, empty for an empty file; and the lines of a ``KEY=value`` file that are none.

    Raises:
        Unreadable: It is too long, not UTF-8, not of its format, or holds no table.
    """
    if len(data) > MAX_BYTES:
        raise Unreadable(
            WHOLE, f"it is longer than {MAX_BYTES // 1024} KiB", "Write fewer values, or make it an artifact"
        )
    text = text_of(data)
    kind = _kind(name, text)
    if kind == "json":
        return _from_json(text), ()
    if kind == "toml":
        return _from_toml(text), ()
    if kind == "env":
        return _from_env(text)
    return _from_yaml(data), ()


def _kind(name: bytes, text: str) -> str:
    if name == b".env" or name.startswith(b".env."):
        return "env"
    if known := _SUFFIXES.get(os.path.splitext(name)[1].lower()):
        return known
    first = next((line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")), "")
    if first.startswith("{"):
        return "json"
    if first.startswith("["):
        return "toml"
    if not re.match(r"[^:=]*=", first):
        return "yaml"
    if len(text) > MAX_TOML_CHARACTERS:
        return "env"
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return "env"
    return "toml"


def _from_json(text: str) -> Table:
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: Table(tuple(pairs)))
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {error.lineno}", f"not JSON: {error.msg} (column {error.colno})") from None
    except ValueError:
        raise Unreadable(WHOLE, "a number in it has thousands of digits", "Write it in quotes") from None
    except RecursionError:
        raise Unreadable(WHOLE, "it is nested too deeply") from None
    return _top(found)


def _from_yaml(data: bytes) -> Table:
    found = load_yaml(data)
    return Table(()) if found is None else _top(found)


def _from_toml(text: str) -> Table:
    if len(text) > MAX_TOML_CHARACTERS:
        raise Unreadable(WHOLE, f"it is TOML of more than {MAX_TOML_CHARACTERS // 1024} KiB", "Write JSON or YAML")
    try:
        return _top(_tabled(tomllib.loads(text)))
    except RecursionError:
        raise Unreadable(WHOLE, "it is nested too deeply") from None
    except ValueError as error:
        line = re.search(r"at line (\d+)", str(error))
        # The reason alone: what follows it may be a piece of a value.
        reason = str(error).partition(" (at ")[0]
        raise Unreadable(f"line {line[1]}" if line else WHOLE, f"not TOML: {reason}") from None


def _from_env(text: str) -> tuple[Table, tuple[Problem, ...]]:
    pairs, problems = [], []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            original = binding.original
            blank = len(original.string) - len(original.string.lstrip())
            line = original.line + original.string.count("\n", 0, blank)
            problems.append(Problem(f"line {line}", "it is not KEY=value"))
        elif binding.key is not None:
            pairs.append((binding.key, binding.value))
    if problems and not pairs:
        raise Unreadable(problems[0].place, problems[0].reason)
    return Table(tuple(pairs)), tuple(problems)


def _tabled(found: object) -> object:
    if isinstance(found, dict):
        return Table(tuple((key, _tabled(value)) for key, value in found.items()))
    return [_tabled(item) for item in found] if isinstance(found, list) else found


def _top(found: object) -> Table:
    if isinstance(found, Table):
        return found
    kind = "a list" if isinstance(found, list) else "a single value"
    raise Unreadable(WHOLE, f"it holds {kind}, not keys with values", "Write 'key: value' pairs")
