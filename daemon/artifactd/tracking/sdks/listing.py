"""How a store is asked for a few objects of a folder: by one page of its listing, which begins where they stand."""

from __future__ import annotations

from collections.abc import Collection

Entry = tuple[str, int, bool]
"""Of what stands directly in a folder: its name, its size in bytes, and whether it is a folder."""

_MOST = 1000
"""Objects that a store lists at a time."""


def page(names: Collection[str]) -> int:
    """How many objects to ask for, to find those of these names: others may stand between them."""
    return min(4 * len(names) + 20, _MOST)
