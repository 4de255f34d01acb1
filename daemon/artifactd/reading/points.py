"""Metric points, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from artifactd.reading.problems import Problem


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric.

    Attributes:
        key: Fit for MLflow.
        value: NaN and the infinities are kept: MLflow takes them.
        step: A number of 64 bits.
        timestamp_ms: Milliseconds since 1970; None if the file says none.
    """

    key: str
    value: float
    step: int
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What one whole row says.

    Attributes:
        number: The row's, from 1 on: so many rows have been read.
        points: Sorted by key, each key once; those of a record of an event file as it has them.
        problems: What in it cannot be told.
    """

    number: int
    points: tuple[Point, ...] = ()
    problems: tuple[Problem, ...] = ()
