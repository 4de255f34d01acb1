"""Points, params and tags in requests that MLflow takes.

``mlflow.utils.validation`` (3.17): ``_validate_batch_log_limits`` refuses a request of more than
``MAX_METRICS_PER_BATCH``, ``MAX_PARAMS_TAGS_PER_BATCH`` of either kind, or ``MAX_ENTITIES_PER_BATCH`` in all;
``MAX_BATCH_LOG_REQUEST_SIZE`` is 1,000,000 bytes, and nginx in front of a server takes a little more by default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from artifactd.reading.keys import MAX_KEY_CHARACTERS
from artifactd.reading.points import Point

MAX_METRICS = 1000
"""``MAX_METRICS_PER_BATCH``."""

MAX_PARAMS_OR_TAGS = 100
"""``MAX_PARAMS_TAGS_PER_BATCH``: so many of each."""

MAX_ENTITIES = 1000
"""``MAX_ENTITIES_PER_BATCH``: of all three together."""

MAX_REQUEST_BYTES = 1_000_000
"""``MAX_BATCH_LOG_REQUEST_SIZE``."""

# The request as MLflow's client writes it, indented: names of fields, blanks, brackets; numbers at their longest.
_REQUEST_BYTES, _METRIC_BYTES, _PAIR_BYTES = 400, 200, 80

# A key of the longest, each character escaped as a pair of surrogates.
_MOST_METRIC_BYTES = MAX_KEY_CHARACTERS * 12 + 2 + _METRIC_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """One request's content; never empty.

    Attributes:
        metrics: At most ``MAX_METRICS``.
        params: At most ``MAX_PARAMS_OR_TAGS``.
        tags: At most ``MAX_PARAMS_OR_TAGS``.
    """

    metrics: tuple[Point, ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()


def batches(
    points: Iterable[Point] = (), params: Sequence[tuple[str, str]] = (), tags: Sequence[tuple[str, str]] = ()
) -> Iterator[Batch]:
    """Cut what is to be told into requests.

    Args:
        points: Taken one by one, as batches are asked for: when a batch comes out, the points taken are those in it
            and in the ones before, so a ``News``' bookmark asked for then is the one to keep once it is told.
        params: Fit for MLflow, each key once.
        tags: Likewise.

    Returns:
        Params and tags first, in their order, then the points in theirs.
    """
    batch = _Batch()
    for kind, pair in _pairs(params, tags):
        size = _size(pair)
        if not batch.has_room(kind, size):
            yield batch.close()
            batch = _Batch()
        batch.put(kind, pair, size)
    rest = iter(points)
    while True:
        # Before the next point is taken, for what is not in a batch must not count as handed out.
        if not batch.has_room("metrics", _MOST_METRIC_BYTES):
            yield batch.close()
            batch = _Batch()
        if (point := next(rest, None)) is None:
            break
        batch.put("metrics", point, _size(point))
    if batch.entities:
        yield batch.close()


_Pair = tuple[str, str]


def _pairs(params: Sequence[_Pair], tags: Sequence[_Pair]) -> Iterator[tuple[str, _Pair]]:
    # Side by side, a hundred of each go in one request.
    for start in range(0, max(len(params), len(tags)), MAX_PARAMS_OR_TAGS):
        for pair in params[start : start + MAX_PARAMS_OR_TAGS]:
            yield "params", pair
        for pair in tags[start : start + MAX_PARAMS_OR_TAGS]:
            yield "tags", pair


class _Batch:
    """A batch being filled."""

    def __init__(self) -> None:
        self._metrics: list[Point] = []
        self._pairs: dict[str, list[_Pair]] = {"params": [], "tags": []}
        self._bytes = _REQUEST_BYTES

    @property
    def entities(self) -> int:
        return len(self._metrics) + sum(map(len, self._pairs.values()))

    def has_room(self, kind: str, size: int) -> bool:
        of_kind = len(self._metrics) if kind == "metrics" else len(self._pairs[kind])
        most = MAX_METRICS if kind == "metrics" else MAX_PARAMS_OR_TAGS
        fits = not self.entities or self._bytes + size <= MAX_REQUEST_BYTES
        return of_kind < most and self.entities < MAX_ENTITIES and fits

    def put(self, kind: str, entry: Point | _Pair, size: int) -> None:
        self._bytes += size
        if isinstance(entry, Point):
            self._metrics.append(entry)
        else:
            self._pairs[kind].append(entry)

    def close(self) -> Batch:
        return Batch(tuple(self._metrics), tuple(self._pairs["params"]), tuple(self._pairs["tags"]))


def _size(entry: Point | _Pair) -> int:
    """Most bytes that an entry takes in a request: JSON escapes all that is not ASCII."""
    if isinstance(entry, Point):
        return len(json.dumps(entry.key)) + _METRIC_BYTES
    return len(json.dumps(entry[0])) + len(json.dumps(entry[1])) + _PAIR_BYTES
