"""The bill of materials: what the wheel comes with, as CycloneDX JSON, held against schema and environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TOOLS = ("cyclonedx-bom>=7.5,<8",)
SPEC = "1.6"


def command(tools: str, environment: str, pyproject: str, to: str) -> list[str]:
    """The command that writes it, and validates it by the schema; it ends with an error where that says no.

    Args:
        tools: An interpreter whose environment has `TOOLS`.
        environment: The one that the wheel was installed into.
        pyproject: Where the project's own name and licence stand.
        to: The file to write.
    """
    said = ["--sv", SPEC, "--of", "JSON", "--output-reproducible", "--validate", "--pyproject", pyproject]
    return [tools, "-m", "cyclonedx_py", "environment", *said, "-o", to, environment]


OF_THE_ENVIRONMENT = ("pip", "setuptools")
"""What an environment has of its own."""


def wrong_in(text: str, installed: Mapping[str, str]) -> list[str]:
    """What the bill lacks, or says otherwise than it is.

    Args:
        text: It.
        installed: Versions by package, artifactd among them, as the environment has them.
    """
    try:
        bill: dict[str, Any] = json.loads(text)
    except ValueError as exc:
        return [f"it is no JSON: {exc}"]
    if (bill.get("bomFormat"), bill.get("specVersion")) != ("CycloneDX", SPEC):
        return [f"it is no CycloneDX {SPEC}"]
    parts = [bill.get("metadata", {}).get("component", {}), *bill.get("components", [])]
    told = {_plain(str(part.get("name"))): part.get("version") for part in parts}
    wanted = {_plain(name): has for name, has in installed.items() if name not in OF_THE_ENVIRONMENT}
    wrong = [f"it lacks {name} {has}" for name, has in sorted(wanted.items()) if name not in told]
    return wrong + [
        f"it says {name} {told[name]}, installed is {has}"
        for name, has in sorted(wanted.items())
        if told.get(name) not in (None, has)
    ]


def _plain(name: str) -> str:
    """A package's name as all spell it (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")
