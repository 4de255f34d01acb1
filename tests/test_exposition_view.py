"""What the page is told."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger_rows
from artifactd.errors import Kind
from artifactd.exposition.asked import Asked
from artifactd.exposition.counts import Counts
from artifactd.exposition.view import View
from artifactd.ledger import Blockage
from artifactd.metrics import Figures
from cli_support import RUN_ID, Book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path, target="http://somebody:***@mlflow.test")
    yield book
    book.close()


@pytest.fixture
def view(book: Book) -> Iterator[View]:
    with contextlib.closing(Counts(book.state)) as counts:
        yield View(counts, Figures(), lambda: False)


def now(view: View) -> dict[str, Any]:
    said = view.now()
    assert b"\n" not in said
    data: dict[str, Any] = json.loads(said)
    return data


def files(view: View, **query: str) -> list[dict[str, Any]]:
    answer = view.files(Asked(query=query))
    assert (answer.status, answer.kind, answer.policy) == (200, "application/json", "default-src 'none'")
    found: list[dict[str, Any]] = json.loads(answer.content)["files"]
    return found


def test_it_says_how_all_stands_and_the_same_while_nothing_changes(view: View, book: Book) -> None:
    book.write("e/r/a", b"1234")
    book.look()
    book.deliver()
    book.write("e/r/b", b"12")
    book.look()
    book.hold("http://mlflow.test?token=sesame-street refused\x1b[2J and answered 401")
    book.ledger.describe_root(book.root, "scan", healthy=False, detail="scan only: nfs4")
    said = now(view)
    assert said["files"] == {"waiting": 1, "uploading": 0, "stored": 1, "failed": 0, "ignored": 0}
    assert said["bytes"] == {"waiting": 2, "stored": 4, "sent": 4, "unique": 4}
    (watch,) = said["watches"]
    assert watch.pop("cure").startswith("Files are still found, by scans alone")
    assert watch == {"path": str(book.drop), "mode": "scan", "healthy": False, "detail": "scan only: nfs4 [AD709]"}
    assert said["host"] == socket.gethostname(), "an address of a tunnel says nothing"
    (held,) = said["held"]
    assert held["what"] == "http://somebody:***@mlflow.test"
    assert held["error"] == "http://mlflow.test?token=*** refused\\x1b[2J and answered 401 [AD102]"
    assert (said["runs"], said["stalled"], said["rate"]) == (1, False, {"files": 0.0, "bytes": 0.0})
    assert view.now() == view.now()


def test_what_is_named_is_bounded(view: View, book: Book) -> None:
    ledger_rows.fill(book.state, book.drop, files=2000, runs=100, failed=1000)
    for number in range(30):
        book.ledger.use_roots([os.fsencode(book.drop), *(b"/other/%d" % n for n in range(number))])
    said = now(view)
    assert (len(said["watches"]), said["more_watches"]) == (20, 10)
    assert len(view.now()) < 5000
    assert len(files(view)) == 50


def test_a_file_is_told_with_why_and_where(view: View, book: Book) -> None:
    book.write("e/r/a")
    book.look()
    book.deliver()
    (file,) = files(view, show="stored")
    assert (file["state"], file["artifact"], file["experiment"], file["run"]) == ("stored", "a", "e", "r")
    assert file["link"] == f"http://mlflow.test/#/runs/{RUN_ID}"
    book.write(os.fsdecode(b"e/s/\xff\x1b[2J<b>\n"))
    book.look()
    (file,) = files(view)
    assert file["path"] == f"{book.drop}/e/s/\\xff\\x1b[2J<b>\\x0a"
    assert file["why"].startswith("waits for it to come to rest")
    assert file["next"] is not None
    book.fail("password=sesame-street is wrong\x07")
    (file,) = files(view)
    assert (file["state"], file["why"]) == ("failed", "password=*** is wrong\\x07")
    assert file["cure"] == "Give it access; then `artifactd retry`"
    assert (file["tries"], file["link"]) == (1, None)  # its run was never made
    book.write("e/t/b")
    book.look()
    book.fail("the service's user may not read it")
    assert files(view)[-1]["why"] == "the service's user may not read it [AD301]"


def test_what_is_held_back_has_its_code_at_each_file_and_run(view: View, book: Book) -> None:
    book.write("e/r/a")
    book.look()
    book.hold("http://mlflow.test cannot be reached")
    (file,) = files(view)
    assert file["why"].endswith(": http://mlflow.test cannot be reached [AD101]")
    book.ledger.block_run(file["row"], Blockage(Kind.PERMANENT, "run 12 is deleted on the server", "", 1, 0.0))
    whys = [run["why"] for run in json.loads(view.runs(Asked()).content)["runs"]]
    assert "run 12 is deleted on the server [AD401]" in whys
    _, run = now(view)["held"]
    assert (run["next"], run["cure"]) == (None, "See to the reason; then `artifactd retry`"), "nobody tries it"


def test_runs_are_told_newest_first_with_their_counts(view: View, book: Book) -> None:
    ledger_rows.fill(book.state, book.drop, files=300, runs=60, failed=2, waiting=3)
    answer = json.loads(view.runs(Asked()).content)
    assert [run["run"] for run in answer["runs"]] == [f"run-{n:05}" for n in reversed(range(10, 60))]
    rest = json.loads(view.runs(Asked(query={"after": answer["after"]})).content)
    assert rest["after"] is None
    assert (rest["runs"][-1]["run"], rest["runs"][-1]["failed"], rest["runs"][-1]["stored"]) == ("run-00000", 1, 4)
    failed = json.loads(view.runs(Asked(query={"show": "failed"})).content)
    assert [run["run"] for run in failed["runs"]] == ["run-00001", "run-00000"]
    assert failed["version"] == now(view)["version"]
    book.write("e/r/a")
    book.look()
    view._counts.by_run.not_before = time.monotonic() + 60
    assert json.loads(view.runs(Asked()).content)["version"] == failed["version"] != now(view)["version"]
    view.unseen()
    assert len(json.loads(view.runs(Asked(query={"show": "open"})).content)["runs"]) == 6


@pytest.mark.parametrize("query", [{"show": "x"}, {"run": "x"}, {"after": "x"}, {"run": "9" * 30}, {"run": "-1"}])
def test_a_question_that_is_none_is_refused(query: dict[str, str], view: View) -> None:
    assert view.files(Asked(query=query)).status == 400


@pytest.mark.parametrize("query", [{"show": "x"}, {"after": "x"}, {"after": "1" * 19}])
def test_so_is_one_for_runs(query: dict[str, str], view: View) -> None:
    assert view.runs(Asked(query=query)).status == 400
