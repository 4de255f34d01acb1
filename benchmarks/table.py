"""Rows as people read them: the one table, on a terminal and in the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from rich.table import Table
from rows import OURS, Goal, Row, judged, reached, spread

TITLES = ("work", "artifactd", "beside it", "ratio or difference", "to reach", "reached")
BUSY = 0.1
"""Part of all cores' time that others used from which a machine counts as busy."""


def shown(rows: Iterable[Row]) -> Table:
    """For a terminal."""
    table = Table(title="artifactd beside others: medians (least to greatest of the rounds)", show_lines=True)
    for title in TITLES:
        table.add_column(title, overflow="fold")
    for row in rows:
        color = "" if not row.goals else "green" if all(reached(row, g) for g in row.goals) else "red"
        table.add_row(*cells(row), style=color)
    return table


def page(rows: Iterable[Row]) -> list[str]:
    """The lines of a Markdown table, and of what is to be said of it."""
    rows = list(rows)
    lines = [f"| {' | '.join(TITLES)} | when, at |", f"|{'---|' * (len(TITLES) + 1)}"]
    for row in rows:
        when = f"{row.when[:10]}, {row.commit}{', busy' if row.busy > BUSY else ''}"
        lines.append(f"| {' | '.join(cell.replace(chr(10), '<br>') for cell in (*cells(row), when))} |")
    return lines


def cells(row: Row) -> tuple[str, ...]:
    """A row's cells; several lines where there are several others or marks."""
    others = [_side(row, name) for name in row.sides if name != OURS]
    work = row.work + (f"\n{row.note}" if row.note else "")
    return (
        work, f"{_values(row, row.sides[OURS])}\n{_rounds(row)}", "\n".join(others),
        "\n".join(_outcome(row, goal) for goal in row.goals), "\n".join(_mark(row, goal) for goal in row.goals),
        "\n".join("yes" if reached(row, goal) else "no" for goal in row.goals),
    )  # fmt: skip


def _rounds(row: Row) -> str:
    return f"n = {len(row.sides[OURS])}"


def _side(row: Row, name: str) -> str:
    limit = " (the limit)" if name == row.limit else ""
    return f"{name}{limit}: {_values(row, row.sides[name])}"


def _values(row: Row, values: Sequence[float]) -> str:
    told = [row.amount / v for v in values] if row.amount else list(values)
    low, middle, high = min(told), statistics.median(told), max(told)
    return f"{_number(middle)} {row.unit}" + (f" ({_number(low)}-{_number(high)})" if len(told) > 1 else "")


def _outcome(row: Row, goal: Goal) -> str:
    low, middle, high = spread(judged(row, goal), goal.statistic)
    sign = {"beyond": "+", "faster": "", "costs": "", "value": ""}[goal.kind]
    times = " times" if goal.kind in ("faster", "costs") else ""
    several = len(row.sides[OURS]) > 1
    return f"{sign}{_number(middle)}{times}" + (f" ({_number(low)}-{_number(high)})" if several else "")


def _mark(row: Row, goal: Goal) -> str:
    which = "" if goal.statistic == "median" else f"{goal.statistic} "
    if goal.kind == "faster":
        return f"{which}≥ {goal.bound:g} times {goal.of}"
    if goal.kind == "costs":
        return f"{which}≤ {goal.bound:g} times {goal.of}"
    if goal.kind == "beyond":
        return f"{which}≤ {goal.of} + {goal.bound:g} {row.unit}"
    return f"{which}≤ {goal.bound:g} {row.unit}"


def _number(value: float) -> str:
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.2g}"
        if size
        else "0"
    )
