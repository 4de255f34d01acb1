"""In which order a run's due files are taken, where it is not by age.

What was changed last is what came to rest last: the index by age, read backwards. The other orders have an index of
their own, which is made when the order is chosen and dropped when another one is. It holds what is due and nothing
else: a file at rest costs no byte. What stands at its front may have to wait yet. So no more than a window of it is
read; if nothing in there may go, age decides.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable
from typing import Any

from artifactd.ledger.damage import blob
from artifactd.ledger.rows import Growth
from artifactd.ledger.schema import LEAF, OF_MODELS

WINDOW = 4096
"""Files that are read at least, where so many are due."""


class Order(enum.StrEnum):
    """What goes first."""

    AGE = "age"
    """What has been waiting for longest."""
    FRESH = "fresh"
    """What was changed last."""
    SMALL = "small"
    LARGE = "large"
    NAME = "name"
    """By the path in the run."""


_OPEN = f"f.state = 0 AND f.growth != {Growth.HELD:d} AND NOT f.{OF_MODELS}"
"""Of a file: an ordinary claim may take it, once its time has come. Models are claimed whole."""

_INDEXED = {Order.SMALL: "size", Order.LARGE: "size", Order.NAME: f"place, {LEAF}"}
"""What the index of an order holds besides the run."""

_FIRST = {
    Order.FRESH: "SELECT f.* FROM files f INDEXED BY due WHERE f.run = :run AND f.due_at <= :now AND {open}"
    " ORDER BY f.due_at DESC LIMIT :window",
    Order.SMALL: "SELECT f.* FROM files f INDEXED BY due_order WHERE f.run = :run AND {open}"
    " ORDER BY f.size LIMIT :window",
    Order.LARGE: "SELECT f.* FROM files f INDEXED BY due_order WHERE f.run = :run AND {open}"
    " ORDER BY f.size DESC LIMIT :window",
    # A run's places lie in the order of their paths.
    Order.NAME: "SELECT f.* FROM places p CROSS JOIN files f INDEXED BY due_order ON f.run = p.run AND f.place = p.id"
    " WHERE p.run = :run AND {open} ORDER BY p.dir, {leaf} LIMIT :window",
}
"""The window, in order: read without sorting."""


def use_order(con: sqlite3.Connection, order: Order) -> None:
    """Have the index that an order needs, and no other."""
    wanted = ""
    if order in _INDEXED:
        columns, condition = _INDEXED[order].replace("f.", ""), _OPEN.replace("f.", "")
        wanted = f"CREATE INDEX due_order ON files (run, {columns}) WHERE {condition}"
    row = con.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = 'due_order'").fetchone()
    if (row[0] if row else "") != wanted:
        con.execute("DROP INDEX IF EXISTS due_order")
        if wanted:
            con.execute(wanted)


def first(con: sqlite3.Connection, order: Order, run: int, now: float, limit: int) -> list[tuple[int, bytes, bytes]]:
    """Up to `limit` files of a run whose time has come, in that order.

    Returns:
        Of each the folder, by number, its name, and the folder's path below the root. Nothing where age decides.
    """
    if order not in _FIRST:
        return []
    rows = con.execute(
        f"SELECT f.folder, f.name, d.rel FROM ({_FIRST[order].format(open=_OPEN, leaf=LEAF)}) f CROSS JOIN folders d"
        " ON d.id = f.folder WHERE f.due_at <= :now LIMIT :limit",
        {"run": run, "now": now, "window": max(WINDOW, limit), "limit": limit},
    )
    return [(int(folder), blob(name), blob(rel)) for folder, name, rel in rows]


def ranks(con: sqlite3.Connection, order: Order, runs: Iterable[int], now: float) -> dict[int, Any]:
    """What runs are sorted by, so that the one with the first file goes first. Not for ``AGE``."""
    if order is Order.NAME:
        names = {int(r[0]): (r[1], r[2]) for r in con.execute("SELECT id, experiment, name FROM runs")}
        return {run: names[run] for run in runs}
    key, sign = {Order.FRESH: ("due_at", -1), Order.SMALL: ("size", 1), Order.LARGE: ("size", -1)}[order]
    query = f"SELECT {key} FROM ({_FIRST[order].format(open=_OPEN, leaf=LEAF)})"
    found = {run: con.execute(query, {"run": run, "now": now, "window": 1}).fetchone() for run in runs}
    # A run that has none of these waits for a model, or for its end.
    return {run: (row is None, sign * row[0] if row else 0) for run, row in found.items()}
