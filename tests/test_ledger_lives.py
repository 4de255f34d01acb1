"""Which status follows from what was seen, and what the server is told of it, over answers that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artifactd.ledger import END_REFUSED, Ledger, State, Wanted
from artifactd.ledger.lives import Life
from artifactd.runfolder import MARKERS, End
from artifactd.watching.signature import Signature

DIGEST = b"d" * 32
NOW = 1_000_000.0


class Book:
    """A ledger with one run, r1, that is under way."""

    def __init__(self, base: Path, identity: str = "key") -> None:
        self.ledger = Ledger(base)
        self.root = self.ledger.use_roots([b"/drop"])[b"/drop"]
        self.run = self.ledger.run_for(self.root, b"e/r", "http://m", identity, "e", "r")
        self.folder = (self.ledger.folder(self.root, b"e/r", create=True) or (0, ""))[0]
        self.life = Life(began=5)
        self.ledger.note_life(self.run, self.life)
        self.ledger.set_run_id(self.run, "r1", "RUNNING", self.ledger.run(self.run).settings_text)

    def say(self, **what: object) -> None:
        self.life = replace(self.life, **what)  # type: ignore[arg-type]
        self.ledger.note_life(self.run, self.life)

    def file(self, name: bytes, changed: float = NOW, *, stored: bool = True) -> None:
        signature = Signature(1, 1, int(changed * 1e9), 1)
        dest = int.from_bytes(name[:7], "big")
        self.ledger.want(
            self.folder, [Wanted(name, State.DUE, signature, self.run, "", name.decode(), dest, due_at=1.0)]
        )
        self.ledger.note_change(self.run, changed, "a file changed")
        if stored:
            (due,) = self.ledger.claim(self.run, 9e9, 1, 10**9)
            self.ledger.delivered(due, DIGEST, size=1, now=1, sent=True, due_again=2)

    def end(self) -> End | None:
        ends = [end for _, end in self.ledger.runs_to_end(dict(MARKERS))]
        assert len(ends) <= 1
        return ends[0] if ends else None

    def tell(self, answer: str | None = None) -> End:
        """The server is told what is to be told; None: its answer is lost."""
        end = self.end()
        assert end is not None
        self.ledger.ask_end(self.run, end)
        if answer is not None:
            self.ledger.set_run_status(self.run, answer)
        return end

    def give_up(self, at: float = NOW) -> None:
        self.ledger.abandon(self.run, at, "quiet")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path)
    yield made
    made.ledger.close()


def test_the_word_in_the_marker_and_its_time_are_told_once(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FAILED", marked_at=7, reason="exit code 1")
    assert book.tell("FAILED") == End("FAILED", 7, "exit code 1")
    assert book.end() is None
    book.say(marker="FINISHED", marked_at=8, reason="")
    assert book.tell("FINISHED") == End("FINISHED", 8, "", before="FAILED"), "the marker was written anew"
    assert book.end() is None


def test_a_marker_that_is_gone_ends_nothing_though_its_receipt_stays(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    book.say(marker="", marked_at=None)
    assert book.end() is None


def test_who_keeps_another_status_is_not_asked_again(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    book.tell("KILLED")  # by its own job
    assert book.end() is None
    book.say(marker="", marked_at=None)
    book.file(b"more", NOW + 10)
    assert book.end() is None, "what somebody else has ended is not opened"


def test_an_answer_that_was_lost_is_asked_for_again(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    end = book.tell(None)
    again = book.end()
    assert again is not None
    assert replace(again, before="") == end
    assert again.before == "FINISHED", "which may stand, and is artifactd's own"


def test_a_run_is_given_up_once_nothing_of_it_is_due(book: Book) -> None:
    book.file(b"a", stored=False)
    book.give_up()
    assert book.end() is None
    book.file(b"a")
    book.give_up()
    assert book.tell("KILLED") == End("KILLED", int(NOW * 1000), "quiet")
    assert book.end() is None


def test_what_changes_before_it_was_told_takes_back_that_it_is_given_up(book: Book) -> None:
    book.file(b"a")
    book.give_up()
    book.file(b"b", NOW + 1)
    assert book.end() is None


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "answer lost"])
def test_life_that_comes_back_opens_the_run(book: Book, lost: bool) -> None:
    book.file(b"a")
    book.give_up()
    book.tell(None if lost else "KILLED")
    book.file(b"a", NOW)  # looked at once more, unchanged: no sign of life
    if not lost:
        assert book.end() is None
    book.file(b"b", NOW + 1)
    assert book.tell(None) == End("RUNNING", int((NOW + 1) * 1000), "", before="KILLED")
    assert book.tell("RUNNING").before == "KILLED", "that answer may be lost, too"
    assert book.end() is None
    book.give_up(NOW + 1)
    assert book.tell("KILLED").at == int((NOW + 1) * 1000)


def test_a_run_that_its_marker_ended_is_opened_by_a_change_without_the_marker_alone(book: Book) -> None:
    book.file(b".done", NOW)
    book.say(marker="FINISHED", marked_at=int(NOW * 1000) + 1)
    book.tell("FINISHED")
    book.file(b"late", NOW + 5)
    assert book.end() is None, "files that come later go in, and the status stays"
    book.say(marker="", marked_at=None)
    assert book.tell("RUNNING") == End("RUNNING", int((NOW + 5) * 1000), "", before="FINISHED")
    book.say(marker="FINISHED", marked_at=int(NOW * 1000) + 9000)
    assert book.tell("FINISHED").at == int(NOW * 1000) + 9000


def test_without_a_change_a_marker_that_goes_opens_nothing(book: Book) -> None:
    book.file(b"a", NOW - 1)
    book.file(b".done", NOW - 1)
    book.say(marker="FINISHED", marked_at=int(NOW * 1000))
    book.tell("FINISHED")
    book.say(marker="", marked_at=None)
    assert book.end() is None


def test_a_run_that_is_adopted_is_left_alone_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    book = Book(tmp_path, identity="run:" + "a" * 32)
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    assert book.end() is None
    assert book.ledger.quiet(book.root, NOW + 1, nested=False) == []
    book.say(may_end=True)
    assert book.end() == End("FINISHED", 7)
    book.ledger.close()


def test_an_end_that_was_refused_waits_for_a_person(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    book.tell(None)
    book.ledger.set_run_status(book.run, END_REFUSED)
    assert book.end() is None


def test_a_run_that_is_made_anew_forgets_how_the_other_one_ended(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    book.tell("FINISHED")
    book.ledger.set_run_id(book.run, "r2", "RUNNING", "")
    book.file(b".done")
    assert book.end() == End("FINISHED", 7)


def test_a_run_that_somebody_opened_again_is_ended_again(book: Book) -> None:
    book.file(b".done")
    book.say(marker="FINISHED", marked_at=7)
    book.tell("FINISHED")
    book.ledger.set_run_id(book.run, "r1", "RUNNING", "")
    assert book.end() == End("FINISHED", 7)


def test_a_ledger_that_was_lost_asks_whether_a_killed_run_lives(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.ledger.run_for(book.root, b"e/found", "http://m", "other", "e", "found")
    book.run = book.ledger.run_for(book.root, b"e/found", "http://m", "other", "e", "found")
    book.folder = (book.ledger.folder(book.root, b"e/found", create=True) or (0, ""))[0]
    book.ledger.note_life(book.run, Life())
    book.file(b"a")
    book.ledger.set_run_id(book.run, "r9", "KILLED", "", found=True)
    assert book.tell("KILLED") == End("RUNNING", int(NOW * 1000)), "the server's time of the end decides"
    assert book.end() is None
    book.file(b"b", NOW + 1)
    assert book.end() == End("RUNNING", int((NOW + 1) * 1000))
    book.ledger.close()


def test_a_sign_of_a_nested_run_is_one_of_the_run_that_holds_it(book: Book) -> None:
    child = book.ledger.run_for(book.root, b"e/r/c", "http://m", "kc", "e", "c")
    book.ledger.note_life(child, Life(parent=book.run))
    book.file(b"a")
    book.ledger.note_change(child, NOW + 50, "a file changed")
    assert book.ledger.quiet(book.root, NOW + 49, nested=False) == []
    assert [q.run for q in book.ledger.quiet(book.root, NOW + 50, nested=False)] == [book.run]


def test_what_is_nested_is_told_when_the_run_that_holds_it_is_another_one(book: Book) -> None:
    child = book.ledger.run_for(book.root, b"e/r/c", "http://m", "kc", "e", "c")
    book.ledger.note_life(child, Life(parent=book.run))
    book.ledger.set_run_id(child, "rc", "RUNNING", book.ledger.run(child).settings_text)
    assert book.ledger.runs_to_update("http://m") == []
    book.ledger.set_run_id(book.run, "r2", "RUNNING", book.ledger.run(book.run).settings_text)
    assert [run.id for run in book.ledger.runs_to_update("http://m")] == [child]
    assert book.ledger.nesting(child) == (book.run, False)
    assert book.ledger.nested_in(book.run) == [child]


def test_no_turn_reads_the_runs_that_are_over(book: Book) -> None:
    con = book.ledger._con
    asked: list[str] = []
    con.set_trace_callback(asked.append)
    book.ledger.runs_to_end(dict(MARKERS))
    con.set_trace_callback(None)
    steps = [step for sql in asked for *_, step in con.execute(f"EXPLAIN QUERY PLAN {sql}")]
    whole = [s for s in steps if s.startswith("SCAN") and "INDEX" not in s]
    assert [s for s in whole if s.split()[1] in {"runs", "r", "l", "lives", "files", "f", "o", "d"}] == []


def test_what_an_older_version_has_ended_is_not_told_again(book: Book) -> None:
    book.file(b".done")
    book.ledger.set_run_status(book.run, "FINISHED")
    book.ledger._con.execute("DELETE FROM lives")
    book.say(marker="FINISHED", marked_at=7)
    assert book.end() is None
    book.ledger._con.execute("DELETE FROM lives")
    book.ledger.set_run_status(book.run, "RUNNING")
    assert book.end() == End("FINISHED"), "by the name of what is stored, before the folder was looked at"
