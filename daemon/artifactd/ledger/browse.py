"""Pages of files for whoever looks through the ledger, each at a bounded cost, however many files there are.

What is not stored is walked over the partial index of its state, everything else over the primary key. A page goes on
from a key and not from a number, so that the thousandth costs what the first one does. Where a filter leaves little, a
page ends after so many rows that were looked at, and says where the next one goes on.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifactd.errors import ArtifactdError
from artifactd.ledger.damage import blob, in_words
from artifactd.ledger.report import Report
from artifactd.ledger.rows import FileId, FileView, State

MOST = 200
"""Files of a page."""

LOOKED_AT = 20_000
"""Rows that a page looks at, at most: some tens of milliseconds."""


_LONGEST = 1000
"""Characters of a cursor: a name of 255 bytes takes 510."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """One stretch of rows in the order of an index.

    Attributes:
        rows: Which, as a condition.
        by: The columns of its order; the last two are the row's key.
        over: The index, None for the primary key.
        of: What of these is wanted, as a condition that no index answers.
    """

    rows: str
    by: tuple[str, ...]
    over: str | None = None
    of: str = "TRUE"


_KEY = ("folder", "name")


def _indexed(state: State, index: str, of: str = "TRUE") -> tuple[_Walk, ...]:
    """The rows in a state: those of no run first, since NULL is beyond comparing."""
    by = ("run", "due_at", *_KEY) if state is State.DUE else ("run", *_KEY)
    none = by[1:] if by[1:] == _KEY else ("due_at", *_KEY)
    return (
        _Walk(f"state = {state:d} AND run IS NULL", none, index, of),
        _Walk(f"state = {state:d} AND run IS NOT NULL", by, index, of),
    )


_FAILED = _indexed(State.FAILED, "failed")
_UPLOADING = _indexed(State.UPLOADING, "uploading")
_DUE = _indexed(State.DUE, "due")

CHOICES: dict[str, tuple[_Walk, ...]] = {
    "open": (*_FAILED, *_UPLOADING, *_DUE),
    "failed": _FAILED,
    "retrying": _indexed(State.DUE, "due", "f.kind IS NOT NULL"),
    "uploading": _UPLOADING,
    "waiting": _DUE,
    "stored": (_Walk("TRUE", _KEY, of=f"f.state = {State.STORED:d}"),),
    "ignored": (_Walk("TRUE", _KEY, of=f"f.state = {State.IGNORED:d}"),),
    "all": (_Walk("TRUE", _KEY),),
}
"""Which files can be asked for, by the word for it; 'open' is all that is neither stored nor ignored."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody looks for.

    Attributes:
        choice: One of ``CHOICES``.
        text: What the path must hold, whatever the case of its letters (of ASCII); "" for anything.
        run: Of this run's row alone; None for any.
        after: Where an earlier page ended; "" for the first one.
        most: Files of the page.
    """

    choice: str = "open"
    text: str = ""
    run: int | None = None
    after: str = ""
    most: int = 50


_CACHE = 128
"""KiB of pages in memory, a sixteenth of SQLite's own: it is open while the service lives, and reads every row. To
count thousands of files takes as long with 64 as with 512."""


@dataclass(frozen=True, slots=True)
class FilePage:
    """Some files, and where to go on.

    Attributes:
        files: In the order of the walk.
        after: For the next page; None when there is none.
    """

    files: list[FileView]
    after: str | None


class NoSuchPageError(ArtifactdError):
    """What was asked for names no choice, or goes on from nowhere."""


@in_words
class Browser(Report):
    """A second pair of eyes that cannot write.

    Raises:
        LedgerError: From the constructor: there is no ledger yet, or it cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self._con.execute("PRAGMA query_only = ON")
        self._con.execute(f"PRAGMA cache_size = -{_CACHE}")

    def page(self, wanted: Wanted) -> FilePage:
        """A page of files of the active roots.

        Raises:
            NoSuchPageError: `wanted` names no choice, or goes on from nowhere.
        """
        walks = CHOICES.get(wanted.choice)
        if walks is None:
            raise NoSuchPageError(f"there is no choice {wanted.choice!r}", f"Ask for one of: {', '.join(CHOICES)}")
        first, key = _place(wanted.after, walks)
        most = max(1, min(wanted.most, MOST))
        found: list[tuple[int, list[Any]]] = []
        budget, stopped = LOOKED_AT, None
        for number in range(first, len(walks)):
            walk = walks[number]
            inner, values = self._rows(walk, wanted.run, key if number == first else [])
            rows = self._con.execute(*_filtered(inner, values, walk, wanted, budget, most + 1 - len(found)))
            found += [(number, list(row)) for row in rows]
            if len(found) > most:
                break
            (seen,) = self._con.execute(f"SELECT count(*) FROM ({inner} LIMIT ?)", (*values, budget)).fetchone()
            budget -= seen
            if budget <= 0:
                last = self._con.execute(f"{inner} LIMIT 1 OFFSET ?", (*values, seen - 1)).fetchone()
                stopped = (number, list(last[: len(walk.by)]))
                break
        if len(found) > most:
            del found[most:]
            stopped = found[-1]
        views = [self.at(FileId(row[-2], blob(row[-1]))) for _, row in found]
        return FilePage([v for v in views if v is not None], None if stopped is None else _cursor(*stopped))

    def _rows(self, walk: _Walk, run: int | None, key: list[Any]) -> tuple[str, list[Any]]:
        where, values = walk.rows, list[Any]()
        if run is not None and walk.over is None:  # no index leads from a run to its files; its folders do
            below, values = self._folders(run)
            where += f" AND folder IN ({below})"
        elif run is not None:
            where += " AND run = ?"
            values.append(run)
        if key:
            where += f" AND ({', '.join(walk.by)}) > ({', '.join('?' * len(key))})"
            values += key
        over = f" INDEXED BY {walk.over}" if walk.over else ""
        by = ", ".join(walk.by)
        return f"SELECT {by}, state, kind, run AS owner FROM files{over} WHERE {where} ORDER BY {by}", values

    def _folders(self, run: int) -> tuple[str, list[Any]]:
        row = self._con.execute("SELECT root, folder FROM runs WHERE id = ?", (run,)).fetchone()
        if row is None:
            return "SELECT 0 WHERE FALSE", []
        root, rel = row[0], blob(row[1])
        if not rel:
            return "SELECT id FROM folders WHERE root = ?", [root]
        # '0' is the byte after '/'
        below = "SELECT id FROM folders WHERE root = ? AND rel > ? AND rel < ?"
        return (
            f"SELECT id FROM folders WHERE root = ? AND rel = ? UNION ALL {below}",
            [root, rel, root, rel + b"/", rel + b"0"],
        )


def _filtered(
    inner: str, values: list[Any], walk: _Walk, wanted: Wanted, budget: int, most: int
) -> tuple[str, list[Any]]:
    keys = ", ".join(f"f.{column}" for column in walk.by)
    sql = (
        f"SELECT {keys} FROM ({inner} LIMIT ?) f CROSS JOIN folders d ON d.id = f.folder"
        f" CROSS JOIN roots ON roots.id = d.root AND roots.active WHERE {walk.of}"
    )
    values = [*values, budget]
    if wanted.run is not None:
        sql += " AND f.owner = ?"
        values.append(wanted.run)
    if wanted.text:
        sql += " AND instr(lower(CAST(roots.path || '/' || d.rel || '/' || f.name AS TEXT)), lower(?)) > 0"
        values.append(wanted.text)
    return f"{sql} LIMIT ?", [*values, most]


def _cursor(walk: int, key: list[Any]) -> str:
    return json.dumps([walk, *key[:-1], blob(key[-1]).hex()], separators=(",", ":"))


def _place(after: str, walks: tuple[_Walk, ...]) -> tuple[int, list[Any]]:
    """The walk and the key that a cursor names.

    Raises:
        NoSuchPageError: It is none of these walks.
    """
    if not after:
        return 0, []
    with contextlib.suppress(ValueError, RecursionError):  # of what is no JSON, or no hexadecimal
        match json.loads(after) if len(after) < _LONGEST else None:
            case [int(walk), *numbers, str(name)] if 0 <= walk < len(walks) and len(numbers) + 1 == len(walks[walk].by):
                if all(type(n) in (int, float) and abs(n) < 2**63 for n in numbers):
                    return walk, [*numbers, bytes.fromhex(name)]
    raise NoSuchPageError("that is no place to go on from", "Begin with the first page")
