"""The ledger's file, damaged: whatever it holds, a command says so in words, and the service ends in words."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from artifactd.cli.overview import as_table
from artifactd.cli.status import as_data
from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import Blockage, Ledger, LedgerError, Report, State, Wanted
from artifactd.ledger.manifests import stored_files
from artifactd.ledger.needs import read_needs
from artifactd.ledger.schema import FILE_NAME, written_version
from artifactd.runfolder import MARKERS
from artifactd.standing import Standing, read
from artifactd.watching.signature import Signature
from fuzz.engine import Target

_PLACE = tempfile.TemporaryDirectory(prefix="artifactd-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def _made() -> bytes:
    """A ledger in which each table has something."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(Ledger(Path(folder))) as ledger, ledger.transaction():
            _fill(ledger)
        with contextlib.closing(sqlite3.connect(Path(folder, FILE_NAME))) as con:
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            con.execute("PRAGMA journal_mode = DELETE")
        return Path(folder, FILE_NAME).read_bytes()


def _fill(ledger: Ledger) -> None:
    root = ledger.use_roots([b"/drop"])[b"/drop"]
    for n in range(3):
        run = ledger.run_for(root, b"e/r%d" % n, "http://m", f"k{n}", "e", f"r{n}")
        ledger.set_run_settings(run, {"artifactd.key": f"k{n}"}, {"name": "n"})
        folder, _ = ledger.folder(root, b"e/r%d" % n, create=True) or (0, "")
        signature = Signature(10, 1, 1, 100)
        names = [b"f%d" % number for number in range(6)] + [b".done"]
        ledger.want(folder, [
            Wanted(name, State.DUE, signature, run, "", name.decode(), 100 * n + number, due_at=5.0)
            for number, name in enumerate(names)
        ])  # fmt: skip
        if n == 0:
            ledger.set_run_id(run, "0" * 32, "RUNNING", "", found=False)
        first, second, third, *_ = ledger.claim(run, 10.0, 4, 10**9)
        ledger.delivered(first, b"d" * 32, size=10, now=1, sent=True, due_again=2)
        ledger.not_delivered(second.id, Failure(Kind.PERMANENT, Scope.FILE, "no", "cure"), 9.0, touched=False)
        ledger.not_delivered(third.id, Failure(Kind.TRANSIENT, Scope.FILE, "later", ""), 9.0, touched=False)
        ledger.note_receipts({run: 1})
        ledger.note_change(run, 5.0, "f0")
    ledger.block_target("http://m", Blockage("paused", "no key", "give one", 2, 9.0))
    ledger.block_run(run, Blockage("permanent", "gone", "restore it", 1, 0.0))
    ledger.count("bytes_sent", 7)


def _damaged(data: bytes) -> None:
    for name in os.listdir(_PLACE.name):
        os.unlink(os.path.join(_PLACE.name, name))
    place = Path(_PLACE.name)
    (place / FILE_NAME).write_bytes(data)
    _in_words(lambda: written_version(place / FILE_NAME))
    for ask in (_reported, _needed, _served):
        _in_words(lambda ask=ask: ask(place))  # type: ignore[misc]


def _in_words(ask: Callable[[], object]) -> None:
    try:
        ask()
    except LedgerError as error:
        assert str(error)
        str(error).encode("utf-8", "backslashreplace")


def _all(found: Any) -> None:
    """Take what is made as it is asked for."""
    if isinstance(found, Iterator):
        list(found)


def _reported(place: Path) -> None:
    """What `status`, `explain`, `verify` and `retry` ask."""
    with contextlib.closing(Report(place)) as report:
        for ask in (
            report.totals, report.watches, report.failures, report.blockages, report.held_runs, report.runs,
            report.run_statuses, report.files, report.counts, lambda: report.runaways(5.0), lambda: report.versions(1),
            lambda: report.file(b"/drop", b"e/r0", b"f0"), lambda: report.files(below=b"/drop/e/r1"),
            lambda: report.runs_at(b"/drop/e"), lambda: report.own_path(b"/drop/e"), lambda: report.retry(None),
        ):  # fmt: skip
            _in_words(lambda ask=ask: _all(ask()))  # type: ignore[misc]
        _in_words(report.version)
        _in_words(lambda: _shown(read(report, place), place))


def _shown(standing: Standing, place: Path) -> None:
    json.dumps(as_data(standing))
    console = Console(file=io.StringIO(), width=200)
    console.print(as_table(standing, place, console.width))


def _needed(place: Path) -> None:
    """What the bell and the manifest's maker ask, by connections of their own."""
    _in_words(lambda: read_needs(place, 100.0))
    _in_words(lambda: stored_files(place / FILE_NAME, 1))


def _served(place: Path) -> None:
    """What the service asks from its start to a receipt; an error ends it, and here the next one is asked still."""
    with contextlib.closing(Ledger(place)) as ledger, ledger.transaction():
        for ask in (_started, _delivered, _looked, _told, Ledger.backlog, Ledger.waiting, Ledger.blockages):
            _in_words(lambda ask=ask: ask(ledger))  # type: ignore[misc]


def _started(ledger: Ledger) -> None:
    ledger.use_roots([b"/drop"])
    ledger.recover()
    ledger.cut_waits(100.0, settle=5.0, retry=300.0)
    ledger.move_waits(5.0)


def _delivered(ledger: Ledger) -> None:
    for run, _ in ledger.runs_with_due():
        ledger.run(run)
        ledger.peek(run, 100.0, 10)
        for file in ledger.claim(run, 100.0, 10, 10**9):
            ledger.delivered(file, b"d" * 32, size=10, now=100, sent=True, due_again=101)
    ledger.release_idle(100.0)


def _looked(ledger: Ledger) -> None:
    for rel in (b"e/r0", *ledger.subfolders(1, b"")):
        folder, _ = ledger.folder(1, rel, create=True) or (0, "")
        ledger.known_files(folder)
        ledger.unsettled_files(folder, {})
        ledger.want(folder, [Wanted(b"new", State.DUE, Signature(1, 2, 3, 4), 1, "", "new", 999, due_at=5.0)])
        ledger.forget(folder, [b"f0"])


def _told(ledger: Ledger) -> None:
    ledger.runs_to_end(dict(MARKERS))
    ledger.runs_to_update("http://m")
    ledger.rows_to_describe([*MARKERS])
    ledger.under_way(1)
    ledger.quiet(1, 100.0, nested=False)


_WHOLE = _made()


def _otherwise(*statements: str) -> bytes:
    """A ledger with another schema, or other values in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE_NAME)
        path.write_bytes(_WHOLE)
        with contextlib.closing(sqlite3.connect(path)) as con:
            for statement in statements:
                con.execute(statement)
            con.commit()
        return path.read_bytes()


_STRANGE = [
    _otherwise("DROP TABLE files"), _otherwise("DROP TABLE runs"), _otherwise("DROP TABLE lives"),
    _otherwise("DROP INDEX due"),
    _otherwise("DROP INDEX failed"), _otherwise("PRAGMA user_version = 3"), _otherwise("PRAGMA user_version = 0"),
    _otherwise("PRAGMA user_version = 999"), _otherwise("PRAGMA user_version = -1"),
    _otherwise("ALTER TABLE files RENAME COLUMN growth TO grown"),
    _otherwise("UPDATE files SET state = 99"), _otherwise("UPDATE files SET state = 'x'"),
    _otherwise("UPDATE files SET size = 'x', mtime_ns = x'00', ctime_ns = 'y'"),
    _otherwise("UPDATE files SET doubt = 77, growth = 55"),
    _otherwise("UPDATE files SET name = 7 WHERE name = x'6630'"), _otherwise("UPDATE roots SET path = 7"),
    _otherwise("UPDATE folders SET rel = 'text' WHERE id = 1"),
    _otherwise("UPDATE runs SET tags = '{', settings = '[]'"),
    _otherwise("UPDATE runs SET run_id = 5, status = x'ff'"), _otherwise("UPDATE runs SET name = CAST(x'ff' AS TEXT)"),
    _otherwise("UPDATE files SET due_at = 'soon', stored_at = 'then', attempts = 'many', sent_at = x''"),
    _otherwise("UPDATE files SET digest = 'text', told = 5"),
    _otherwise("UPDATE lives SET moved_at = 'x', asked_at = 'y'"),
    _otherwise("UPDATE targets SET next_try = 'x', attempts = 'y', kind = 'z'"),
    _otherwise("UPDATE counters SET value = 'x'"),
    _otherwise("UPDATE manifests SET changes = 'x'"), _otherwise("DELETE FROM folders"),
    _otherwise("DELETE FROM roots"),
]  # fmt: skip

TARGETS = (
    Target(
        "ledger",
        _damaged,
        [_WHOLE, *_STRANGE],
        [b"SQLite format 3\0", bytes(16), b"\xff" * 16, b"CREATE TABLE"],
        share=30_000,
    ),
)
