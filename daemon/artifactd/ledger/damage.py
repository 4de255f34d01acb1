"""What a damaged ledger makes of a question: words. SQLite checks a page when it reads it, and a value not at all.

So damage shows anywhere, as an error of SQLite's, or as a value that no state, digest or path can be. Both are told as
the ledger's trouble, with its cure: a traceback names neither.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias, TypeVar

from artifactd.ledger import schema

T = TypeVar("T")

STRANGE = (sqlite3.Error, ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""What comes of asking a file that is damaged, or of what it answers."""

Kinds: TypeAlias = tuple[type | tuple[type, ...], ...]

NUMBER, NUMBER_OR_NOT = (int, float), (int, float, NoneType)
TEXT_OR_NOT, BYTES_OR_NOT = (str, NoneType), (bytes, NoneType)
BLOCKAGE: Kinds = (str, str, str, int, NUMBER)
"""A blockage's columns, as ``rows.Blockage`` has them."""

_EFFECTS = frozenset({"close", "transaction", "snapshot"})
"""Methods in which the caller's own errors pass by."""


def blob(value: object) -> bytes:
    """A value that is of bytes, or a ``TypeError``: ``bytes`` itself would make gigabytes of a number."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} where bytes were written")
    return value


def checked(rows: Iterable[tuple[Any, ...]], kinds: Kinds) -> Iterator[tuple[Any, ...]]:
    """Rows of values that are of their columns' kinds: whoever shows them reckons with them.

    Args:
        rows: As SQLite gives them.
        kinds: Of each column.

    Raises:
        TypeError: While iterating: a value is of another kind than was written.
    """
    for row in rows:
        if not all(map(isinstance, row, kinds)):
            raise TypeError("a value of another kind than was written")
        yield row


def told(path: Path, exc: Exception) -> schema.LedgerError:
    """An error among `STRANGE`, for people.

    Args:
        path: The ledger.
        exc: What came of it.
    """
    if isinstance(exc, sqlite3.Error):
        return schema.unusable(path, exc)
    return schema.unusable(path, f"it holds what makes no sense ({type(exc).__name__}: {exc})")


@contextlib.contextmanager
def one_state(con: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Have all that is read meanwhile see one state of the ledger at `path`, which nobody writes to by `con`."""
    try:
        con.execute("BEGIN")
    except sqlite3.Error as exc:
        raise told(path, exc) from exc
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):  # what went wrong before may have ended it
            con.execute("COMMIT")


def in_words(cls: type[T]) -> type[T]:
    """Have all questions of a class, which has a ``path``, raise ``LedgerError`` where the ledger is damaged."""
    for name in dir(cls):
        method = getattr(cls, name)
        told_above = hasattr(method, "__wrapped__")
        if callable(method) and not name.startswith("_") and name not in _EFFECTS and not told_above:
            setattr(cls, name, _telling(method))
    return cls


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def asked(self: Any, *args: Any, **more: Any) -> Any:
        try:
            return method(self, *args, **more)
        except STRANGE as exc:
            raise told(self.path, exc) from exc

    return asked
