"""The benchmarks run, and say what they must; nothing here is about how fast anything is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from compare import Compared, outermost
from rows import OURS, Goal, Row, interleaved, judged, reached, spread

from support import environment

PROJECT = Path(__file__).parents[1]
BENCHMARKS = PROJECT / "benchmarks"
WITH_SERVERS = {"small", "big", "mixed", "latency", "uploading", "hashing", "calls"}
GROUPS = {path.stem for path in (BENCHMARKS / "groups").glob("*.py")} - {"__init__"}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a server's socket, of which the kernel takes 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.live
@pytest.mark.long
@pytest.mark.timeout(600)
def test_benchmarks_run_and_their_rows_come_into_the_page(tmp_path: Path, short: Path) -> None:
    """At a size that measures nothing; in two processes, since they mostly wait."""
    results = [tmp_path / "servers.json", tmp_path / "none.json"]
    runs = []
    for file, these in zip(results, (WITH_SERVERS, GROUPS - WITH_SERVERS), strict=True):
        command = [sys.executable, str(BENCHMARKS / "bench.py"), "--small", "--only", ",".join(sorted(these))]
        command += ["--results", str(file), "--disk", str(short)]
        with file.with_suffix(".txt").open("w") as said:
            runs.append(subprocess.Popen(command, stdout=said, stderr=said, env=environment()))
    try:
        codes = [run.wait(580) for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert codes == [0, 0], "\n".join(file.with_suffix(".txt").read_text()[-3000:] for file in results)
    rows = [row for file in results for row in json.loads(file.read_text())["rows"]]
    assert {row["group"] for row in rows} == GROUPS
    for row in rows:
        rounds = {len(values) for values in row["sides"].values()}
        assert len(rounds) == 1, row
        assert 0 not in rounds, row
        assert row["goals"], row
        assert all(goal["reached"] in (True, False) for goal in row["goals"]), row
    # A second run replaces its own groups and leaves the others where they are: here both are put together.
    both = tmp_path / "both.json"
    both.write_text(json.dumps({**json.loads(results[0].read_text()), "rows": rows}))
    page = tmp_path / "performance.md"
    shutil.copy(PROJECT / "docs" / "performance.md", page)
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--page", str(page), "--results", str(both)]
    subprocess.run(command, check=True, env=environment(), timeout=60)
    table = page.read_text()
    assert [row["work"] for row in rows if row["work"] not in table] == []


def row_of(ours: list[float], other: list[float], goal: Goal) -> Row:
    return Row("group", "work", "s", {OURS: ours, "other": other}, [goal])


@pytest.mark.parametrize(
    ("goal", "is_reached"),
    [
        (Goal("faster", 2.0, "other"), True),
        (Goal("faster", 2.1, "other"), False),
        (Goal("costs", 0.5, "other"), True),
        (Goal("costs", 0.4, "other"), False),
        (Goal("beyond", -1.0, "other"), True),
        (Goal("beyond", -1.1, "other"), False),
        (Goal("value", 1.0), True),
        (Goal("value", 1.0, statistic="max"), False),
        (Goal("value", 1.2, statistic="p99"), True),
    ],
)
def test_a_mark_is_reached_or_not(goal: Goal, is_reached: bool) -> None:
    row = row_of([1.0, 0.9, 1.2], [2.0, 1.8, 2.4], goal)
    assert reached(row, goal) is is_reached


def test_a_ratio_is_that_of_one_round() -> None:
    """A machine that becomes slower in the middle says nothing of either side."""
    row = row_of([1.0, 10.0], [2.0, 20.0], Goal("faster", 2.0, "other"))
    assert spread(judged(row, row.goals[0])) == (2.0, 2.0, 2.0)


def test_a_row_is_read_back_as_it_was_written() -> None:
    row = row_of([1.0, 0.9], [2.0, 1.8], Goal("faster", 2.0, "other"))
    assert Row.from_data(json.loads(json.dumps(row.to_data()))) == row


def test_sides_take_turns_and_each_other_round_goes_the_other_way() -> None:
    calls: list[str] = []

    def side(name: str, n: int) -> float:
        calls.append(f"{name}{n}")
        return float(n)

    sides = {name: partial(side, name) for name in ("a", "b")}
    assert interleaved(3, sides) == {"a": [0.0, 1.0, 2.0], "b": [0.0, 1.0, 2.0]}
    assert calls == ["a0", "b0", "b1", "a1", "a2", "b2"]


# -- two versions ----------------------------------------------------------------------------------------------------


def compared(ratios: list[float]) -> Compared:
    return Compared("mark", "s", [1.0] * len(ratios), ratios)


def test_more_than_allowed_in_every_round_is_noticed() -> None:
    assert compared([1.12, 1.2, 1.15, 1.11, 1.3, 1.2, 1.15, 1.2, 1.14]).dearer()


def test_one_round_that_was_disturbed_hides_nothing() -> None:
    assert compared([0.5, 1.2, 1.15, 1.11, 1.3, 1.2, 1.15, 1.2, 1.14]).dearer()


def test_what_is_allowed_and_what_may_be_noise_is_not() -> None:
    assert not compared([1.09] * 9).dearer()
    assert not compared([0.7, 0.8, 0.9, 0.95, 1.2, 1.3, 1.4, 1.5, 1.6]).dearer()


@pytest.mark.parametrize(("rounds", "left_out"), [(3, 0), (5, 0), (7, 0), (8, 1), (9, 1), (11, 2)])
def test_rounds_are_left_out_as_chance_allows(rounds: int, left_out: int) -> None:
    assert outermost(rounds) == left_out
