"""The ledger from beside: what status and explain read, what retry and verify write."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.ledger import LedgerError, Report, State
from artifactd.ledger.report import Retried, holder
from cli_support import RUN_ID, Book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


def names(report: Report, below: Path | None) -> set[str]:
    path = None if below is None else os.fsencode(below)
    return {os.path.basename(os.fsdecode(file.path)) for file in report.files(below=path)}


def test_below_is_a_folder_and_not_its_namesakes(book: Book) -> None:
    for rel in ("e/r/a", "e/r/sub/b", "e/r2/c", "e/r.x/d", "e/r/sub0", "e0/r/f"):
        book.write(rel)
    book.look()
    with book.report() as report:
        assert names(report, None) == names(report, book.drop) == names(report, Path("/"))
        assert names(report, None) == {"a", "b", "c", "d", "sub0", "f"}
        assert names(report, book.drop / "e" / "r") == {"a", "b", "sub0"}
        assert names(report, book.drop / "e" / "r" / "sub") == {"b"}
        assert names(report, book.drop / "e" / "r" / "sub" / "b") == {"b"}
        assert names(report, book.drop / "e" / "r" / "s") == set()
        assert names(report, book.drop.parent / "dro") == set()
        assert report.counts(os.fsencode(book.drop / "e" / "r")) == {State.DUE: 3}
        assert [r.run for r in report.runs_at(os.fsencode(book.drop / "e" / "r" / "sub"))] == ["r"]
        assert {r.run for r in report.runs_at(os.fsencode(book.drop / "e"))} == {"r", "r2", "r.x"}


def test_an_inactive_root_counts_nowhere(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    book.ledger.use_roots([b"/elsewhere"])
    with book.report() as report:
        assert report.totals().states == {}
        assert report.totals().oldest_due is None
        assert report.files() == []
        assert report.counts(os.fsencode(book.drop)) == {}


def test_retry_makes_failed_files_due_and_frees_what_is_held_back(book: Book) -> None:
    book.write("e/one/a")
    book.write("e/two/b")
    book.look()
    book.fail()
    book.hold()
    with book.report() as report:
        version = book.ledger.changed_outside()
        assert report.retry(os.fsencode(book.drop / "e" / "one")) == Retried(1, 0)
        assert book.ledger.changed_outside() != version, "a running service sees it"
        assert report.counts() == {State.DUE: 1, State.FAILED: 1}
        (due,) = report.files(states=(State.DUE,))
        assert (due.error, due.attempts) == (None, 0)
        assert due.due_at is not None
        assert due.due_at <= time.time()
        assert all(b.next_try == 0 for b in report.blockages().values())
        assert report.retry(None) == Retried(1, 0)
        assert report.retry(None) == Retried(0, 0)


def test_retry_never_sends_a_clash(tmp_path: Path) -> None:
    """Its artifact path belongs to another file: a try would overwrite that one."""
    book = Book(tmp_path, route=[{"match": "*.png", "artifact_path": "plots"}])
    for folder in ("train", "test"):
        book.write(f"e/r/{folder}/loss.png")
    book.look()
    with book.report() as report:
        assert report.counts() == {State.DUE: 1, State.FAILED: 1}
        assert report.retry(None) == Retried(0, 1)
        assert report.counts() == {State.DUE: 1, State.FAILED: 1}
    book.close()


def test_what_is_lost_in_the_store_is_failed_without_a_receipt(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.deliver()
    with book.report() as report:
        (stored,) = report.files()
        assert (stored.run_id, stored.artifact_path, stored.stored_size) == (RUN_ID, "a", 7)
        assert report.lost(stored, "missing in the store", "retry", on_disk=True)
        (lost,) = report.files()
        assert (lost.state, lost.error, lost.digest, lost.stored_at) == (
            State.FAILED,
            "missing in the store",
            None,
            None,
        )
        assert report.retry(os.fsencode(path)) == Retried(1, 0)
    (row,) = book.rows()
    (claimed,) = book.ledger.claim(row, time.time(), 1, 1)
    assert claimed.digest is None, "so it is sent, although its content is the same"


def test_what_was_delivered_anew_is_not_lost(book: Book) -> None:
    book.write("e/r/a", b"old")
    book.look()
    book.deliver()
    with book.report() as report:
        (before,) = report.files()
        book.write("e/r/a", b"newer")
        book.look()
        book.deliver()
        assert not report.lost(before, "the store holds 5 bytes instead of 3", "retry", on_disk=True)
        assert report.counts() == {State.STORED: 1}


def test_holder_tells_who_works_and_does_not_disturb(book: Book) -> None:
    assert holder(book.state) is None
    with book.in_use():
        assert holder(book.state) == f"artifactd run (pid {os.getpid()})"
    assert holder(book.state) is None
    with book.in_use():
        pass


def test_without_a_ledger_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=str(tmp_path / "ledger.db")):
        Report(tmp_path)


def test_a_path_through_links_is_known_by_its_own_name(book: Book, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(book.drop)
    with book.report() as report:
        own = os.fsencode(book.drop)
        assert report.own_path(os.fsencode(tmp_path / "alias" / "e" / "r")) == own + b"/e/r"
        assert report.own_path(os.fsencode(tmp_path / "alias")) == own
        assert report.own_path(own + b"/e/../x/") == own + b"/x"
        assert report.own_path(b"/elsewhere") == b"/elsewhere"


def test_version_moves_with_writes_of_others(book: Book) -> None:
    with book.report() as report:
        before = report.version()
        assert report.version() == before
        book.write("e/r/a")
        book.look()
        assert report.version() != before
