"""What may need a person, asked beside a service: what failed, what is held back, what is late, what is not watched."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.errors import Kind
from artifactd.ledger import Blockage, LedgerError, State, Wanted
from artifactd.ledger.needs import Needs, read_needs, stamp
from artifactd.watching.signature import Signature
from cli_support import Book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


def ask(book: Book, later: float = 0.0) -> Needs:
    return read_needs(book.state, time.time() + later)


def test_without_a_ledger_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(LedgerError):
        read_needs(tmp_path, 0.0)
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerError):
        read_needs(tmp_path, 0.0)


def test_nothing_is_wrong(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    book.deliver()
    needs = ask(book, 3600)
    assert needs == Needs(watches=needs.watches)
    assert [(w.path, w.healthy) for w in needs.watches] == [(os.fsencode(book.drop), True)]


def test_failed_files_stand_by_their_run(book: Book) -> None:
    for rel in ("e/one/a", "e/one/b", "e/two/c"):
        book.write(rel)
    book.look()
    book.fail("it cannot be read")
    book.write("e/three/d")
    book.look()
    book.deliver()
    drop = os.fsencode(book.drop)
    one, two = sorted(ask(book).failed)
    assert (one.folder, one.number, two.folder, two.number) == (drop + b"/e/one", 2, drop + b"/e/two", 1)
    assert one.path in {drop + b"/e/one/a", drop + b"/e/one/b"}
    assert two.path == drop + b"/e/two/c"
    assert (two.error, two.cure) == ("it cannot be read", "Give it access")


def test_what_belongs_to_no_run_stands_by_the_watched_folder(book: Book) -> None:
    found = book.ledger.folder(book.root, b"e", create=True)
    assert found is not None
    error, cure = "it cannot be opened", "Give it access"
    for name in (b"one", b"two"):
        row = Wanted(name, State.FAILED, Signature(0, 0, 0, 0), kind=Kind.PERMANENT, error=error, cure=cure)
        book.ledger.want(found[0], [row])
    drop = os.fsencode(book.drop)
    assert ask(book).failed == ((drop, 2, drop + b"/e/one", error, cure, False),), "no try mends it, but a look"


def test_what_is_held_back_is_read_with_its_reason(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    book.hold()
    (run,) = book.rows()
    refused = Blockage(Kind.PAUSED, "no permission", "Ask for it", 1, 0.0)
    book.ledger.block_run(run, refused)
    needs = ask(book)
    assert needs.targets[book.target].kind == Kind.TRANSIENT
    assert needs.runs == {os.fsencode(book.drop / "e" / "r"): refused}


def test_the_oldest_that_is_due_is_late(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    before = time.time()
    book.write("e/r/b")
    assert ask(book).late == (), "it comes to rest"
    (late,) = ask(book, 60).late
    assert (late.root, late.path) == (os.fsencode(book.drop), os.fsencode(book.drop / "e" / "r" / "a"))
    assert before - 5 < late.since < before + book.config.settle + 1


def test_what_is_under_way_may_be_late_too(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    (run,) = book.rows()
    assert book.ledger.claim(run, time.time() + 3600, 1, 2**40)
    (late,) = ask(book, 60).late
    assert late.path.endswith(b"/e/r/a")


def test_one_that_is_tried_again_is_late_after_many_tries(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    for tries in range(1, 13):
        book.fail("a moment, please", Kind.TRANSIENT, next_try=time.time() + 30)
        assert bool(ask(book).late) == (tries == 12), tries
    book.deliver()
    assert ask(book).late == ()


def test_only_the_folders_that_are_watched_count(book: Book) -> None:
    book.write("e/r/a")
    book.write("e/two/b")
    book.look()
    book.fail()
    book.ledger.use_roots([b"/elsewhere"])
    needs = ask(book, 60)
    assert (needs.failed, needs.late, needs.runs) == ((), (), {})
    assert [w.path for w in needs.watches] == [b"/elsewhere"]


def test_asking_changes_nothing_and_each_write_shows(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    before, written = book.ledger.changed_outside(), stamp(book.state)
    ask(book)
    assert book.ledger.changed_outside() == before
    assert stamp(book.state) == written
    book.write("e/r/b")
    book.look()
    assert stamp(book.state) != written
    assert stamp(book.state / "nothing") != written
