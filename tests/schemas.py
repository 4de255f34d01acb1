"""The schemas in docs/, and whether what programs are given is as they say."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
_KINDS: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
                          "null": type(None), "boolean": bool}  # fmt: skip
_CHECKED = {"type", "const", "enum", "pattern", "minimum", "required", "properties", "items", "oneOf", "$ref"}
_SAID = {"$schema", "$defs", "title", "description", "contentEncoding", "format"}


@functools.cache
def schema_of(name: str) -> dict[str, Any]:
    """A schema by its name, as ``status``."""
    schema: dict[str, Any] = json.loads((DOCS / f"{name}.schema.json").read_text(encoding="utf-8"))
    return schema


def hold(value: object, name: str) -> None:
    """Hold real output against its schema; a key that the schema does not name is a mistake, too."""
    schema = schema_of(name)
    _hold(value, schema, schema["title"], schema.get("$defs", {}))


def _hold(value: object, schema: dict[str, Any], at: str, parts: dict[str, Any]) -> None:
    assert schema.keys() <= _CHECKED | _SAID, f"{at}: the schema says more than is looked at here"
    if "$ref" in schema:
        _hold(value, parts[schema["$ref"].removeprefix("#/$defs/")], at, parts)
    if "oneOf" in schema:
        _hold_one(value, schema["oneOf"], at, parts)
    if "const" in schema:
        assert value == schema["const"], at
    if "enum" in schema:
        assert value in schema["enum"], at
    if "type" in schema:
        wanted = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        assert isinstance(value, tuple(_KINDS[kind] for kind in wanted)), f"{at}: {value!r}"
        assert not isinstance(value, bool) or "boolean" in wanted, f"{at}: {value!r}"
    if "pattern" in schema and isinstance(value, str):
        assert re.search(schema["pattern"], value), f"{at}: {value!r}"
    if "minimum" in schema and isinstance(value, int | float):
        assert value >= schema["minimum"], f"{at}: {value!r}"
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), f"{at}: {sorted(value)}"
        for key, inner in value.items():
            _hold(inner, schema["properties"][key], f"{at}: {key}", parts)
    if isinstance(value, list):
        for item in value:
            _hold(item, schema["items"], f"{at}[]", parts)


def _hold_one(value: object, schemas: list[dict[str, Any]], at: str, parts: dict[str, Any]) -> None:
    reasons = []
    for schema in schemas:
        try:
            _hold(value, schema, at, parts)
        except AssertionError as exc:
            reasons.append(str(exc))
    assert len(reasons) == len(schemas) - 1, f"{at}: {reasons}"
