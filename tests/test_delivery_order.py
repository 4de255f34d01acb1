"""What goes first, choice by choice, on a real ledger; and that nothing waits for ever behind what keeps coming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.delivery.messages import Deliver
from artifactd.delivery.order import BY_AGE, KEPT, Recent, Turns
from artifactd.ledger import Order, State, Wanted
from artifactd.watching.signature import Signature
from test_delivery_dispatch import Office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.ledger.close()


def small_first(office: Office) -> None:
    office.ledger.use_order(Order.SMALL)
    office.dispatcher._order = Turns(office.ledger, Order.SMALL)


def due(office: Office, run: int, name: str, size: int, due_at: float = 1.0) -> None:
    row, _ = office.ledger.folder(office.root, str(run).encode(), create=True) or (0, "")
    sig = Signature(size, 1, 1, 1)
    office.ledger.want(row, [Wanted(name.encode(), State.DUE, sig, run, "", name, hash((run, name)), due_at)])


def served(office: Office) -> tuple[int, list[str]]:
    """The run and the files of the next job, which are then as good as stored."""
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    office.pool.taken.clear()
    for file in job.files:
        office.ledger.delivered(file, b"d" * 32, size=1, now=10, sent=True, due_again=20)
    office.dispatcher._open.clear()
    return job.run, [file.leaf for file in job.files]


def test_a_big_file_among_small_ones_without_end_has_its_turn(office: Office) -> None:
    small_first(office)
    run = office.run("a", "r1")
    due(office, run, "big", 2**40)
    went: list[str] = []
    for n in range(BY_AGE):
        for m in range(20):  # more than a job takes, by their bytes
            due(office, run, f"small-{n}-{m}", 2**23, due_at=2.0)
        went += served(office)[1]
    assert "big" in went
    assert went[0].startswith("small-0"), "but not first"


def test_a_run_with_big_files_has_its_turn_beside_one_with_small_ones_without_end(office: Office) -> None:
    small_first(office)
    small, big = office.run("a", "r1"), office.run("b", "r2")
    due(office, big, "big", 2**40)
    runs = []
    for n in range(2 * BY_AGE):
        due(office, small, f"small-{n}", 1)
        runs.append(served(office)[0])
    assert runs[0] == small
    assert big in runs


def test_by_age_runs_take_turns_as_ever(office: Office) -> None:
    turns = Turns(office.ledger, Order.AGE)
    for _ in range(2 * BY_AGE):
        assert turns.runs([3, 1, 2], 10.0) == [3, 1, 2]
        assert turns.of_job(1) is Order.AGE
        turns.went(1)


def test_in_another_order_one_in_four_goes_by_age(office: Office) -> None:
    turns = Turns(office.ledger, Order.FRESH)
    orders = []
    for _ in range(2 * BY_AGE):
        orders.append(turns.of_job(1))
        turns.went(1)
    assert orders == [*[Order.FRESH] * (BY_AGE - 1), Order.AGE] * 2


def test_of_runs_without_end_the_last_are_remembered() -> None:
    recent = Recent()
    recent.put(-1, 7)
    recent.put(-2, 8)
    for run in range(KEPT - 2):
        recent.put(run, run + 1)
    recent.put(-1, 9)
    recent.put(KEPT, 1)
    assert (recent.get(-1), recent.get(-2), recent.get(-2, 5), recent.get(0)) == (9, 0, 5, 1)
    assert len(recent._numbers) == KEPT
