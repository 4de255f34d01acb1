"""Every path has an answer: stored, waiting (for what, until when), failed (why), ignored (by which rule)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.config import layout_of
from artifactd.errors import Kind
from artifactd.explain import Answer, Explainer, Summary, Watch
from cli_support import RUN_ID, Book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


def ask(book: Book, path: Path | bytes, *, service: str | None = "artifactd run", now: float | None = None) -> Answer:
    answer = _ask(book, path, service, now)
    assert isinstance(answer, Answer)
    return answer


def ask_folder(book: Book, path: Path, *, examples: int = 10) -> Summary:
    answer = _ask(book, path, "artifactd run", None, examples)
    assert isinstance(answer, Summary)
    return answer


def _ask(
    book: Book, path: Path | bytes, service: str | None, now: float | None, examples: int = 10
) -> Answer | Summary:
    with book.report() as report:
        explainer = Explainer([book.watch], report, service=service, now=now or time.time(), examples=examples)
        return explainer.explain(os.fsencode(path))


def test_a_stored_file(book: Book) -> None:
    path = book.write("vision/run-1/plots/loss#1.png")
    book.look()
    book.deliver()
    answer = ask(book, path)
    assert (answer.state, answer.reason, answer.notes) == ("stored", "", ())
    assert (answer.experiment, answer.run, answer.run_id) == ("vision", "run-1", RUN_ID)
    assert answer.artifact_path == "plots/loss_x23_1.png"
    assert answer.rule == "layout {experiment}/{run}"
    assert (answer.stored_size, answer.size) == (7, 7)
    assert answer.digest is not None
    assert answer.stored_at == pytest.approx(time.time(), abs=60)


def test_a_file_that_is_not_at_rest_yet(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    answer = ask(book, path)
    assert (answer.state, answer.reason) == ("waiting", "it to come to rest: 5 s without a change")
    assert answer.until == pytest.approx(path.stat().st_ctime + 5)
    assert answer.run_id is None


def test_a_file_that_is_at_rest_waits_for_its_turn_and_for_a_service(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    later = time.time() + 60
    assert ask(book, path, now=later).notes == ()
    answer = ask(book, path, service=None, now=later)
    assert (answer.state, answer.reason) == ("waiting", "its turn")
    assert "artifactd sync" in answer.notes[0]


def test_a_file_under_upload(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.ledger.claim(book.rows()[0], time.time() + 60, 1, 100)
    assert ask(book, path).reason == "its upload, which is under way"


def test_a_file_behind_a_target_that_is_held_back(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.hold(wait=60)
    answer = ask(book, path, now=time.time() + 10)
    assert (answer.state, answer.kind, answer.attempts) == ("waiting", "transient", 3)
    assert answer.reason == "http://mlflow.test, where nothing can be sent now"
    assert "cannot be reached" in answer.error
    assert answer.until == pytest.approx(time.time() + 60, abs=5)


def test_a_file_whose_try_failed(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    again = time.time() + 30
    book.fail("500: Internal Server Error", Kind.TRANSIENT, next_try=again)
    answer = ask(book, path)
    assert (answer.state, answer.reason, answer.error) == ("waiting", "its next try", "500: Internal Server Error")
    assert (answer.kind, answer.attempts, answer.until) == ("transient", 1, again)


def test_a_failed_file(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.fail("the service's user may not read it")
    answer = ask(book, path)
    assert (answer.state, answer.kind, answer.attempts) == ("failed", "permanent", 1)
    assert answer.error == "the service's user may not read it"
    assert answer.cure == "Give it access; then `artifactd retry`"


def test_a_file_that_changed_since_it_was_stored(book: Book) -> None:
    path = book.write("e/r/a", b"old")
    book.look()
    book.deliver()
    path.write_bytes(b"new content")
    answer = ask(book, path)
    assert answer.state == "waiting"
    assert "changed since it was stored" in answer.reason
    assert answer.stored_size == 3


def test_a_stored_file_that_is_gone(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.deliver()
    path.unlink()
    answer = ask(book, path)
    assert answer.state == "stored"
    assert answer.notes == ("It is gone from the folder; what is stored stays",)


def test_what_the_ledger_has_not_seen_is_told_by_the_rules(book: Book) -> None:
    answer = ask(book, book.write("vision/run-1/a"))
    assert (answer.state, answer.reason) == ("waiting", "a look: it was not seen yet")
    assert (answer.experiment, answer.run, answer.artifact_path) == ("vision", "run-1", "a")


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
def test_the_rule_by_which_it_is_ignored(book: Book, seen: bool) -> None:
    folder = book.write("e/r/half.tmp").parent
    book.write("stray.txt")
    book.write("e/r/__pycache__/x.pyc")
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "linked").symlink_to(book.drop.parent)
    os.mkfifo(folder / "pipe")
    if seen:
        book.look()
    rules = {
        book.drop / "stray.txt": "above the run level of {experiment}/{run}",
        folder / "half.tmp": "exclude **/*.tmp",
        folder / "__pycache__" / "x.pyc": "exclude **/__pycache__/",
        folder / "link": "symbolic link",
        folder / "linked" / "state": "reached through a symbolic link",
        folder / "pipe": "named pipe",
    }
    for path, rule in rules.items():
        answer = ask(book, path)
        assert (answer.state, answer.rule) == ("ignored", rule), path


def test_a_path_that_is_not_there(book: Book) -> None:
    answer = ask(book, book.drop / "e" / "r" / "nothing")
    assert answer.state == "missing"
    assert answer.artifact_path == "nothing", "and where it would go"
    assert ask(book, book.drop / "nothing").state == "missing"


def test_a_path_outside_of_every_watch_names_the_watches(book: Book) -> None:
    answer = ask(book, Path("/etc/passwd"))
    assert answer.state == "outside"
    assert str(book.drop) in answer.reason


def test_a_watched_folder_that_is_away(book: Book) -> None:
    book.drop.rmdir()
    answer = ask(book, book.drop)
    assert (answer.state, answer.reason) == ("waiting", "the watched folder is not there; it is looked for")


def test_a_path_through_a_link_above_the_watched_folder(book: Book, tmp_path: Path) -> None:
    book.write("e/r/a")
    book.look()
    (tmp_path / "alias").symlink_to(book.drop)
    assert ask(book, tmp_path / "alias" / "e" / "r" / "a").artifact_path == "a"
    assert ask_folder(book, tmp_path / "alias").counts == {"waiting": 1}


def test_a_name_that_is_no_text(book: Book) -> None:
    folder = os.fsencode(book.write("e/r/a").parent)
    with open(folder + b"/\xff\n", "wb"):
        pass
    book.look()
    assert ask(book, folder + b"/\xff\n").artifact_path == "_xFF__x0A_"


def test_a_rule_that_changed_since(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.deliver()
    changed = book.config.model_copy(update={"exclude": ("a",)})
    book.watch = Watch(book.watch.path, layout_of(changed), 5.0)
    answer = ask(book, path)
    assert (answer.state, answer.rule) == ("stored", "exclude a")
    assert answer.notes == ("By the rules of now it is ignored: exclude a",)


def test_a_folder_is_summed_up(book: Book) -> None:
    book.write("e/one/stored")
    book.look()
    book.deliver()
    book.write("e/two/failed")
    book.look()
    book.fail()
    for n in range(3):
        book.write(f"e/two/waiting-{n}")
    book.write("e/two/x.tmp")
    book.look()
    summary = ask_folder(book, book.drop, examples=2)
    assert summary.counts == {"stored": 1, "failed": 1, "waiting": 3, "ignored": 1}
    assert [e.state for e in summary.examples] == ["failed", "waiting"], "failed ones first"
    assert tuple((r.experiment, r.run, r.run_id) for r in summary.runs) == (("e", "one", RUN_ID), ("e", "two", None))
    assert ask_folder(book, book.drop / "e" / "one").counts == {"stored": 1}


def test_a_folder_that_nobody_has_looked_at(book: Book) -> None:
    book.write("e/r/a")
    book.write("e/r/.git/config")
    book.write("stray")
    summary = ask_folder(book, book.drop)
    assert summary.unseen
    assert summary.counts == {"waiting": 1, "ignored": 1}
    assert [e.artifact_path for e in summary.examples] == ["a"]
    assert ask_folder(book, book.drop / "e" / "r" / ".git").rule == "exclude **/.git/"


def test_without_a_ledger_the_rules_answer(book: Book) -> None:
    path = book.write("e/r/a")
    answer = Explainer([book.watch], None, service=None, now=time.time()).explain(os.fsencode(path))
    assert isinstance(answer, Answer)
    assert (answer.state, answer.artifact_path) == ("waiting", "a")
