"""On which line of a TOML text each key stands: for messages, so a rough reading is enough."""

from __future__ import annotations

import re

from artifactd.config.problems import Loc

_NAME = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_NAMES = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_LINE = re.compile(rf"\s*(?:\[\[\s*(?P<list>{_NAMES})\s*\]\]|\[\s*(?P<table>{_NAMES})\s*\]|(?P<key>{_NAMES})\s*=)")
_BLOCK_QUOTE = re.compile(r"\"\"\"|'''")


def key_lines(text: str) -> dict[Loc, int]:
    """Find the line of each table and key.

    Args:
        text: Valid TOML.

    Returns:
        Lines, from 1, by key; entries of lists of tables by index. Keys in inline tables are left out.
    """
    lines: dict[Loc, int] = {}
    lengths: dict[Loc, int] = {}
    table: Loc = ()
    in_block = False
    for number, line in enumerate(text.split("\n"), start=1):
        match = None if in_block else _LINE.match(line)
        in_block ^= len(_BLOCK_QUOTE.findall(line)) % 2 == 1
        if match is None:
            continue
        names = [name.strip("\"'") for name in re.findall(_NAME, match[match.lastgroup or 0])]
        loc = table if match.lastgroup == "key" else ()
        for name in names:
            loc = (*loc, name)
            if match.lastgroup == "list" and name is names[-1]:
                lengths[loc] = lengths.get(loc, 0) + 1
            if loc in lengths:
                loc = (*loc, lengths[loc] - 1)
            lines.setdefault(loc, number)
        if match.lastgroup != "key":
            table = loc
    return lines
