"""``artifactd retry``: by path, or all, and never by accident."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.ledger import State
from cli_support import Book, call, own_environment


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """Three files that failed."""
    with own_environment(tmp_path):
        book = Book(tmp_path)
        for rel in ("e/one/a", "e/one/b", "e/two/c"):
            book.write(rel)
        book.look()
        book.fail()
        yield book
        book.close()


def failed(book: Book) -> int:
    with book.report() as report:
        return report.counts().get(State.FAILED, 0)


def test_by_path(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(book.drop)
    done = call("retry", "e/one/a", book.drop / "e" / "two", "--state-dir", book.state)
    assert (done.exit_code, done.stdout) == (0, "2 files due again\n")
    assert "No service is running" in done.stderr
    assert failed(book) == 1
    assert call("retry", "e/one/a", "--state-dir", book.state).stdout == "No file had failed there\n"


def test_all(book: Book) -> None:
    with book.in_use():
        done = call("retry", "--all", "--state-dir", book.state)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "3 files due again\n", "")
    assert failed(book) == 0


@pytest.mark.parametrize("args", [[], ["e", "--all"]])
def test_nothing_or_both_is_exit_2_with_a_hint(book: Book, args: list[str]) -> None:
    done = call("retry", *args, "--state-dir", book.state)
    assert done.exit_code == 2
    assert "or give --all" in done.stderr
    assert failed(book) == 3


def test_what_a_try_cannot_mend_is_said(tmp_path: Path) -> None:
    with own_environment(tmp_path):
        (tmp_path / "clash").mkdir()
        book = Book(tmp_path / "clash", route=[{"match": "*.png", "artifact_path": "plots"}])
        book.write("e/r/train/x.png")
        book.write("e/r/test/x.png")
        book.look()
        done = call("retry", "--all", "--state-dir", book.state)
        assert done.stdout == "No file had failed there\n"
        assert "1 file cannot be mended by a try" in done.stderr
        book.close()
