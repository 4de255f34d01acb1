"""Metric points of JSON: one object, a list of them, or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from artifactd.reading.keys import MAX_RAW_CHARACTERS, fit, shown, why_unfit
from artifactd.reading.lines import Line
from artifactd.reading.moments import STEPS, TIMES, moment_of, step_of
from artifactd.reading.points import Point, Row
from artifactd.reading.problems import WHOLE, Problem, Unreadable, text_of
from artifactd.reading.tree import MAX_DEPTH

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
"""Longest JSON document that is no JSON lines: it is read whole, and takes some ten times as much memory."""

# Heterogeneous lines may name ever new keys: past this many, repetitions are no longer kept back.
_MAX_NAMED = 10_000


class Objects:
    """Makes a row of each object; a key that MLflow refuses is named once."""

    def __init__(self) -> None:
        self._number = 0
        self._named: set[int] = set()

    def row(self, found: object, line: int) -> Row:
        """Read one object.

        Args:
            found: As ``json`` loads it.
            line: Where it stands; 0 for an object of a whole document.

        Returns:
            The next row. Without a step of its own, its number from 0 on is the step.
        """
        self._number += 1
        if not isinstance(found, dict):
            return Row(self._number, (), (Problem(self._place(line), "it is no JSON object"),))
        values: dict[str, object] = {}
        problems: list[Problem] = []
        for raw, value in flat("", found, 0):
            if isinstance(value, Problem):
                problems.append(Problem(f"{self._place(line)}, {value.place}", value.reason))
            elif raw in values:
                problems.append(Problem(self._place(line), f"the key {shown(raw)} stands twice"))
            else:
                values[raw] = value
        step, timestamp = self._take(values)
        points: dict[str, Point] = {}
        for raw, value in values.items():
            if not isinstance(value, (int, float)):
                continue
            key = fit(raw)
            reason = why_unfit(key) or (key in points and f"MLflow takes {shown(raw)} for another key of the row")
            try:
                number = float(value)
            except OverflowError:
                number, reason = 0.0, reason or "its number is beyond what MLflow can hold"
            if not reason:
                points[key] = Point(key, number, step, timestamp)
            elif hash(raw) not in self._named:
                problems.append(Problem(f"{self._place(line)}, {shown(raw)}", reason))
                if len(self._named) < _MAX_NAMED:
                    self._named.add(hash(raw))
        return Row(self._number, tuple(points[key] for key in sorted(points)), tuple(problems))

    def skip(self, line: int, reason: str) -> Row:
        """Count a row that cannot be read."""
        self._number += 1
        return Row(self._number, (), (Problem(self._place(line), reason),))

    def _take(self, values: dict[str, object]) -> tuple[int, int | None]:
        """Take the step and the time out of a row's values."""
        by_name = {raw.strip().lower(): raw for raw in reversed(values)}
        step = None
        for name in STEPS:
            if name in by_name and (step := step_of(values[by_name[name]])) is not None:
                if values[by_name[name]] == step:
                    del values[by_name[name]]
                break
        timestamp = None
        for name in TIMES:
            if name in by_name and (timestamp := moment_of(values.get(by_name[name]))) is not None:
                del values[by_name[name]]
                break
        return self._number - 1 if step is None else step, timestamp

    def _place(self, line: int) -> str:
        return f"line {line}" if line else f"row {self._number}"


def from_lines(first: Line, more: Iterator[Line], *, ended: bool) -> Iterator[Row]:
    """Read JSON lines.

    Args:
        first: The first line that is not blank.
        more: Those after it.
        ended: Nothing will be added to the file.

    Returns:
        A row for each line that is not blank. A last line without its newline counts if it is an object already:
        nothing added could change it; else it is left for the next time, or named if the file has ended.
    """
    objects = Objects()
    for line in chain((first,), more):
        if not line.text.strip():
            continue
        found, reason = _loaded(line)
        if not line.whole and not ended and (reason or not isinstance(found, dict)):
            return
        yield objects.skip(line.number, reason) if reason else objects.row(found, line.number)


def from_document(first: Line, stream: BinaryIO, *, ended: bool) -> Iterator[Row]:
    """Read one JSON document: an object, a list of objects, or a ``trainer_state.json`` with its ``log_history``.

    Args:
        first: The first line that is not blank.
        stream: Stands after `first`.
        ended: Nothing will be added to the file; until then, what cannot be read is still being written.

    Raises:
        Unreadable: It is no JSON, or longer than ``MAX_DOCUMENT_BYTES``.
    """
    data = first.text.encode("utf-8", "surrogateescape") + stream.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Unreadable(
            WHOLE,
            f"it is one JSON document of more than {MAX_DOCUMENT_BYTES // 1024**2} MiB",
            "Write JSON lines: one object a line",
        )
    try:
        found = document(data, first.number)
    except Unreadable:
        if not ended:
            return
        raise
    yield from _rows(found)


def document(data: bytes, start: int = 1) -> object:
    """Load a whole JSON document.

    Args:
        data: UTF-8.
        start: The line on which it begins, for messages.

    Raises:
        Unreadable: It is no JSON.
    """
    try:
        return json.loads(text_of(data))
    except (ValueError, RecursionError) as error:
        raise _unreadable(error, start) from None


def _rows(found: object) -> Iterator[Row]:
    objects = Objects()
    history = found.get("log_history") if isinstance(found, dict) else found
    items: Iterable[object] = history if isinstance(history, list) else (found,)
    for item in items:
        yield objects.row(item, 0)


def is_object(line: Line) -> bool:
    """Whether a line is a whole JSON object by itself."""
    found, reason = _loaded(line)
    return not reason and isinstance(found, dict) and not isinstance(found.get("log_history"), list)


def _loaded(line: Line) -> tuple[object, str]:
    if line.broken:
        return None, f"byte {line.broken} of it is not UTF-8"
    try:
        return json.loads(line.text), ""
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} (column {error.colno})"
    except ValueError:
        return None, "a number in it has thousands of digits"
    except RecursionError:
        return None, "it is nested too deeply"


def _unreadable(error: Exception, start: int) -> Unreadable:
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, json.JSONDecodeError):
        return Unreadable(f"line {start + error.lineno - 1}", f"not JSON: {error.msg} (column {error.colno})")
    if isinstance(error, RecursionError):
        return Unreadable(WHOLE, "it is nested too deeply")
    return Unreadable(WHOLE, "a number in it has thousands of digits")


def flat(path: str, found: dict[str, object], depth: int) -> Iterator[tuple[str, object]]:
    """Each value below an object with its keys joined by dots; a ``Problem`` where it is nested too deeply to say.

    Args:
        path: Of `found`, "" at the top.
        found: The object.
        depth: 0 at the top.
    """
    for key, value in found.items():
        below = f"{path}.{key}" if depth else key
        if len(below) > MAX_RAW_CHARACTERS:
            yield below, Problem(shown(below), why_unfit(below) or "")
        elif not isinstance(value, dict):
            yield below, value
        elif depth == MAX_DEPTH:
            yield below, Problem(shown(below), f"it is nested more than {MAX_DEPTH} levels deep")
        else:
            yield from flat(below, value, depth + 1)
