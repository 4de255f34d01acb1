"""Metric points of CSV and TSV with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from artifactd.reading.keys import fit, shown, why_unfit
from artifactd.reading.lines import Line
from artifactd.reading.moments import STEPS, TIMES, moment_of, step_of
from artifactd.reading.points import Point, Row
from artifactd.reading.problems import Problem, Unreadable

_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a header says.

    Attributes:
        width: Cells of a row.
        metrics: Index and key, sorted by key.
        step: Index and key of the step's column, or None.
        times: Index and key of columns that may hold the time, the likeliest first; also among `metrics`.
        problems: Columns that cannot be told.
    """

    width: int
    metrics: tuple[tuple[int, str], ...]
    step: tuple[int, str] | None
    times: tuple[int, ...]
    problems: tuple[Problem, ...]


class Feed:
    """The text of lines for ``csv``, which may take several of them for one row."""

    def __init__(self, first: Line, more: Iterator[Line], *, ended: bool) -> None:
        self._lines = chain((first,), more)
        self.ended = ended
        self.start = self.number = first.number
        self.broken = 0
        self.is_over = False

    def begin(self) -> None:
        """A row begins: forget the broken bytes of the one before."""
        self.start, self.broken = 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None or not (line.whole or self.ended):
            self.is_over = True
            raise StopIteration
        self.number, self.broken = line.number, self.broken or line.broken
        self.start = self.start or line.number
        return line.text


def delimiter(header: str, suffix: bytes) -> str:
    """The character between cells.

    Args:
        header: The first line.
        suffix: The file's, lower case; ``.tsv`` decides, for others the header does.
    """
    return "\t" if suffix == b".tsv" else max(_DELIMITERS, key=header.count)


def rows_of(feed: Feed, between: str) -> Iterator[list[str] | str]:
    """Read rows, blank ones left out.

    Args:
        feed: The lines.
        between: The character between cells.

    Returns:
        Cells, or the reason why there are none. A row that the file's end cuts within quotes is left out while the file
        may go on.
    """
    reader = csv.reader(feed, delimiter=between, strict=True)
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if feed.is_over:
                if feed.ended:
                    yield "its quotes are not closed"
                return
            yield f"not CSV: {error}"
            continue
        if feed.broken:
            yield f"byte {feed.broken} of it is not UTF-8"
        elif any(cells):
            yield cells


def from_columns(first: Line, more: Iterator[Line], suffix: bytes, *, ended: bool) -> Iterator[Row]:
    """Read a table with a header.

    Args:
        first: The first line that is not blank: the header.
        more: Those after it.
        suffix: The file's, lower case.
        ended: Nothing will be added to the file; until then a last line without its newline is left.

    Returns:
        A row for each row that is not blank. Cells that are no numbers, and empty ones, say nothing. Without a column
        for the step, a row's number from 0 on is the step. A row with more or fewer cells than the header may be torn:
        it is a problem, and nothing of it is told.

    Raises:
        Unreadable: The header names no columns.
    """
    feed = Feed(first, more, ended=ended)
    rows = rows_of(feed, delimiter(first.text, suffix))
    header = next(rows, None)
    if header is None:
        return
    if isinstance(header, str):
        raise Unreadable(f"line {feed.start}", header)
    columns = _columns(header, feed.start)
    problems = columns.problems
    for number, cells in enumerate(rows, 1):
        place = f"line {feed.start}"
        if isinstance(cells, str):
            yield Row(number, (), (*problems, Problem(place, cells)))
        elif len(cells) != columns.width:
            reason = f"it has {len(cells)} cells, the header {columns.width}"
            yield Row(number, (), (*problems, Problem(place, reason)))
        elif (step := _step(columns, cells, number)) is None:
            reason = f"its {shown(columns.step[1] if columns.step else '')} is no number"
            yield Row(number, (), (*problems, Problem(place, reason)))
        else:
            yield Row(number, _points(columns, cells, step), problems)
        problems = ()


def _columns(header: Sequence[str], line: int) -> _Columns:
    if all(_number(cell) is not None for cell in header):
        raise Unreadable(f"line {line}", "it holds numbers, not the names of columns", "Write a header")
    names = [cell.strip().lower() for cell in header]
    step = next(((names.index(name), header[names.index(name)]) for name in STEPS if name in names), None)
    keys: dict[str, int] = {}
    problems = []
    for index, raw in enumerate(header):
        key = fit(raw)
        # The index of a data frame is written under no name.
        if not key or (step and index == step[0]):
            continue
        if reason := why_unfit(key):
            problems.append(Problem(f"line {line}, {shown(raw)}", reason))
        elif key in keys:
            problems.append(Problem(f"line {line}, {shown(raw)}", "MLflow takes it for an earlier column"))
        else:
            keys[key] = index
    metrics = tuple((keys[key], key) for key in sorted(keys))
    times = tuple(names.index(name) for name in TIMES if name in names)
    return _Columns(len(header), metrics, step, times, tuple(problems))


def _step(columns: _Columns, cells: Sequence[str], number: int) -> int | None:
    return number - 1 if columns.step is None else step_of(_number(cells[columns.step[0]]))


def _points(columns: _Columns, cells: Sequence[str], step: int) -> tuple[Point, ...]:
    timestamp = time = None
    for index in columns.times:
        number = _number(cells[index])
        if (timestamp := moment_of(cells[index] if number is None else number)) is not None:
            time = index
            break
    points = []
    for index, key in columns.metrics:
        if cells[index] and index != time and (value := _number(cells[index])) is not None:
            points.append(Point(key, float(value), step, timestamp))
    if columns.step and (exact := _number(cells[columns.step[0]])) != step and exact is not None:
        points.append(Point(fit(columns.step[1]), float(exact), step, timestamp))
        points.sort(key=lambda point: point.key)
    return tuple(points)


def _number(cell: str) -> float | int | None:
    """A cell's number; Python's own ``1_000`` is text to everybody else."""
    try:
        value = float(cell)
    except ValueError:
        return None
    if "_" in cell:
        return None
    # Past 2**53, floats are not every whole number: a step is read exactly.
    if abs(value) >= 2**53 and cell.strip().lstrip("+-").isdecimal() and abs(value) < 2**64:
        return int(cell)
    return value
