"""What a benchmark has to say: a row with every single round of every side, and the marks that it is held to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

OURS = "artifactd"
"""The side that is held to the marks."""

Kind = Literal["faster", "costs", "beyond", "value"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A mark to reach.

    Attributes:
        kind: ``faster``: the other side's value by ours, at least `bound`. ``costs``: ours by the other side's, at most
            `bound`. ``beyond``: ours less the other side's median, at most. ``value``: ours, at most.
        bound: In the unit of the row, or a ratio.
        of: The other side.
        statistic: Of the rounds.
    """

    kind: Kind
    bound: float
    of: str = ""
    statistic: Literal["median", "p99", "max"] = "median"


@dataclass(slots=True)
class Row:
    """One line of the table.

    Attributes:
        group: Of the benchmarks.
        work: What is done; with `group` the row's name.
        unit: Of what is shown.
        sides: By name every round's value, in the order in which they were measured.
        goals: The marks.
        amount: Where it is not 0, the values are seconds and ``amount / seconds`` is shown.
        limit: The side that is the physical limit; "" where there is none.
        note: What else was seen.
        when: ISO 8601.
        busy: The part of all cores' time that others used just before.
        commit: What was measured.
    """

    group: str
    work: str
    unit: str
    sides: dict[str, list[float]]
    goals: list[Goal] = field(default_factory=list)
    amount: float = 0.0
    limit: str = ""
    note: str = ""
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    busy: float = 0.0
    commit: str = ""

    def to_data(self) -> dict[str, Any]:
        """For JSON; what follows from the rounds is there for readers, and not read back."""
        data = asdict(self)
        data["sides"] = {name: [round(v, 6) for v in values] for name, values in self.sides.items()}
        for goal, told in zip(self.goals, data["goals"], strict=True):
            low, middle, high = spread(judged(self, goal), goal.statistic)
            told.update(low=round(low, 4), reached_value=round(middle, 4), high=round(high, 4))
            told["reached"] = reached(self, goal)
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Row:
        """As `to_data` wrote it."""
        goals = [Goal(g["kind"], g["bound"], g["of"], g["statistic"]) for g in data["goals"]]
        return cls(**{**data, "goals": goals})


def judged(row: Row, goal: Goal) -> list[float]:
    """What is held to a mark: one value of each round, of both sides in the same round where there are two."""
    ours = row.sides[OURS]
    if goal.kind == "value":
        return ours
    others = row.sides[goal.of]
    if goal.kind == "beyond":
        return [value - statistics.median(others) for value in ours]
    pairs = zip(ours, others, strict=True)
    return [other / own if goal.kind == "faster" else own / other for own, other in pairs]


def spread(values: list[float], statistic: str = "median") -> tuple[float, float, float]:
    """The least, the one that counts, and the greatest."""
    ordered = sorted(values)
    middle = {
        "median": statistics.median(ordered), "max": ordered[-1],
        "p99": ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))],
    }[statistic]  # fmt: skip
    return ordered[0], middle, ordered[-1]


def reached(row: Row, goal: Goal) -> bool:
    """Whether the mark is reached."""
    value = spread(judged(row, goal), goal.statistic)[1]
    return value >= goal.bound if goal.kind == "faster" else value <= goal.bound


def interleaved(rounds: int, sides: Mapping[str, Callable[[int], float]]) -> dict[str, list[float]]:
    """Measure all sides in each round, and in each other round the other way round.

    Args:
        rounds: How many.
        sides: By name what does the work, given the round's number, and returns its value.

    Returns:
        By side its value in each round.
    """
    values: dict[str, list[float]] = {name: [] for name in sides}
    for n in range(rounds):
        order = list(sides)
        for name in order if n % 2 == 0 else reversed(order):
            values[name].append(sides[name](n))
    return values
