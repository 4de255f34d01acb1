"""Claims of files that repeat one another: one job of a run at a time."""

from __future__ import annotations

import pytest

from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import DueFile, State
from artifactd.ledger.rows import Wanted
from artifactd.reading.known import RESULTS, STATE
from test_ledger_ledger import DIGEST, A, Tree, drop, ledger

__all__ = ["drop", "ledger"]  # fixtures


def want(drop: Tree, name: str, role: str, due_at: float = 5.0, *, run: int | None = None) -> None:
    row = Wanted(name.encode(), State.DUE, A, run or drop.run, "", name, hash(name), due_at, role=role)
    drop.ledger.want(drop.folder, [row])


def names(files: list[DueFile]) -> list[str]:
    return [file.leaf for file in files]


def finish(drop: Tree, files: list[DueFile]) -> None:
    for file in files:
        drop.ledger.delivered(file, DIGEST, size=10, now=10, sent=True, due_again=20)


def test_one_job_of_a_run_tells_at_a_time_and_others_are_not_held_up(drop: Tree) -> None:
    for n in range(4):
        want(drop, f"state{n}", STATE, due_at=n)
    want(drop, "plain", "", due_at=8)
    want(drop, "metrics.csv", "metrics", due_at=9)
    want(drop, "train_results.json", RESULTS, due_at=0.5)
    first = drop.claim(limit=2)
    assert names(first) == ["state0", "train_results.json"]
    assert names(drop.claim()) == ["plain", "metrics.csv"]
    assert drop.claim() == []
    finish(drop, first)
    assert names(drop.claim()) == ["state1", "state2", "state3"]


def test_another_run_has_its_own_turn(drop: Tree) -> None:
    other = drop.new_run(b"e/other", "k2")
    want(drop, "a", STATE)
    want(drop, "b", STATE, run=other)
    assert names(drop.claim()) == ["a"]
    assert names(drop.ledger.claim(other, 10, 100, 10**9)) == ["b"]


@pytest.mark.parametrize("way", ["put back", "crash", "failed"])
def test_nobody_waits_for_a_job_that_is_over_however_it_ended(drop: Tree, way: str) -> None:
    want(drop, "a", STATE, due_at=1)
    want(drop, "b", STATE, due_at=2)
    (file,) = drop.claim(limit=1)
    assert drop.claim() == []
    if way == "put back":
        drop.ledger.put_back(file.id)
    elif way == "crash":
        drop.ledger.recover()
    else:
        failure = Failure(Kind.PERMANENT, Scope.FILE, "no", "mend it")
        drop.ledger.not_delivered(file.id, failure, 99, touched=False)
    assert "b" in names(drop.claim())
