"""How a folder stands by disk and ledger, and who is waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.ledger import StateLock
from artifactd.waiting import look, service_at, until_stored
from cli_support import Book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path, settle=0.0)
    yield made
    made.close()


def test_a_server_that_is_away_is_75_and_a_failure_3(book: Book) -> None:
    path = os.fsencode(book.drop)
    assert look(book.state, book.watch, path).exit_code == 0
    book.write("e/r/a")
    book.look()
    book.hold()
    now = look(book.state, book.watch, path)
    assert (now.exit_code, [f.error for f in now.left]) == (75, ["http://mlflow.test cannot be reached: refused"])
    book.fail()
    assert look(book.state, book.watch, path).exit_code == 3


def test_a_run_with_all_its_files_is_waited_for_until_it_is_told_its_end(book: Book) -> None:
    book.write("e/r/.done")
    book.look()
    (row,) = book.rows()
    book.deliver()
    path = os.fsencode(book.drop / "e/r")
    assert look(book.state, book.watch, path).ending
    seen = []

    def tell(now: object) -> None:
        seen.append(now)
        if len(seen) == 2:
            book.ledger.set_run_status(row, "FINISHED")

    with book.in_use():
        now = until_stored(book.state, book.watch, path, deadline=60, show=tell)
    assert (now.ending, now.left, now.stored) == (False, (), 1)
    assert len(seen) == 3


def test_a_pass_of_another_command_is_waited_for_and_a_service_is_not(book: Book) -> None:
    with book.in_use():
        assert str(service_at(book.state, None)).startswith("artifactd run")
    lock = StateLock(book.state)
    lock.acquire("artifactd sync")
    assert str(service_at(book.state, 0.1)).startswith("artifactd sync")
    later = threading.Timer(0.5, lock.release)
    begun = time.monotonic()
    later.start()
    assert service_at(book.state, 30) is None
    later.join()
    assert time.monotonic() - begun >= 0.5
