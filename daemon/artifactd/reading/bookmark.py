"""How far the points of a growing file have been told, so that each is told once.

A byte offset would not do: Lightning writes its ``metrics.csv`` anew when a column appears. What stays the same is the
sequence of points, for empty cells are none: a bookmark is their number and a digest of them. As long as a file begins
with the same points, what follows is news. When it does not (a new column has values for old rows, or the file was
written anew), the server's history has to be asked, and ``missing`` gives what that lacks.

A point is its key, step and value; its time is none of its identity, for the teller may have set it.
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from artifactd.reading.points import Point

_FORM = struct.Struct(">BQQ16s")
_VERSION = 1
_NUMBERS = struct.Struct(">qd")


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A place in a file's sequence of points.

    Attributes:
        count: Points up to there.
        digest: Of these points; 16 bytes.
        most: The most points that the file ever had up to a bookmark: a file that was cut, and is now about to be
            written again, must not be taken for one that grows.
    """

    count: int = 0
    digest: bytes = hashlib.sha256().digest()[:16]
    most: int = 0

    def to_bytes(self) -> bytes:
        """Write it down; 33 bytes."""
        return _FORM.pack(_VERSION, self.count, self.most, self.digest)

    @classmethod
    def from_bytes(cls, data: bytes) -> Bookmark | None:
        """Read what ``to_bytes`` wrote; None if it is something else, so that the history has to be asked."""
        if len(data) != _FORM.size:
            return None
        version, count, most, digest = _FORM.unpack(data)
        return cls(count, digest, most) if version == _VERSION and count <= most else None


class News:
    """Points to tell, in the file's order; iterate once.

    Between two of them ``bookmark`` may be asked for: it is the one to keep when all those handed out are told.
    """

    def __init__(self, points: Iterator[Point], wanted: Callable[[bytes], bool], place: _Place) -> None:
        self._points, self._wanted, self._place = points, wanted, place

    def __iter__(self) -> Iterator[Point]:
        for point in self._points:
            mark = mark_of(point)
            self._place.pass_by(mark)
            if self._wanted(mark):
                yield point

    @property
    def bookmark(self) -> Bookmark:
        """The place after the last point that was handed out or passed over."""
        return self._place.bookmark


def news(points: Iterable[Point], bookmark: Bookmark) -> News | None:
    """Find what a file says since a bookmark.

    Args:
        points: All of the file's, from its start; those of a row sorted by key. As many as were told are taken at once.
        bookmark: Of the last time; ``Bookmark()`` for a file that was never told.

    Returns:
        The points after the bookmark; None if the file does not begin with the points that were told, or was cut since
        more of them were: then what it lacks is for ``missing`` to say.
    """
    place, rest = _Place(bookmark.most), iter(points)
    while place.count < bookmark.count:
        point = next(rest, None)
        if point is None:
            return None
        place.pass_by(mark_of(point))
    if place.bookmark.digest != bookmark.digest or bookmark.count < bookmark.most:
        return None
    return News(rest, lambda mark: True, place)


class Held:
    """The points that a server holds, each as often as it does; 16 bytes of memory for one."""

    def __init__(self, history: Iterable[tuple[str, int, float]]) -> None:
        """Take in a run's history.

        Args:
            history: Key, step and value of each point, in any order, as MLflow gives them back.
        """
        marks = array("Q", (short_of(mark_of(Point(key, value, step))) for key, step, value in history))
        # One key after another would be sorted in a list of Python's integers: 32 bytes for each while it lasts.
        ordered = sorted(marks)
        self._marks, self._left = array("Q"), array("Q")
        for mark, equal in groupby(ordered):
            self._marks.append(mark)
            self._left.append(sum(1 for _ in equal))

    def take(self, mark: bytes) -> bool:
        """Whether a point is held that was not taken before; takes it."""
        short = short_of(mark)
        index = bisect_left(self._marks, short)
        if index == len(self._marks) or self._marks[index] != short or not self._left[index]:
            return False
        self._left[index] -= 1
        return True


def missing(points: Iterable[Point], held: Held, bookmark: Bookmark | None = None) -> News:
    """Find what a server lacks of a file.

    Args:
        points: All of the file's, from its start.
        held: What the server holds of these keys; it is used up: equal points of the file need as many there.
        bookmark: The one that did not fit; None for one that cannot be read.

    Returns:
        The points that the server does not hold.
    """
    return News(iter(points), lambda mark: not held.take(mark), _Place(bookmark.most if bookmark else 0))


class _Place:
    """A digest that goes along with points."""

    def __init__(self, most: int) -> None:
        self.count, self._most = 0, most
        self._digest = hashlib.sha256()

    def pass_by(self, mark: bytes) -> None:
        self.count += 1
        self._digest.update(mark)

    @property
    def bookmark(self) -> Bookmark:
        return Bookmark(self.count, self._digest.digest()[:16], max(self._most, self.count))


def mark_of(point: Point) -> bytes:
    """A point as bytes that no other one has, and that are the same when a server gives it back."""
    value = point.value
    if math.isnan(value):
        value = math.nan  # there are many
    elif math.isinf(value):
        # As sanitize_metric_value in mlflow.store.tracking.sqlalchemy_store.
        value = math.copysign(sys.float_info.max, value)
    key = point.key.encode("utf-8", "surrogatepass")
    # Adding 0.0 makes -0.0 the zero that SQLite gives back.
    return len(key).to_bytes(4, "big") + key + _NUMBERS.pack(point.step, value + 0.0)


def short_of(mark: bytes) -> int:
    """A mark as a number of 8 bytes, for sets of many."""
    return int.from_bytes(hashlib.blake2b(mark, digest_size=8).digest(), "big")
