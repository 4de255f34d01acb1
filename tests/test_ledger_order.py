"""In which order a run's due files are claimed, and how little of a backlog is read for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.ledger import Growth, Ledger, Order, State, Wanted
from artifactd.ledger import order as room
from artifactd.watching.signature import Signature
from test_ledger_ledger import Tree, drop, ledger

__all__ = ["drop", "ledger"]  # fixtures

NOW = 100.0


def want(
    drop: Tree, path: str, size: int = 1, due_at: float = 5.0, *, growth: Growth = Growth.NONE, role: str = ""
) -> None:
    folder, _, name = path.rpartition("/")
    found = drop.ledger.folder(drop.root, f"e/r/{folder}".rstrip("/").encode(), create=True)
    assert found is not None
    row = Wanted(
        name.encode(), State.DUE, Signature(size, 1, 1, 100), drop.run, folder, name, hash(path), due_at,
        growth=growth, role=role,
    )  # fmt: skip
    drop.ledger.want(found[0], [row])


def paths(drop: Tree, order: Order, limit: int = 100, now: float = NOW) -> list[str]:
    """What is claimed next; and that the same is looked at before."""
    looked = drop.ledger.peek(drop.run, now, limit, order)
    files = drop.ledger.claim(drop.run, now, limit, 10**9, order)
    assert [f"{rel.decode()}/{name.decode()}" for rel, name in looked][: len(files)] == [f.rel.decode() for f in files]
    return [f"{f.dir}/{f.leaf}".lstrip("/") for f in files]


def test_each_order_takes_its_own_first(drop: Tree) -> None:
    for path, size, due_at in (("b/big", 900, 8), ("a/old", 50, 1), ("c/tiny", 1, 5), ("a/new", 70, 9)):
        want(drop, path, size, due_at)
    taken = {
        Order.AGE: ["a/old", "c/tiny", "b/big", "a/new"],
        Order.FRESH: ["a/new", "b/big", "c/tiny", "a/old"],
        Order.SMALL: ["c/tiny", "a/old", "a/new", "b/big"],
        Order.LARGE: ["b/big", "a/new", "a/old", "c/tiny"],
        Order.NAME: ["a/new", "a/old", "b/big", "c/tiny"],
    }
    for order, expected in taken.items():
        drop.ledger.use_order(order)
        assert paths(drop, order, limit=2) == expected[:2]
        assert paths(drop, order) == expected[2:]
        drop.ledger.recover()


@pytest.mark.parametrize("order", list(Order))
def test_what_must_wait_yet_what_is_held_and_models_are_passed_over(drop: Tree, order: Order) -> None:
    drop.ledger.use_order(order)
    for n, (size, name) in enumerate(((1, "a"), (10, "m"), (99, "z"))):
        want(drop, f"{name}/later{n}", size, NOW + 1)
        want(drop, f"{name}/held{n}", size, growth=Growth.HELD)
        want(drop, f"{name}/model{n}", size, role="model:1:1:x")
    want(drop, "m/due", 10)
    assert [f.leaf for f in drop.ledger.claim(drop.run, NOW, 100, 10**9, order)] == ["due"]
    assert drop.ledger.claim(drop.run, NOW, 100, 10**9, order) == []


@pytest.mark.parametrize("order", [Order.SMALL, Order.LARGE, Order.NAME])
def test_where_the_front_of_the_order_must_wait_age_decides(
    drop: Tree, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WINDOW", 5)
    drop.ledger.use_order(order)
    for n in range(5):  # the first in each order
        want(drop, f"a/{n}", 1 if order is Order.SMALL else 1000, NOW + 1)
    for n in range(3):
        want(drop, f"b/{n}", 20, 10 - n)
    assert paths(drop, order, limit=3) == ["b/2", "b/1", "b/0"]
    assert sorted(paths(drop, order, limit=5, now=NOW + 1)) == [f"a/{n}" for n in range(5)]


@pytest.mark.parametrize("order", list(Order))
def test_a_claim_reads_along_an_index_and_sorts_nothing(drop: Tree, order: Order) -> None:
    drop.ledger.use_order(order)
    want(drop, "a", 1)
    said: list[str] = []
    drop.ledger._con.set_trace_callback(said.append)
    drop.ledger.peek(drop.run, NOW, 10, order)
    drop.ledger.claim(drop.run, NOW, 10, 10**9, order)
    drop.ledger._con.set_trace_callback(None)
    queries = [text for text in said if text.startswith("SELECT")]
    assert len(queries) > 1
    for query in queries:
        plan = [row[3] for row in drop.ledger._con.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert not [step for step in plan if "TEMP B-TREE" in step], plan
        assert not [step for step in plan if step.startswith("SCAN") and step != "SCAN f"], plan  # of the window
        assert not ("SCAN f" in plan and "CO-ROUTINE f" not in plan), plan


def test_an_order_has_one_index_which_goes_with_it(drop: Tree) -> None:
    def index() -> list[str]:
        found = drop.ledger._con.execute("SELECT sql FROM sqlite_master WHERE name = 'due_order'")
        return [row[0] for row in found]

    seen = []
    for order in (Order.SMALL, Order.LARGE, Order.NAME, Order.FRESH, Order.AGE):
        drop.ledger.use_order(order)
        drop.ledger.use_order(order)
        seen.append(index())
    small, large, name, fresh, age = seen
    assert small == large
    assert len(small) == len(name) == 1
    assert small != name
    assert fresh == age == []


def test_a_ledger_that_is_opened_again_keeps_its_order(drop: Tree, tmp_path: Path) -> None:
    want(drop, "b", 2)
    want(drop, "a", 1)
    drop.ledger.use_order(Order.LARGE)
    drop.ledger.close()
    drop.ledger = Ledger(tmp_path)
    drop.ledger.use_order(Order.LARGE)
    assert paths(drop, Order.LARGE) == ["b", "a"]
    drop.ledger.close()


def test_runs_are_sorted_by_their_first_file(drop: Tree) -> None:
    other, empty = drop.new_run(b"e/q", "k2"), drop.new_run(b"e/p", "k3")
    want(drop, "a", 10, 3)
    drop.ledger.want(drop.folder, [Wanted(b"b", State.DUE, Signature(5, 1, 1, 1), other, "", "b", 7, due_at=2.0)])
    runs = [drop.run, other, empty]
    for order, expected in (
        (Order.SMALL, [other, drop.run, empty]), (Order.LARGE, [drop.run, other, empty]),
        (Order.FRESH, [drop.run, other, empty]), (Order.NAME, runs),
    ):  # fmt: skip
        drop.ledger.use_order(order)
        ranks = drop.ledger.ranks(order, runs, NOW)
        assert sorted(runs, key=ranks.__getitem__) == expected, order


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=30), st.sampled_from(list(Order)))
def test_every_due_file_is_claimed_once_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, int]], order: Order
) -> None:
    drop = Tree(Ledger(tmp_path_factory.mktemp("ledger")))
    try:
        drop.ledger.use_order(order)
        for n, (size, due_at) in enumerate(files):
            want(drop, f"{size}/{n}", size, due_at)
        claimed = []
        while batch := drop.ledger.claim(drop.run, NOW, 7, 10**9, order):
            claimed += [(f.signature.size, f.due_at) for f in batch]
        assert sorted(claimed) == sorted(files)
        if order is Order.SMALL:
            assert [size for size, _ in claimed] == sorted(size for size, _ in files)
    finally:
        drop.ledger.close()
