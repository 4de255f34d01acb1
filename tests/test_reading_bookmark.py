"""Bookmarks: a point counts once whatever restarts, also in a file that is written anew."""

from __future__ import annotations

import io
import math
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from artifactd.reading.batches import batches
from artifactd.reading.bookmark import Bookmark, Held, missing, news
from artifactd.reading.metrics import read_metrics
from artifactd.reading.points import Point

a_point = st.builds(
    Point,
    st.sampled_from(["a", "b", "größe"]),
    st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, 1.0]),
    st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(0, 10),
)
some_points = st.lists(a_point, max_size=20)


def of_csv(text: bytes) -> Iterator[Point]:
    for row in read_metrics(io.BytesIO(text), b"metrics.csv"):
        yield from row.points


def tell(points: list[Point], bookmark: Bookmark) -> tuple[list[Point], Bookmark] | None:
    found = news(points, bookmark)
    return None if found is None else (list(found), found.bookmark)


def as_held(points: list[Point]) -> Held:
    return Held((point.key, point.step, point.value) for point in points)


@given(some_points, some_points)
def test_what_follows_a_bookmark_is_news_and_nothing_else(told: list[Point], more: list[Point]) -> None:
    first = tell(told, Bookmark())
    assert first is not None
    assert first[0] == told
    kept = Bookmark.from_bytes(first[1].to_bytes())
    assert kept == first[1]
    assert kept is not None
    second = tell(told + more, kept)
    assert second is not None
    assert second[0] == more
    assert tell(told + more, second[1]) == ([], second[1])


@given(some_points, st.integers(0, 20), a_point)
def test_a_file_that_begins_otherwise_is_no_news(told: list[Point], index: int, other: Point) -> None:
    found = tell(told, Bookmark())
    assert found is not None
    changed = [*told[:index], other, *told[index + 1 :]]
    same = index >= len(told) or mark_of(other) == mark_of(told[index])
    assert (tell(changed, found[1]) is not None) == same
    if told:
        assert tell(told[:-1], found[1]) is None


def mark_of(point: Point) -> tuple[str, int, str]:
    """A point as MLflow's SQL store keeps it."""
    is_nan, value = SqlAlchemyStore.sanitize_metric_value(None, point.value)
    return point.key, point.step, "nan" if is_nan else repr(value + 0.0)


@given(some_points, some_points)
@example([], [Point("a", math.nan, 0), Point("a", math.inf, 0), Point("a", -math.inf, 0), Point("a", -0.0, 0)])
@example([Point("a", 1.0, 0)] * 2, [Point("a", 1.0, 0)])
def test_the_server_lacks_what_it_does_not_hold_as_often(other: list[Point], file: list[Point]) -> None:
    at_server = [
        (p.key, p.step, math.nan if is_nan else float(value))
        for p in other + file[::2]
        for is_nan, value in [SqlAlchemyStore.sanitize_metric_value(None, p.value)]
    ]
    left = Counter(mark_of(p) for p in other + file[::2])
    wanted = []
    for point in file:
        if left[mark_of(point)]:
            left[mark_of(point)] -= 1
        else:
            wanted.append(point)
    found = missing(file, Held(at_server))
    assert [repr(point) for point in found] == [repr(point) for point in wanted]
    # From there on the bookmark does.
    assert tell(file, found.bookmark) == ([], found.bookmark)


def test_zeros_and_nans_of_either_sign_are_one() -> None:
    file = [Point("a", -0.0, 0), Point("a", math.copysign(math.nan, -1), 1)]
    at_server = [("a", 0, 0.0), ("a", 1, math.nan)]
    assert list(missing(file, Held(at_server))) == []


def test_lightning_writes_its_file_anew_when_a_column_appears() -> None:
    before = b"epoch,step,train_loss\n0,9,0.5\n0,19,0.4\n"
    after = b"epoch,step,train_loss,val_loss\n0,9,0.5,\n0,19,0.4,\n0,19,,0.6\n"
    first = tell(list(of_csv(before)), Bookmark())
    assert first is not None
    second = tell(list(of_csv(after)), first[1])
    assert second is not None
    assert [(point.key, point.value, point.step) for point in second[0]] == [("epoch", 0.0, 19), ("val_loss", 0.6, 19)]


def test_a_column_with_values_for_old_rows_is_for_the_history_to_settle() -> None:
    before, after = b"step,b\n0,1\n1,2\n", b"step,a,b\n0,7,1\n1,8,2\n2,9,3\n"
    first = tell(list(of_csv(before)), Bookmark())
    assert first is not None
    assert tell(list(of_csv(after)), first[1]) is None
    lacking = missing(of_csv(after), as_held(first[0]), first[1])
    assert [(p.key, p.step) for p in lacking] == [("a", 0), ("a", 1), ("a", 2), ("b", 2)]
    assert tell(list(of_csv(after)), lacking.bookmark) == ([], lacking.bookmark)


def test_a_file_that_was_cut_and_is_written_again_is_told_once() -> None:
    whole = [Point("a", float(step), step) for step in range(10)]
    found = tell(whole, Bookmark())
    assert found is not None
    server, bookmark = list(found[0]), found[1]
    # Seen while it is written anew, with ever more of its points.
    for size in (3, 5, 10, 12):
        file = [Point("a", float(step), step) for step in range(size)]
        told = news(file, bookmark)
        if told is None:
            told = missing(file, as_held(server), bookmark)
        server += list(told)
        bookmark = told.bookmark
    assert [point.step for point in server] == list(range(12))
    assert bookmark.most == 12


def test_a_file_that_shrinks_for_good_is_told_on() -> None:
    found = tell([Point("a", float(step), step) for step in range(10)], Bookmark())
    assert found is not None
    short = [Point("b", 0.0, step) for step in range(3)]
    lacking = missing(short, as_held(found[0]), found[1])
    assert list(lacking) == short
    more = [*short, Point("b", 1.0, 3)]
    assert news(more, lacking.bookmark) is None
    assert list(missing(more, as_held([*found[0], *short]), lacking.bookmark)) == [Point("b", 1.0, 3)]


def test_the_bookmark_of_each_batch_is_that_of_the_points_told_so_far() -> None:
    file = [Point("a", float(step), step) for step in range(2500)]
    found = news(file, Bookmark())
    assert found is not None
    seen: list[Point] = []
    kept: list[tuple[int, Bookmark]] = []
    for batch in batches(found):
        seen += batch.metrics
        kept.append((len(seen), found.bookmark))
    assert [count for count, _ in kept] == [1000, 2000, 2500]
    for count, bookmark in kept:
        again = tell(file, bookmark)
        assert again is not None
        assert again[0] == file[count:]


@given(st.binary(max_size=40))
def test_what_is_no_bookmark_is_none(data: bytes) -> None:
    found = Bookmark.from_bytes(data)
    assert found is None or found.to_bytes() == data


@pytest.mark.parametrize("damage", [b"", b"\x02" + Bookmark().to_bytes()[1:], Bookmark(5, b"x" * 16, 4).to_bytes()])
def test_a_bookmark_of_another_make_is_none(damage: bytes) -> None:
    assert Bookmark.from_bytes(damage) is None


def many(count: int) -> Iterator[Point]:
    return (Point("loss", step / 7, step) for step in range(count))


def test_a_long_file_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        found = news(many(20_000), Bookmark())
        assert found is not None
        assert sum(1 for _ in found) == 20_000
        again = news(many(20_001), found.bookmark)
        assert again is not None
        assert [point.step for point in again] == [20_000]
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 100 * 1024
        held = Held((p.key, p.step, p.value) for p in many(20_000))
        used, _ = tracemalloc.get_traced_memory()
        assert used < 20_000 * 24
        assert list(missing(many(20_001), held)) == [Point("loss", 20_000 / 7, 20_000)]
    finally:
        tracemalloc.stop()


def test_the_order_of_a_history_does_not_matter() -> None:
    file = list(many(1000))
    history = [(p.key, p.step, p.value) for p in file[:900]]
    random.Random(6).shuffle(history)  # noqa: S311
    assert list(missing(file, Held(history))) == file[900:]
