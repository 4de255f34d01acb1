"""The bell tells by real commands and webhooks what a real ledger says, once, and keeps nobody waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from artifactd.config import Config, NotifyConfig
from artifactd.errors import Kind
from artifactd.ledger import Blockage
from artifactd.ledger.needs import Needs, read_needs
from artifactd.notify import bell as bells
from artifactd.notify import send
from artifactd.notify.bell import Bell, disk_of
from artifactd.notify.keeping import FILE_NAME
from cli_support import Book
from notify_support import WELL, hook, noted, noting
from schemas import hold
from support import wait_for


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as events:
        yield events


def config(book: Book, **notify: Any) -> Config:
    settings = NotifyConfig.model_validate({"every": 0.001, "disk": 0, **notify})
    return Config(state_dir=book.state, watch=(book.config,), notify=settings)


def ring(bell: Bell, status: str = "all stored") -> None:
    """One whole look."""
    asked: list[str] = []

    def said() -> str:
        asked.append(status)
        return status

    def begun() -> list[str]:
        bell.look(said)
        return asked

    wait_for(begun, "it looks", pauses=(0.01,))
    bell.close(30)


def fail(book: Book, rel: str = "e/r/a") -> None:
    book.write(rel)
    book.look()
    book.fail()


def test_nobody_is_told_where_nobody_is_named(book: Book) -> None:
    bell = Bell(config(book), every=0)

    def never() -> str:
        raise AssertionError("nothing is asked")

    bell.look(never)
    bell.close()
    assert bell.line("all stored") == "all stored"
    assert not (book.state / FILE_NAME).exists()


def test_what_is_well_costs_no_write(book: Book, tmp_path: Path) -> None:
    bell = Bell(config(book, command=noting(tmp_path)), every=0)
    ring(bell)
    assert noted(tmp_path) == []
    assert not (book.state / FILE_NAME).exists()


def test_a_failure_is_told_once_and_its_end_once_whatever_is_restarted(book: Book, tmp_path: Path) -> None:
    told = config(book, command=noting(tmp_path))
    fail(book)
    for _ in range(2):
        ring(Bell(told, every=0), "1 failed")
    (message,) = noted(tmp_path)
    (trouble,) = message["troubles"]
    assert (trouble["kind"], trouble["subject"]) == ("failure", str(book.drop / "e" / "r"))
    assert "it cannot be read" in trouble["detail"]
    assert trouble["next_step"].startswith("Give it access")
    assert (message["status"], message["state_dir"]) == ("1 failed", str(book.state))
    with book.report() as report:
        report.retry(None)
    book.deliver()
    for _ in range(2):
        ring(Bell(told, every=0))
    first, second = noted(tmp_path)
    assert first == message
    for sent in (first, second):
        hold(sent, "notify")
    assert second["troubles"] == []
    assert [(r["kind"], r["subject"]) for r in second["resolved"]] == [("failure", trouble["subject"])]


def test_the_next_message_is_a_period_away_also_after_a_restart(book: Book, tmp_path: Path) -> None:
    told = config(book, command=noting(tmp_path), every="1h")
    fail(book)
    ring(Bell(told, every=0))
    fail(book, "e/two/b")
    ring(Bell(told, every=0))
    assert len(noted(tmp_path)) == 1
    ring(Bell(config(book, command=noting(tmp_path)), every=0))
    _, second = noted(tmp_path)
    assert [t["new"] for t in second["troubles"]] == [True, False]


def test_a_crash_while_a_message_is_on_its_way_costs_a_period_and_no_message(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError

    fail(book)
    seldom = config(book, command=noting(tmp_path), every="1h")
    with monkeypatch.context() as patch:
        patch.setattr(send, "run", crash)
        ring(Bell(seldom, every=0))
    ring(Bell(seldom, every=0))
    assert noted(tmp_path) == []
    ring(Bell(config(book, command=noting(tmp_path)), every=0))
    assert len(noted(tmp_path)) == 1


def test_an_outage_of_the_webhook_is_said_once_and_told_later(book: Book, tmp_path: Path, logged: list[Any]) -> None:
    (tmp_path / "key").write_text("k")
    fail(book)
    with hook((403, {}, b"not yours"), (403, {}, b"not yours"), WELL) as server:
        told = config(book, webhook=server.url, secret_file=tmp_path / "key", command=noting(tmp_path))
        bell = Bell(told, every=0)
        for _ in range(4):
            ring(bell)
        assert len(server.requests) == 3, "once more with each period, until it arrives"
        assert len(noted(tmp_path)) == 1, "each one who is told has a pace of their own"
        assert server.requests[-1].data["troubles"] == noted(tmp_path)[0]["troubles"]
    warnings = [e for e in logged if e["log_level"] == "warning"]
    assert [w["event"].partition(":")[0] for w in warnings] == ["not told"]
    assert warnings[0]["next_step"]
    assert "s3cret" not in str(logged)
    assert [e["event"] for e in logged if e["log_level"] == "info"].count("messages go out again") == 1


def test_the_loop_does_not_wait(book: Book) -> None:
    fail(book)
    with hook(None) as server:
        bell = Bell(config(book, webhook=server.url), every=0)
        asked: list[float] = []

        def looked() -> bool:
            begun = time.thread_time()
            bell.look(lambda: "1 failed")
            asked.append(time.thread_time() - begun)
            return bool(server.requests)

        wait_for(looked, "it is under way", pauses=(0.01,))
        for _ in range(100):
            looked()
        assert len(server.requests) == 1
        assert bell._under_way is not None
        assert not bell._under_way.over
        assert sorted(asked)[len(asked) // 2] < 0.01
        server.over.set()
        bell.close(30)


def test_troubles_stand_in_the_status_line(book: Book, tmp_path: Path) -> None:
    told = config(book, command=noting(tmp_path), disk=2**62)
    book.ledger.describe_root(book.root, "scan", healthy=False, detail="scan only: nfs")
    said = f"all stored, watch: {book.drop}: scan only: nfs"
    bell = Bell(told, every=0)
    ring(bell, said)
    line = bell.line(said)
    assert line.startswith(f"{said}, disk: {book.state}: ")
    assert line.count("watch: ") == 1, "what the service's own line has is not said again"
    assert noted(tmp_path)[0]["status"] == line, "the message and `systemctl status` say the same"
    assert {t["kind"] for t in noted(tmp_path)[0]["troubles"]} == {"disk", "watch"}
    book.ledger.describe_root(book.root, "events", healthy=True, detail="")
    bell.use(config(book, command=noting(tmp_path)))
    ring(bell)
    assert bell.line("all stored") == "all stored"
    assert {r["kind"] for r in noted(tmp_path)[1]["resolved"]} == {"disk", "watch"}
    bell.use(config(book))
    assert bell.line("x") == "x"


def test_another_command_is_told_all_anew(book: Book, tmp_path: Path) -> None:
    block = Blockage(Kind.PAUSED, "http://mlflow.test refuses", "Log in", 1, time.time() + 60)
    book.ledger.block_target(book.target, block)
    bell = Bell(config(book, command=noting(tmp_path)), every=0)
    ring(bell)
    bell.use(config(book, command=[*noting(tmp_path), "another"]))
    ring(bell)
    assert [m["troubles"][0]["kind"] for m in noted(tmp_path)] == ["paused", "paused"]


def test_what_waits_is_counted_over_restarts(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_WORTH", 0.0)
    told = config(book, command=noting(tmp_path), lag="2h")
    path = book.write("e/r/a")
    book.look()
    now = time.time()
    for later in (60, 3600, 7300):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        ring(Bell(told, every=0))
    (message,) = noted(tmp_path)
    assert message["troubles"][0]["kind"] == "lag"
    assert str(path) in message["troubles"][0]["detail"]


def test_a_full_disk_keeps_nobody_from_being_told(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(bells, "save", full)
        bell = Bell(config(book, command=noting(tmp_path), disk=2**62), every=0)
        for _ in range(3):
            ring(bell)
    assert len(noted(tmp_path)) == 1, "it is remembered as long as the service runs"
    assert [e["event"].partition(":")[0] for e in logged if e["log_level"] == "warning"] == [
        "what was told cannot be written down"
    ]
    ring(bell)
    ring(Bell(config(book, command=noting(tmp_path), disk=2**62), every=0))
    assert len(noted(tmp_path)) == 1, "and written down when there is space"


def test_a_ledger_that_cannot_be_read_costs_a_line_and_nothing_more(tmp_path: Path, logged: list[Any]) -> None:
    state = tmp_path / "state"
    state.mkdir()
    notify = NotifyConfig(command=tuple(noting(tmp_path)), disk=0)
    bell = Bell(Config(state_dir=state, notify=notify), every=0)
    for _ in range(3):
        ring(bell)
    (line,) = logged
    assert line["log_level"] == "warning"
    assert "no ledger" in line["event"]


def test_a_mistake_of_ours_is_logged_once_and_ends_nothing(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(bells, "find", broken)
        bell = Bell(config(book, command=noting(tmp_path)), every=0)
        for _ in range(2):
            ring(bell)
    assert [line["log_level"] for line in logged] == ["error"]
    fail(book)
    ring(bell)
    assert len(noted(tmp_path)) == 1


def test_looks_are_spaced_out_by_what_they_cost(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "DUTY", 1e-9)
    bell = Bell(config(book, command=noting(tmp_path)), every=0)
    ring(bell)

    def never() -> str:
        raise AssertionError("not yet")

    bell.look(never)


def test_a_ledger_that_nobody_wrote_into_is_not_asked_again_at_once(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def counted(state_dir: Path, now: float) -> Needs:
        asked.append(now)
        return read_needs(state_dir, now)

    monkeypatch.setattr(bells, "read_needs", counted)
    bell = Bell(config(book, command=noting(tmp_path)), every=0)
    for _ in range(3):
        ring(bell)
    assert len(asked) == 1
    fail(book)
    ring(bell)
    assert len(asked) == 2
    assert noted(tmp_path)
    monkeypatch.setattr(bells, "ASK_ANYWAY", -1.0)
    ring(bell)
    assert len(asked) == 3


def test_a_disk_that_cannot_be_asked_is_none(tmp_path: Path) -> None:
    assert disk_of(tmp_path / "nothing") is None
    disk = disk_of(tmp_path)
    assert disk is not None
    assert 0 <= disk.free <= disk.size
    assert disk.path == str(tmp_path)
    assert os.path.isdir(disk.path)
