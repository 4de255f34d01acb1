"""The engine turned in this process, on a real embedded store, with its clocks made short."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from artifactd import look, pace
from artifactd.config import Config, MetricsConfig, NotifyConfig, RetryConfig, load_config
from artifactd.engine import LOOK_ANYWAY, Engine
from artifactd.engine import _workers as auto_workers
from artifactd.errors import UsageError
from artifactd.ledger import Report, State, Totals
from made_store import copy_store
from support import wait_for


class Bench:
    """An engine on a drop folder."""

    def __init__(self, base: Path, **watch: str) -> None:
        self.base = base
        self.drop = base / "drop"
        self.run = self.drop / "e" / "r"
        self.run.mkdir(parents=True)
        self._watch = watch
        copy_store(base / "state" / "mlflow.db", (base / "state" / "artifacts").as_uri())
        self.engine = Engine(self.config(**watch), "test")

    def config(self, **watch: str) -> Config:
        lines = "".join(f"{key} = {value}\n" for key, value in {"settle": '"0.2s"', **watch}.items())
        file = self.base / "config.toml"
        file.write_text(f'state_dir = "{self.base}/state"\n[[watch]]\npath = "{self.drop}"\n{lines}')
        return load_config(file)

    def restart(self, **watch: str) -> None:
        self.engine.close()
        self.engine = Engine(self.config(**watch or self._watch), "test")

    def lose_ledger(self) -> None:
        self.engine.close()
        for path in (self.base / "state").glob("ledger.db*"):
            path.unlink()
        self.engine = Engine(self.config(**self._watch), "test")

    def at_rest(self) -> bool:
        engine = self.engine
        return engine.scanned and not engine.busy and engine.ledger.waiting()[0] == 0

    def path(self, name: str) -> Path:
        """Where the store keeps an artifact of the one run."""
        (run,) = (self.base / "state" / "artifacts").iterdir()
        return run / "artifacts" / name

    def turn_until(self, condition: Callable[[], object], what: str) -> None:
        def turned() -> object:
            self.engine.turn(0.02)
            return condition()

        wait_for(turned, what, 60, pauses=(0.02,))

    def stored(self) -> dict[str, bytes]:
        artifacts = self.base / "state" / "artifacts"
        return {
            str(f.relative_to(artifacts).relative_to(f.relative_to(artifacts).parts[0] + "/artifacts")): f.read_bytes()
            for f in artifacts.rglob("*")
            if f.is_file() and not f.name.startswith(".artifact.uploading.")
        }

    def totals(self) -> Totals:
        report = Report(self.base / "state")
        totals = report.totals()
        report.close()
        return totals


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.engine.close()


def test_a_growing_file_is_sent_as_snapshots_and_whole_at_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LIVE_QUIET", 1.0)
    monkeypatch.setattr(look, "LIVE_LOOK", 0.1)
    path = bench.run / "events.out.tfevents.1.host"
    name = path.name
    seen: set[int] = set()
    with path.open("wb", buffering=0) as growing:  # open all the while, as TensorFlow does
        growing.write(os.urandom(30_000))
        bench.turn_until(lambda: name in bench.stored(), "the first snapshot")

        def grow() -> bool:
            growing.write(os.urandom(20_000))
            held = bench.stored().get(name)
            if held is not None:
                assert path.read_bytes()[: len(held)] == held, "what is stored is a state that the file had"
                seen.add(len(held))
            return path.stat().st_size > 2_000_000

        bench.turn_until(grow, "it has grown to 2 MB")
        assert len(seen) >= 3, "it could be read from the store meanwhile"
        bench.turn_until(lambda: bench.stored()[name] == path.read_bytes(), "whole once quiet, though still open")
    size = path.stat().st_size
    assert bench.totals().bytes_sent <= 2.5 * size
    bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 0, "nothing is left")


def test_the_end_of_a_run_delivers_its_growing_files_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.run / "train.log"
    path.write_bytes(b"a" * 1000)
    bench.turn_until(lambda: bench.stored().get("train.log") == b"a" * 1000, "the first snapshot")
    with path.open("ab") as f:
        f.write(b"b" * 10)
    (bench.run / ".done").touch()
    # Sixty seconds of quiet would be waited for without the marker.
    bench.turn_until(lambda: bench.stored().get("train.log") == b"a" * 1000 + b"b" * 10, "the whole")
    bench.turn_until(lambda: not bench.engine.waiting_runs and bench.engine.ledger.waiting()[0] == 0, "the run ends")


def test_a_file_that_is_rewritten_over_and_over_is_spaced_out_and_its_last_state_delivered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.run / "status.json"
    contents: list[bytes] = []

    def rewrite() -> bool:
        if not contents or bench.stored().get("status.json") == contents[-1] or "often" in said():
            contents.append(b"%06d" % len(contents))
            path.write_bytes(contents[-1])
        return len(contents) >= 40

    def said() -> str:
        report = Report(bench.base / "state")
        view = report.file(os.fsencode(bench.drop), b"e/r", b"status.json")
        report.close()
        return "" if view is None else view.error or ""

    bench.turn_until(rewrite, "forty rewrites")
    sends = bench.totals().bytes_sent // 6
    assert sends < 10, "a runaway file has a budget"
    assert "rewritten often" in said()
    monkeypatch.setattr(pace, "spacing", lambda *_: 0.0)  # the spacing's end
    path.write_bytes(b"final!")
    bench.turn_until(lambda: bench.stored()["status.json"] == b"final!", "the last state always arrives")


def test_what_changes_between_look_and_turn_is_not_handed_out(bench: Bench) -> None:
    path = bench.run / "a"
    path.write_bytes(b"1")
    bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 1, "it is due")
    path.write_bytes(b"22")
    bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 0, "it is stored")
    assert bench.stored()["a"] == b"22"
    assert bench.totals().bytes_sent == 2


@pytest.fixture
def versioning(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, on_change='"version"')
    yield made
    made.engine.close()


def test_a_changed_file_is_a_further_version_and_the_same_content_is_none(versioning: Bench) -> None:
    bench = versioning
    path = bench.run / "model.pkl"
    for content in (b"one", b"two", b"two", b"one"):
        path.write_bytes(content)
        bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 1, "it is due")
        bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 0, "it is stored")
    assert bench.stored() == {"model.pkl": b"one", "model_v2.pkl": b"two", "model_v3.pkl": b"one"}
    report = Report(bench.base / "state")
    view = report.file(os.fsencode(bench.drop), b"e/r", b"model.pkl")
    report.close()
    assert view is not None
    assert view.artifact_path == "model_v3.pkl", "explain and verify speak of the last one"


def test_a_version_never_takes_the_name_of_another_file(versioning: Bench) -> None:
    bench = versioning
    (bench.run / "model_v2.pkl").write_bytes(b"a file of its own")
    (bench.run / "model.pkl").write_bytes(b"one")
    bench.turn_until(lambda: len(bench.stored()) == 2, "both are stored")
    (bench.run / "model.pkl").write_bytes(b"two")
    bench.turn_until(lambda: bench.engine.ledger.backlog()[1] == 1, "the clash is a failure")
    assert bench.stored()["model_v2.pkl"] == b"a file of its own"
    (bench.run / "data.csv").write_bytes(b"1")
    bench.turn_until(lambda: "data.csv" in bench.stored() and bench.at_rest(), "others flow")
    (bench.run / "data.csv").write_bytes(b"2")
    bench.turn_until(lambda: "data_v2.csv" in bench.stored(), "a second version")
    (bench.run / "data_v2.csv").write_bytes(b"a late file of that name")
    bench.turn_until(lambda: bench.engine.ledger.backlog()[1] == 2, "the other way round too")
    assert bench.stored()["data_v2.csv"] == b"2"


def test_a_crash_between_upload_and_receipt_skips_no_version(versioning: Bench) -> None:
    bench = versioning
    path = bench.run / "model.pkl"
    path.write_bytes(b"one")
    bench.turn_until(lambda: bench.stored().get("model.pkl") == b"one", "the first")
    bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 0, "its receipt")
    path.write_bytes(b"two")
    bench.turn_until(lambda: bench.engine.busy > 0, "the second is under way")
    wait_for(lambda: "model_v2.pkl" in bench.stored(), "it is uploaded")
    bench.engine.stop_delivery()  # its receipt is lost, as in a crash
    path.write_bytes(b"three")
    bench.turn_until(lambda: bench.stored().get("model_v2.pkl") == b"three", "the number is used again")
    assert set(bench.stored()) == {"model.pkl", "model_v2.pkl"}


def test_a_content_that_is_back_to_the_last_version_after_a_crash_is_none(versioning: Bench) -> None:
    path = versioning.run / "a"
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        if content == b"two":
            versioning.turn_until(lambda: versioning.engine.ledger.waiting()[0] == 1, "it is seen")
            # A kill before its upload.
            with contextlib.closing(sqlite3.connect(versioning.base / "state" / "ledger.db")) as ledger, ledger:
                ledger.execute("UPDATE files SET doubt = 2")
        else:
            versioning.turn_until(lambda: versioning.stored() == {"a": b"one"} and versioning.at_rest(), "one version")
    path.write_bytes(b"three")
    versioning.turn_until(lambda: len(versioning.stored()) == 2 and versioning.at_rest(), "another")
    assert versioning.stored() == {"a": b"one", "a_v2": b"three"}


def test_versions_go_on_where_they_were_when_the_ledger_is_lost(versioning: Bench) -> None:
    bench = versioning
    path = bench.run / "model.pkl"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        bench.turn_until(lambda: content in bench.stored().values(), "it is stored")  # noqa: B023 (called at once)
        bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 0, "its receipt")
    bench.lose_ledger()
    bench.turn_until(bench.at_rest, "all is looked at again")
    assert bench.stored() == {"model.pkl": b"one", "model_v2.pkl": b"two"}
    assert bench.totals().bytes_sent == 0
    path.write_bytes(b"three")
    bench.turn_until(lambda: bench.stored().get("model_v3.pkl") == b"three", "the next number")
    bench.turn_until(bench.at_rest, "its receipt")
    bench.lose_ledger()
    path.write_bytes(b"four")
    bench.turn_until(lambda: bench.stored().get("model_v4.pkl") == b"four", "the next number, with nothing known")
    assert bench.stored()["model.pkl"] == b"one"


def test_a_lost_ledger_sends_nothing_that_the_run_holds(bench: Bench) -> None:
    for n in range(30):
        folder = bench.run / f"d{n % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{n}").write_bytes(os.urandom(1000))
    bench.turn_until(lambda: len(bench.stored()) == 30 and bench.at_rest(), "all is stored")
    before = {name: (bench.path(name).stat().st_ino, content) for name, content in bench.stored().items()}
    bench.lose_ledger()
    (bench.run / "d0" / "f0").write_bytes(os.urandom(1000))  # changed, with the same size
    (bench.run / "d0" / "new").write_bytes(b"new")
    bench.turn_until(lambda: "d0/new" in bench.stored() and bench.at_rest(), "the new one follows")
    after = {name: (bench.path(name).stat().st_ino, content) for name, content in bench.stored().items()}
    assert after["d0/f0"][1] == (bench.run / "d0" / "f0").read_bytes()
    assert {n for n in before if before[n] != after[n]} == {"d0/f0"}
    assert bench.totals().bytes_sent == 1003
    assert len(list((bench.base / "state" / "artifacts").iterdir())) == 1, "one run"


def test_what_was_sent_and_lost_its_receipt_is_not_sent_again(bench: Bench) -> None:
    (bench.run / "model.pkl").write_bytes(os.urandom(5000))
    bench.turn_until(lambda: "model.pkl" in bench.stored() and bench.at_rest(), "it is stored")
    inode = bench.path("model.pkl").stat().st_ino
    bench.engine.close()
    with sqlite3.connect(bench.base / "state" / "ledger.db") as ledger:  # as it is before the receipt is written
        ledger.execute("UPDATE files SET state = 1, due_at = 1, digest = NULL, stored_size = NULL, stored_at = NULL")
        ledger.execute("DELETE FROM counters")
    ledger.close()
    bench.engine = Engine(bench.config(), "test")
    bench.turn_until(bench.at_rest, "it is looked for in the store")
    assert bench.path("model.pkl").stat().st_ino == inode
    assert bench.totals().bytes_sent == 0
    assert bench.engine.ledger.backlog() == (0, 0)


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_jumps_delays_nothing_by_as_much(
    hours: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.run / "f"
    path.write_bytes(b"1")
    bench.turn_until(lambda: bench.stored().get("f") == b"1" and bench.at_rest(), "it is stored")
    path.write_bytes(b"2")
    bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 1, "it waits to come to rest")
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + hours * 3600)
    bench.turn_until(lambda: bench.stored().get("f") == b"2" and bench.at_rest(), "it is stored in spite of the jump")
    path.write_bytes(b"3")
    bench.turn_until(lambda: bench.stored().get("f") == b"3" and bench.at_rest(), "and what changes after it")


def test_a_clock_set_back_between_two_lives_delays_nothing_by_as_much(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: true() + 86_400)
        bench.restart()
        (bench.run / "f").write_bytes(b"1")
        bench.turn_until(lambda: bench.engine.ledger.waiting()[0] == 1, "it waits")
    bench.restart()
    bench.turn_until(lambda: bench.stored().get("f") == b"1", "it is stored")


def test_a_growing_file_whose_clock_was_set_back_is_over_when_it_has_been_quiet(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "LIVE_LOOK", 0.2)
    monkeypatch.setattr(pace, "LIVE_QUIET", 0.5)
    bench.restart(live='["**/*.log"]')
    log = bench.run / "train.log"
    log.write_bytes(b"1" * 900)
    bench.turn_until(lambda: bench.stored().get("train.log") == log.read_bytes() and bench.at_rest(), "a snapshot")
    log.write_bytes(b"2" * 1000)  # too little for another
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 86_400)
    bench.turn_until(lambda: bench.stored().get("train.log") == log.read_bytes(), "the whole is stored")


def test_an_embedded_store_that_was_moved_takes_nothing_until_its_old_path_leads_to_it(bench: Bench) -> None:
    """MLflow notes absolute paths: what is sent would go below the old one, and be lost with what was left there."""
    (bench.run / "f").write_bytes(b"1")
    bench.turn_until(lambda: bench.at_rest() and bench.stored() == {"f": b"1"}, "it is stored")
    bench.engine.close()
    old, new = bench.base / "state", bench.base / "moved"
    old.rename(new)
    moved = bench.config().model_copy(update={"state_dir": new})
    with pytest.raises(UsageError, match=f"{new} was made in {old}, and"):
        Engine(moved, "test")
    assert not old.exists()
    old.symlink_to(new)
    bench.engine = Engine(moved, "test")
    (bench.run / "g").write_bytes(b"2")
    bench.turn_until(lambda: bench.at_rest() and bench.stored() == {"f": b"1", "g": b"2"}, "it goes on")
    assert bench.totals().bytes_sent == 2, "nothing was sent again"


def test_files_that_a_new_layout_moves_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        (bench.run / f"f{n}").write_bytes(b"x")
    bench.turn_until(lambda: len(bench.stored()) == 3 and bench.at_rest(), "all is stored")
    bench.restart(layout='"{run}"', experiment='"other"')
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr(bench.engine.watched[0], "_log", log)
    bench.turn_until(lambda: bench.engine.scanned and bench.at_rest(), "all is stored anew")
    (told,) = [call for call in log.calls if "new destination" in call.args[0]]
    assert told.kwargs["files"] == 3


def test_settings_that_change_or_go_are_told_though_no_file_is_due(bench: Bench) -> None:
    settings = bench.run / "artifactd.toml"
    (bench.run / "f").write_bytes(b"1")
    bench.restart(exclude='["artifactd.toml"]', scan_interval='"1s"')

    def name() -> str:
        with contextlib.closing(sqlite3.connect(bench.base / "state" / "mlflow.db")) as store:
            return str(store.execute("SELECT name FROM runs").fetchone()[0])

    def settled() -> bool:
        return not bench.engine.waiting_runs and bench.at_rest()

    bench.turn_until(lambda: bench.stored() == {"f": b"1"} and settled(), "it is stored")
    assert name() == "r"
    settings.write_text('name = "n1"')
    bench.turn_until(lambda: name() == "n1" and settled(), "the name is told")
    bench.engine.close()
    settings.write_text('name = "n2"')
    bench.engine = Engine(bench.config(exclude='["artifactd.toml"]', scan_interval='"1s"'), "test")
    bench.turn_until(lambda: name() == "n2" and settled(), "so is what changed while nothing ran")
    settings.unlink()
    bench.turn_until(lambda: name() == "r" and settled(), "and that it is gone")


def test_what_failed_below_a_folder_that_is_now_excluded_is_forgotten(bench: Bench) -> None:
    deep = bench.run / "junk" / "deep"
    deep.mkdir(parents=True)
    os.mkfifo(deep / "pipe")
    (bench.run / "artifactd.toml").write_text("no toml")
    (deep / "f").write_bytes(b"x")
    before = {State.FAILED: 2, State.IGNORED: 1}
    bench.turn_until(lambda: bench.engine.scanned and bench.totals().states == before, "all is known")
    bench.restart(exclude='["junk/"]')
    bench.turn_until(lambda: bench.engine.scanned, "it is scanned")
    assert bench.totals().states == {State.FAILED: 1}


@pytest.fixture
def removing(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, after_upload='"delete"')
    yield made
    made.engine.close()


def test_what_is_stored_is_removed_and_only_that(removing: Bench) -> None:
    bench = removing
    (bench.run / "deep").mkdir()
    for name in ("a", "deep/b", "busy", "half.tmp", "artifactd.toml", ".done"):
        (bench.run / name).write_bytes(b"" if name.endswith(".toml") else name.encode())
    with (bench.run / "busy").open("rb"):
        bench.turn_until(lambda: not (bench.run / "a").exists() and not (bench.run / "deep/b").exists(), "removed")
        bench.turn_until(lambda: not bench.engine.waiting_runs and bench.engine.ledger.waiting()[0] == 0, "all over")
        left = {str(f.relative_to(bench.run)) for f in bench.run.rglob("*")}
        assert left == {"deep", "busy", "half.tmp", "artifactd.toml", ".done"}
    stored = bench.stored()
    assert (stored["a"], stored["deep/b"], stored["busy"]) == (b"a", b"deep/b", b"busy")
    (bench.run / "a").write_bytes(b"again")
    bench.turn_until(lambda: bench.stored()["a"] == b"again" and not (bench.run / "a").exists(), "and once more")


def test_the_folder_stays_as_it_was_and_the_store_keeps_what_leaves_it(bench: Bench) -> None:
    def signs() -> dict[str, tuple[int, ...]]:
        found = {str(path): path.lstat() for path in [bench.drop, *bench.drop.rglob("*")]}
        return {p: (st.st_mode, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns) for p, st in found.items()}

    (bench.run / "deep").mkdir()
    (bench.run / "empty").mkdir()
    for name in ("a", "deep/b", "artifactd.toml", "train.log", ".done"):
        (bench.run / name).touch()
    before = signs()
    bench.turn_until(lambda: {"a", ".done", "artifactd/manifest.json"} <= bench.stored().keys(), "all is told")
    bench.turn_until(bench.at_rest, "nothing is left")
    assert signs() == before, "nothing is made, removed, renamed, written or touched"
    (bench.run / "a").unlink()
    (bench.run / "c").write_bytes(b"c")
    bench.turn_until(lambda: "c" in bench.stored() and bench.at_rest(), "it looks again")
    assert "a" in bench.stored()


def test_what_killed_workers_leave_is_gone_with_the_next_start(bench: Bench) -> None:
    (bench.run / "f").write_bytes(os.urandom(100))
    bench.turn_until(lambda: bench.stored() and bench.at_rest(), "a worker has worked")
    staging = bench.base / "state" / "staging"
    assert not [p for p in staging.rglob("*") if p.is_file()], "it tidies up after itself"
    (staging / "artifactd-left").mkdir()
    (staging / "artifactd-left" / "artifact").write_bytes(b"half of a download")
    bench.restart()
    assert not staging.exists()


def test_an_engine_with_nothing_to_do_looks_now_and_then_and_at_once_when_there_is_something(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bench.engine

    def told_outside() -> None:
        """As ``artifactd retry``."""
        with contextlib.closing(sqlite3.connect(bench.base / "state" / "ledger.db")) as con, con:
            con.execute("UPDATE roots SET detail = 'written'")

    def rest() -> None:
        wait_for(lambda: not engine.turn(0.05), "it rests", 60)

    (bench.run / "f").write_bytes(b"1")
    bench.turn_until(lambda: bench.at_rest() and bench.stored() and not engine.waiting_runs, "all is told")
    rest()
    monkeypatch.setattr("artifactd.engine.LOOK_ANYWAY", 2.0)
    end, did = time.monotonic() + 5.0, list[bool]()
    while time.monotonic() < end:
        did.append(engine.turn(0.05))
    assert 1 <= sum(did) < len(did) / 4
    monkeypatch.undo()
    for something in (lambda: (bench.run / "g").write_bytes(b"2"), engine.wake, told_outside):
        rest()
        something()
        begun = time.monotonic()
        wait_for(lambda: engine.turn(0.05), "it looks")
        assert time.monotonic() - begun < LOOK_ANYWAY / 2, something
    bench.turn_until(lambda: bench.stored().get("g") == b"2", "the new file is stored")


def test_an_engine_that_rests_has_said_how_it_watches(bench: Bench) -> None:
    """Not a look later, which is due after 15 s where nothing happens."""
    bench.restart()
    bench.turn_until(bench.at_rest, "all is seen")
    wait_for(lambda: not bench.engine.turn(0.05), "it rests")
    with contextlib.closing(Report(bench.base / "state")) as report:
        assert [(view.mode, view.healthy, view.detail) for view in report.watches()] == [("events", True, "")]


def test_what_was_read_of_the_ledger_is_given_back_at_rest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a service at rest would hold more of it with each file that there ever was, up to all of its cache."""
    bench.restart(scan_interval='"1s"')
    ledger, given = bench.engine.ledger, list[int]()
    give_back = ledger.rest

    def rest() -> None:
        give_back()
        given.append(bench.engine.watched[0].scanned)

    monkeypatch.setattr(ledger, "rest", rest)
    bench.turn_until(lambda: {1, 2, 3} <= set(given), "after each of three scans")
    events = len(given)
    (bench.run / "f").mkdir()
    bench.turn_until(lambda: len(given) > events, "after what an event named as well")


def test_garbage_is_collected_when_the_delivery_process_has_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What refers to itself would stay until as much more has been made, which at rest is never."""

    class Knot:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.setattr("artifactd.engine.IDLE_AFTER", 0.0)
    (bench.run / "f").write_bytes(b"x")
    gc.disable()
    try:
        knot = weakref.ref(Knot())
        bench.turn_until(lambda: bench.at_rest() and bench.stored(), "stored")
        bench.turn_until(lambda: knot() is None, "the garbage is gone")
    finally:
        gc.enable()


def test_a_root_that_goes_while_an_engine_rests_is_noticed_at_once(bench: Bench) -> None:
    bench.turn_until(lambda: bench.at_rest() and not bench.engine.waiting_runs, "it rests")
    wait_for(lambda: not bench.engine.turn(0.05), "it rests")
    bench.drop.rename(bench.base / "away")
    begun = time.monotonic()
    bench.turn_until(lambda: bench.engine.watched[0].away, "it is away")
    assert time.monotonic() - begun < LOOK_ANYWAY / 2


@pytest.mark.parametrize(
    "told", [{"notify": NotifyConfig(command=("page",))}, {"metrics": MetricsConfig(listen="127.0.0.1:9464")}]
)
def test_who_is_told_changes_without_a_new_beginning(told: dict[str, object], bench: Bench) -> None:
    other = bench.engine.config.model_copy(update=told)
    assert bench.engine.limit(other)
    assert bench.engine.config == other
    assert not bench.engine.limit(other.model_copy(update={"retry": RetryConfig(initial=2)}))


@pytest.mark.parametrize(
    ("target", "workers"),
    [
        ("", 3),
        ('tracking_uri = "sqlite:///{}/mlflow.db"\nartifact_location = "file://{}/artifacts"', 3),
        ('tracking_uri = "sqlite:///{}/mlflow.db"\nartifact_location = "s3://bucket/artifacts"', 6),
        ('tracking_uri = "http://mlflow:5000"\nartifact_location = "file://{}/artifacts"', 6),
    ],
)
def test_no_more_workers_than_cores_where_nothing_is_waited_for(
    target: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    file = tmp_path / "config.toml"
    (tmp_path / "drop").mkdir()
    file.write_text(
        f'state_dir = "{tmp_path}/state"\n[mlflow]\n{target.replace("{}", str(tmp_path))}\n'
        f'[[watch]]\npath = "{tmp_path}/drop"\n'
    )
    assert auto_workers(load_config(file)) == workers
