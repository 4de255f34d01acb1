"""``artifactd status``: the contract's JSON, and what people see."""

from __future__ import annotations

import datetime
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

import ledger_rows
from artifactd.cli.overview import as_table
from artifactd.errors import Kind
from artifactd.ledger import Blockage, FileId
from artifactd.runfolder import MARKERS
from artifactd.standing import read
from cli_support import RUN_ID, Book, call, own_environment
from schemas import hold
from support import environment, wait_for


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with own_environment(tmp_path):
        book = Book(tmp_path)
        yield book
        book.close()


def status(book: Book) -> dict[str, Any]:
    done = call("status", "--json", "--state-dir", book.state)
    assert done.exit_code == 0, done.stderr
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def shown(book: Book) -> str:
    return call("status", "--state-dir", book.state).stdout


def test_json_is_the_contract(book: Book) -> None:
    book.write("vision/run-1/a", b"12345")
    last = book.write("vision/run-1/x.tmp").stat().st_ctime
    changed = f"{datetime.datetime.fromtimestamp(last, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    book.look()
    book.deliver()
    failed = book.write("vision/run-2/unreadable")
    book.look()
    book.fail("the service's user may not read it")
    waiting = book.write("vision/run-2/odd\nname")
    book.look()
    book.fail("500: oops", Kind.TRANSIENT, next_try=1_900_000_000.0)
    assert status(book) == {
        "pending": 1,
        "uploading": 0,
        "stored": 1,
        "failed": 1,
        "ignored": 1,
        "oldest_pending_seconds": pytest.approx(0, abs=60),
        "bytes_sent": 5,
        "bytes_unique": 5,
        "watches": [{"path": str(book.drop), "mode": "events", "healthy": True, "detail": ""}],
        "runs": [
            {"experiment": "vision", "run": "run-1", "run_id": RUN_ID, "status": "RUNNING"}
            | {"stored": 1, "pending": 0, "failed": 0, "since": changed, "reason": "a file changed"},
            {"experiment": "vision", "run": "run-2", "run_id": None, "status": None}
            | {"stored": 0, "pending": 1, "failed": 1, "since": None, "reason": None},
        ],
        "failures": [
            {
                "path": str(failed),
                "error": "the service's user may not read it [AD301]",
                "kind": "permanent",
                "attempts": 1,
                "next_try": None,
            },
            {
                "path": str(waiting).replace("\n", "\\x0a"),
                "error": "500: oops",
                "kind": "transient",
                "attempts": 1,
                "next_try": "2030-03-17T17:46:40Z",
            },
        ],
    }


def test_a_runaway_file_is_named_with_what_it_costs(book: Book) -> None:
    path = book.write("e/r/status.json")
    book.look()
    folder, _ = book.ledger.folder(book.root, b"e/r", create=False) or (0, "")
    file = FileId(folder, b"status.json")
    book.ledger.was_sent(file, 3000, time.time(), in_a_row=3)
    assert status(book)["watches"][0]["detail"] == ""
    book.ledger.was_sent(file, 3000, time.time(), in_a_row=4)
    (watch,) = status(book)["watches"]
    assert re.fullmatch(
        rf"rewritten without end, .*{path} \(sent 4 times in a row, 5.9 KiB, next .+\)", watch["detail"]
    )
    assert watch["healthy"]
    assert "sent 4 times in a row" in shown(book)


def test_a_held_back_target_is_shown_once_for_all_its_files(book: Book) -> None:
    for n in range(5):
        book.write(f"e/r/{n}")
    book.look()
    book.hold(wait=60)
    data = status(book)
    (failure,) = data["failures"]
    assert (failure["path"], failure["kind"], failure["attempts"]) == ("http://mlflow.test", "transient", 3)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", failure["next_try"])
    assert (data["pending"], data["failed"]) == (5, 0)
    text = shown(book)
    assert "Held back: http://mlflow.test" in text
    assert "cannot be reached" in text
    assert re.search(r"next try +in \d+ s", text)


def test_a_held_back_run_is_shown_by_its_folder(book: Book) -> None:
    folder = book.write("e/r/a").parent
    book.look()
    blockage = Blockage(Kind.PAUSED, "s3://bucket refuses: AccessDenied", "Check the credentials", 2, time.time() + 60)
    book.ledger.block_run(book.rows()[0], blockage)
    (failure,) = status(book)["failures"]
    assert (failure["path"], failure["kind"], failure["attempts"]) == (str(folder), "paused", 2)
    assert f"Held back: {folder}" in shown(book)


def test_a_held_back_run_stands_for_the_file_that_met_its_trouble(book: Book) -> None:
    folder = book.write("e/r/a").parent
    book.look()
    blockage = Blockage(Kind.PAUSED, "s3://bucket refuses: AccessDenied", "Check the credentials", 2, time.time() + 60)
    book.fail(blockage.error, Kind.PAUSED)
    book.ledger.block_run(book.rows()[0], blockage)
    assert [failure["path"] for failure in status(book)["failures"]] == [str(folder)]
    assert shown(book).count("AccessDenied") == 1


def test_a_file_with_trouble_of_its_own_waits_for_its_run(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    book.fail("the store holds another content", Kind.TRANSIENT)
    until = time.time() + 300
    book.ledger.block_run(book.rows()[0], Blockage(Kind.PAUSED, "s3://bucket refuses", "Check", 2, until))
    run, file = status(book)["failures"]
    assert (file["path"], file["next_try"]) == (str(path), run["next_try"])
    assert len(re.findall(r"next try +in [45]\.?\d* min", shown(book))) == 2, shown(book)


def test_the_lag_counts_from_the_change_of_the_oldest(book: Book) -> None:
    assert status(book)["oldest_pending_seconds"] == 0.0
    book.write("e/r/a")
    book.look()
    lag = wait_for(lambda: (s := status(book)["oldest_pending_seconds"]) > 0.1 and s, "the lag grows", 10)
    assert lag < 60


def test_people_see_counts_runs_failures_and_cures(book: Book) -> None:
    book.write("vision/run-1/a", b"x" * 2048)
    book.look()
    book.deliver()
    path = book.write("vision/run-2/unreadable")
    book.look()
    book.fail("the service's user may not read it")
    book.ledger.describe_root(book.root, "scan", healthy=False, detail="scan only: nfs4 is a network filesystem")
    text = shown(book)
    assert f"No service is running · state folder {book.state}" in text
    assert "0 waiting · 1 stored (2.0 KiB) · 1 failed · 0 ignored" in text
    assert re.search(r"vision +run-1 +RUNNING +1 +2.0 KiB +0 +0 +01234567", text)
    assert re.search(r"vision +run-2 +not made yet +0 +0 B +0 +1 +-", text)
    assert "degraded: scan only: nfs4 is a network filesystem" in text
    assert f"  {path}\n" in text
    assert "Give it access" in text


def test_it_says_who_works(book: Book) -> None:
    with book.in_use():
        assert shown(book).startswith(f"artifactd run (pid {os.getpid()}) is working · ")


def test_what_is_under_way_has_the_bytes_and_not_the_nothing_that_waits(book: Book) -> None:
    book.write("e/r/a", b"x" * 2048)
    book.look()
    (row,) = book.rows()
    book.ledger.claim(row, time.time() + 3600, 1, 2**30)
    with book.in_use():
        assert re.search(r"0 waiting · 1 uploading \(2\.0 KiB, the oldest for [\d.]+ s\) · 0 stored", shown(book))
        book.write("e/r/b", b"x" * 1024)
        book.look()
        assert "1 waiting · 1 uploading (3.0 KiB together, the oldest for " in shown(book)
        assert (status(book)["pending"], status(book)["uploading"]) == (1, 1)


def test_a_service_that_was_killed_has_nothing_under_way(book: Book) -> None:
    path = book.write("e/r/a")
    book.look()
    (row,) = book.rows()
    book.ledger.claim(row, time.time() + 3600, 1, 2**30)
    assert (status(book)["pending"], status(book)["uploading"]) == (1, 0)
    text = shown(book)
    assert "1 waiting (" in text
    assert "uploading" not in text
    assert re.search(rf"{book.drop} +events +not watched now", text)
    said = call("explain", path, "--state-dir", book.state).stdout
    assert "waits for      the next start: its upload was broken off" in said


def test_what_nobody_tries_has_no_next_try_but_a_next_step(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    book.ledger.block_run(book.rows()[0], Blockage(Kind.PERMANENT, "run 12 is deleted", "Restore it", 1, time.time()))
    (held,) = status(book)["failures"]
    assert (held["kind"], held["next_try"]) == ("permanent", None)
    text = shown(book)
    assert "next try" not in text
    assert "Restore it; then `artifactd retry`" in text


def test_what_to_do_goes_on_until_it_is_tried_again(book: Book) -> None:
    """Who does no more than give access waits for the next full scan, up to an hour."""
    book.write("e/r/a")
    book.look()
    book.fail("the service's user may not read it")
    assert "what to do  Give it access; then `artifactd retry`" in shown(book)


def test_where_failures_are_too_many_it_does_not_say_how_many_are_left(book: Book) -> None:
    ledger_rows.fill(book.state, book.drop, files=1100, runs=1, failed=1100)
    text = shown(book)
    assert "1,100 failed" in text
    assert "… and more: --json has 1,000" in text


def test_a_degraded_folder_is_shown_with_what_can_be_done(book: Book) -> None:
    book.ledger.describe_root(book.root, "waiting", healthy=False, detail="the folder is not there; it is looked for")
    assert re.search(r"degraded: the folder is not there; .*\n +Mount or make the folder", shown(book))


def test_without_a_ledger(book: Book, tmp_path: Path) -> None:
    done = call("status", "--json", "--state-dir", tmp_path / "none")
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"no ledger at {tmp_path}/none/ledger.db [AD702]\n" in done.stderr


def test_watch_shows_each_change_and_ends_by_ctrl_c(book: Book) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "artifactd", "status", "--watch", "--json", "--state-dir", str(book.state)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    try:
        assert json.loads(watching.stdout.readline())["pending"] == 0
        book.write("e/r/a")
        book.look()
        changed = json.loads(watching.stdout.readline())
        hold(changed, "status")
        assert changed["pending"] == 1
        watching.send_signal(signal.SIGINT)
        wait_for(lambda: watching.poll() is not None, "Ctrl-C ends it", 10)
    finally:
        watching.kill()
        _, errors = watching.communicate()
    assert (watching.returncode, errors) == (130, "")


def test_a_run_that_is_over_is_shown_with_its_time_and_reason(book: Book) -> None:
    book.write("vision/run-1/a")
    book.write("vision/run-2/.failed", b"out of memory\n")
    book.look()
    first, second = book.rows()
    book.deliver()
    book.ledger.abandon(first, 1_800_000_000.0, "no sign of life since then")
    for run, end in book.ledger.runs_to_end(dict(MARKERS)):
        book.ledger.ask_end(run.id, end)
        book.ledger.set_run_status(run.id, end.status)
    runs = {r["run"]: r for r in status(book)["runs"]}
    assert (runs["run-1"]["status"], runs["run-1"]["since"]) == ("KILLED", "2027-01-15T08:00:00Z")
    assert (runs["run-2"]["status"], runs["run-2"]["reason"]) == ("FAILED", "out of memory")
    text = re.sub(r"\s+", " ", shown(book))
    assert "vision/run-1: KILLED since 2027-01-15" in text
    assert ": no sign of life since then" in text
    assert "vision/run-2: FAILED since" in text
    said = re.sub(r"\s+", " ", call("explain", book.drop / "vision/run-1", "--state-dir", book.state).stdout)
    assert "KILLED since 2027-01-15" in said
    assert second != first


def table_of(book: Book, width: int) -> list[str]:
    with book.report() as report:
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(as_table(read(report, book.state), book.state, width))
    return console.export_text().splitlines()


def test_long_names_share_a_column_where_two_would_be_slivers(book: Book) -> None:
    book.write("short/run/a")
    book.write("a-long-name-of-an-experiment/and-a-run-with-one/b")
    book.write("日本語の実験/とても長い名前のラン/c")
    book.look()
    wide, narrow = table_of(book, 200), table_of(book, 80)
    assert any(re.search(r"^日本語の実験 +とても長い名前のラン +not made yet", line) for line in wide)
    assert any(re.search(r"^Experiment +Run +Status .* Run ID", line) for line in wide)
    assert any(re.search(r"^Experiment/Run +Status .* Failed$", line) for line in narrow)
    assert any(line.startswith("short/run ") for line in narrow)
    assert any(line.startswith("a-long-name-of-an-experiment/") for line in narrow)
    assert max(map(cell_len, narrow)) <= 80
