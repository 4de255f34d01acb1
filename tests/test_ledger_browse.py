"""Pages of files: nothing twice, nothing left out, each at a bounded cost."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ledger_rows
from artifactd.errors import Kind
from artifactd.ledger import LedgerError, browse
from artifactd.ledger.browse import Browser, NoSuchPageError, Wanted
from cli_support import Book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


@pytest.fixture
def browser(book: Book) -> Iterator[Browser]:
    with contextlib.closing(Browser(book.state)) as made:
        yield made


def names(browser: Browser, wanted: Wanted) -> list[list[str]]:
    """The names on each page, to the end."""
    pages = []
    for _ in range(1000):
        page = browser.page(wanted)
        pages.append([os.fsdecode(os.path.basename(file.path)) for file in page.files])
        if page.after is None:
            return pages
        wanted = replace(wanted, after=page.after)
    raise AssertionError("it has no end")


def flat(browser: Browser, wanted: Wanted) -> list[str]:
    return list(itertools.chain(*names(browser, wanted)))


def test_each_state_is_shown_with_all_that_is_in_it(book: Book, browser: Browser) -> None:
    for name in ("a", "b", "x.tmp"):
        book.write(f"e/r/{name}")
    book.look()
    book.deliver()
    book.write("e/s/failed")
    book.look()
    book.fail()
    book.write("e/s/again")
    book.look()
    book.fail("500: oops", Kind.TRANSIENT, next_try=1_900_000_000.0)
    book.write("e/t/waiting")
    book.look()
    found = {choice: sorted(flat(browser, Wanted(choice))) for choice in browse.CHOICES}
    assert found == {
        "open": ["again", "failed", "waiting"],
        "failed": ["failed"],
        "retrying": ["again"],
        "uploading": [],
        "waiting": ["again", "waiting"],
        "stored": ["a", "b"],
        "ignored": ["x.tmp"],
        "all": ["a", "again", "b", "failed", "waiting", "x.tmp"],
    }
    for row in book.rows():
        book.ledger.claim(row, 2**31, 100, 2**40)
    assert sorted(flat(browser, Wanted("uploading"))) == ["again", "waiting"]


@pytest.mark.parametrize("choice", ["open", "failed", "waiting", "stored", "all"])
@pytest.mark.parametrize("looked_at", [7, 20_000])
def test_pages_have_every_file_once(
    choice: str, looked_at: int, book: Book, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "LOOKED_AT", looked_at)
    book.write("top/none/clash")
    book.look()
    book.fail()
    ledger_rows.fill(book.state, book.drop, files=60, runs=7, failed=20, waiting=15)
    with contextlib.closing(sqlite3.connect(book.state / "ledger.db")) as con, con:  # as one whose place is taken
        con.execute("UPDATE files SET run = NULL WHERE name = CAST('clash' AS BLOB)")
    wanted = {"open": 36, "failed": 21, "waiting": 15, "stored": 25, "all": 61}[choice]
    found = flat(browser, Wanted(choice, most=4))
    assert len(found) == len(set(found)) == wanted
    assert max(map(len, names(browser, Wanted(choice, most=4)))) <= 4


def test_text_and_run_choose_among_them(book: Book, browser: Browser) -> None:
    for path in ("vision/big/Model.pt", "vision/big/sub/deep.pt", "vision/bigger/model.pt", "sound/big/model.wav"):
        book.write(path)
    book.write(os.fsdecode(b"vision/big/\xff%_'.bin"))
    book.look()
    runs = {run.run + run.experiment: run.row for run in browser.runs()}
    assert sorted(flat(browser, Wanted(text="MODEL"))) == ["Model.pt", "model.pt", "model.wav"]
    assert sorted(flat(browser, Wanted(text="sion/BIG/"))) == sorted(["Model.pt", "deep.pt", "\udcff%_'.bin"])
    assert flat(browser, Wanted(text="%_'")) == ["\udcff%_'.bin"]
    assert flat(browser, Wanted("all", text="model", run=runs["bigvision"])) == ["Model.pt"]
    assert flat(browser, Wanted("open", run=runs["biggervision"])) == ["model.pt"]
    assert len(flat(browser, Wanted("all", run=runs["bigvision"], most=1))) == 3
    assert flat(browser, Wanted("all", run=10**6)) == []


def test_a_page_costs_the_same_wherever_it_is(book: Book, browser: Browser) -> None:
    """By the steps of SQLite's machine, which no busy processor changes."""
    ledger_rows.fill(book.state, book.drop, files=6000, runs=20, failed=3000)

    def steps(wanted: Wanted) -> int:
        counted = itertools.count()
        browser._con.set_progress_handler(lambda: next(counted) and 0, 1)
        browser.page(wanted)
        browser._con.set_progress_handler(None, 1)
        return next(counted)

    for choice in ("failed", "stored", "all"):
        pages = [Wanted(choice)]
        while (after := browser.page(pages[-1]).after) is not None:
            pages.append(Wanted(choice, after=after))
        first, deep = steps(pages[0]), steps(pages[-2])
        assert deep < 1.5 * first, (choice, first, deep)


def test_it_cannot_write(browser: Browser) -> None:
    with pytest.raises(LedgerError, match="readonly"):
        browser.retry(None)


@pytest.mark.parametrize(
    "after",
    ["x", "[]", "{}", "[99,1,\"61\"]", "[0]", "[0,1,2,3,4,5]", '[0,"1","61"]', '[0,1,"zz"]', "[true,1,\"61\"]",
     f'[0,{2**70},"61"]', "[" * 900, '[-1,1,"61"]', "[" + "1," * 3000 + "1]", "[0,null,\"61\"]"],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(after: str, browser: Browser) -> None:
    with pytest.raises(NoSuchPageError):
        browser.page(Wanted("all", after=after))


def test_a_choice_that_is_none_is_refused(browser: Browser) -> None:
    with pytest.raises(NoSuchPageError, match="no choice"):
        browser.page(Wanted("drop table files"))


def test_runs_come_newest_first_and_in_pages(book: Book, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artifactd.ledger.runviews._STEP", 3)
    ledger_rows.fill(book.state, book.drop, files=40, runs=20, failed=3)
    counts = browser.run_counts()

    def pages(text: str = "", *, failed: bool = False) -> list[str]:
        found, before = list[str](), None
        while True:
            some = browser.newest_runs(
                counts, before=before, text=text, most=4, fits=lambda run: bool(run.failed) or not failed
            )
            found += [run.run for run in some]
            if len(some) < 4:
                return found
            before = some[-1].row

    assert pages() == [f"run-{n:05}" for n in reversed(range(20))]
    assert pages("MANY/run-0001") == [f"run-{n:05}" for n in reversed(range(10, 20))]
    assert pages(failed=True) == ["run-00002", "run-00001", "run-00000"]
    assert {run.run for run in browser.runs()} == set(pages())


def test_damage_is_told_in_words(book: Book, browser: Browser) -> None:
    book.write("e/r/a")
    book.look()
    with contextlib.closing(sqlite3.connect(book.state / "ledger.db")) as con, con:
        con.execute("UPDATE files SET name = 1000000000000")
    for choice in ("open", "all"):
        with pytest.raises(LedgerError, match="makes no sense"):
            browser.page(Wanted(choice))
