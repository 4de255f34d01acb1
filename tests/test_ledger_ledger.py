from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import Blockage, DueFile, FileId, Ledger, LedgerError, Name, State, Wanted
from artifactd.ledger.rows import CLASH
from artifactd.watching.signature import Signature

A = Signature(10, 1, 1, 100)
B = Signature(20, 2, 2, 100)
DIGEST = b"d" * 32
GONE_RUN = Failure(Kind.PERMANENT, Scope.RUN, "run r1 is deleted", "restore it")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


class Tree:
    """One root with one run, to write rows into."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.root = ledger.use_roots([b"/drop"])[b"/drop"]
        self.run = self.new_run(b"e/r", "k1")
        self.folder = (ledger.folder(self.root, b"e/r", create=True) or (0, ""))[0]

    def new_run(self, folder: bytes, identity: str) -> int:
        return self.ledger.run_for(self.root, folder, "http://m", identity, "e", "r")

    def want(
        self,
        name: bytes,
        sig: Signature = A,
        *,
        state: State = State.DUE,
        dest: int = 1,
        kind: str | None = None,
        strange: bool = False,
    ) -> None:
        row = Wanted(name, state, sig, self.run, "", name.decode(), dest, due_at=5.0, kind=kind, strange=strange)
        self.ledger.want(self.folder, [row])

    def claim(self, now: float = 10.0, limit: int = 100, max_bytes: int = 10**9) -> list[DueFile]:
        return self.ledger.claim(self.run, now, limit, max_bytes)

    def state(self, name: bytes) -> State:
        return self.ledger.known_files(self.folder)[name].state


@pytest.fixture
def drop(ledger: Ledger) -> Tree:
    return Tree(ledger)


def test_a_due_file_is_claimed_once_and_not_before_its_time(drop: Tree) -> None:
    drop.want(b"a")
    assert drop.ledger.runs_with_due() == [(drop.run, 5.0)]
    assert drop.claim(now=4.9) == []
    (file,) = drop.claim(now=5.0)
    assert (file.rel, file.signature, file.digest) == (b"e/r/a", A, None)
    assert drop.claim() == []
    assert drop.state(b"a") is State.UPLOADING


def test_a_crash_puts_what_was_under_way_back_and_doubts_its_digest(drop: Tree) -> None:
    drop.want(b"a")
    (file,) = drop.claim()
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"a", B)
    (again,) = drop.claim()
    assert again.digest == DIGEST
    assert drop.ledger.recover() == 1
    (after_crash,) = drop.claim()
    assert after_crash.digest is None, "the store may hold the new content, so the old digest proves nothing"


def test_a_change_seen_during_the_upload_is_due_again(drop: Tree) -> None:
    drop.want(b"a")
    (file,) = drop.claim()
    drop.want(b"a", B)
    assert drop.state(b"a") is State.UPLOADING
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    assert drop.state(b"a") is State.DUE
    (again,) = drop.claim()
    assert (again.signature, again.digest) == (B, DIGEST)


def test_a_move_seen_during_the_upload_leaves_no_receipt_at_the_new_place(drop: Tree) -> None:
    drop.want(b"a", dest=1)
    (file,) = drop.claim()
    drop.want(b"a", dest=2)
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    (again,) = drop.claim()
    assert (again.dest, again.digest) == (2, None)


def test_a_receipt_says_whether_the_content_was_new(drop: Tree) -> None:
    drop.want(b"a")
    (file,) = drop.claim()
    assert drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"a", B)
    (file,) = drop.claim()
    assert not drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=False, due_again=2)
    drop.want(b"a", A)
    (file,) = drop.claim()
    assert not drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2), "a repeat after a crash"


def test_vanished_files_are_forgotten_but_receipts_stay(drop: Tree) -> None:
    drop.want(b"never-sent")
    drop.ledger.forget(drop.folder, [b"never-sent"])
    assert b"never-sent" not in drop.ledger.known_files(drop.folder)
    drop.want(b"sent")
    (file,) = drop.claim()
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"sent", B)
    drop.ledger.forget(drop.folder, [b"sent"])
    assert drop.state(b"sent") is State.STORED


def test_stored_files_that_look_as_they_did_are_settled_and_no_others(drop: Tree) -> None:
    for name in (b"same", b"changed", b"gone"):
        drop.want(name)
    for file in drop.claim():
        drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"due")
    found = {b"same": A, b"changed": B, b"due": A, b"new": A}
    left, others = drop.ledger.unsettled_files(drop.folder, found)
    assert left == {b"changed": B, b"due": A, b"new": A}
    assert others == {b"changed", b"gone"}
    assert drop.ledger.unsettled_files(drop.folder, {b"same": A}) == ({}, {b"changed", b"gone"})


def test_one_that_failed_before_goes_alone(drop: Tree) -> None:
    for name in (b"a", b"b", b"c"):
        drop.want(name, dest=ord(name))
    batch = drop.claim()
    assert len(batch) == 3
    for file in batch:
        failing = Failure(Kind.TRANSIENT, Scope.FILE, "the process died")
        drop.ledger.not_delivered(file.id, failing, 5.0, touched=True)
    assert len(drop.claim()) == 1


def test_a_batch_is_bounded_by_bytes_but_never_empty(drop: Tree) -> None:
    for name in (b"a", b"b", b"c"):
        drop.want(name, dest=ord(name))
    assert len(drop.claim(max_bytes=20)) == 2
    assert len(drop.claim(max_bytes=1)) == 1


def test_permanent_failures_wait_for_a_person_or_a_change(drop: Tree) -> None:
    drop.want(b"a")
    (file,) = drop.claim()
    drop.ledger.not_delivered(file.id, Failure(Kind.PERMANENT, Scope.FILE, "no", "mend"), 5.0, touched=False)
    assert drop.state(b"a") is State.FAILED
    assert drop.claim() == []
    drop.want(b"a", B)
    assert len(drop.claim()) == 1


def test_a_deleted_run_fails_all_that_is_due_in_it_and_nothing_else(drop: Tree) -> None:
    drop.want(b"a", dest=1)
    drop.want(b"b", dest=2)
    other = drop.new_run(b"e/other", "k2")
    drop.ledger.want(drop.folder, [Wanted(b"x", State.DUE, A, other, "", "x", 3, due_at=1.0)])
    assert drop.ledger.fail_run_files(drop.run, GONE_RUN) == 2
    assert drop.ledger.runs_with_due() == [(other, 1.0)]


def test_the_holder_of_a_destination_is_named(drop: Tree) -> None:
    drop.want(b"a", dest=7)
    assert drop.ledger.holder(7, FileId(drop.folder, b"b"), drop.run, "a") == b"/drop/e/r/a"
    assert drop.ledger.holder(7, FileId(drop.folder, b"a"), drop.run, "a") is None
    drop.want(b"a", state=State.FAILED, dest=7, kind=CLASH)
    assert drop.ledger.holder(7, FileId(drop.folder, b"b"), drop.run, "a") is None, (
        "one that clashes itself holds nothing"
    )


MARKERS = {b".done": "FINISHED", b".failed": "FAILED"}


def test_a_run_ends_once_all_is_stored_and_a_failed_marker_wins(drop: Tree) -> None:
    ledger = drop.ledger
    ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    drop.want(b"model", dest=1)
    drop.want(b".done", dest=2)
    assert ledger.runs_to_end(MARKERS) == []
    model, done = sorted(drop.claim(), key=lambda f: f.rel, reverse=True)
    ledger.delivered(done, DIGEST, size=10, now=1, sent=True, due_again=2)
    assert ledger.runs_to_end(MARKERS) == []
    ledger.not_delivered(model.id, Failure(Kind.PERMANENT, Scope.FILE, "no"), 0, touched=False)
    assert ledger.runs_to_end(MARKERS) == [], "a failed file is not stored"
    drop.want(b"model", B, dest=1)
    (model,) = drop.claim()
    ledger.delivered(model, DIGEST, size=10, now=1, sent=True, due_again=2)
    assert [(r.id, end.status) for r, end in ledger.runs_to_end(MARKERS)] == [(drop.run, "FINISHED")]
    drop.want(b".failed", dest=3)
    (failed,) = drop.claim()
    ledger.delivered(failed, DIGEST, size=10, now=1, sent=True, due_again=2)
    assert [end.status for _, end in ledger.runs_to_end(MARKERS)] == ["FAILED"]
    ledger.set_run_status(drop.run, "FAILED")
    assert ledger.runs_to_end(MARKERS) == [], "an ended run stays as it is"


def test_a_marker_elsewhere_in_the_tree_ends_nothing(drop: Tree) -> None:
    drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    deeper = (drop.ledger.folder(drop.root, b"e/r/data", create=True) or (0, ""))[0]
    drop.ledger.want(deeper, [Wanted(b".done", State.DUE, A, drop.run, "data", ".done", 9, due_at=1.0)])
    (file,) = drop.claim()
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    assert drop.ledger.runs_to_end(MARKERS) == []


def test_settings_are_told_once_and_again_when_they_change(drop: Tree) -> None:
    ledger = drop.ledger
    ledger.set_run_settings(drop.run, {"a": "1"}, {"params": {}})
    ledger.set_run_id(drop.run, "r1", "RUNNING", ledger.run(drop.run).settings_text)
    assert [r.id for r in ledger.runs_to_update("http://m")] == []
    ledger.set_run_settings(drop.run, {"a": "2"}, {"params": {}})
    assert [r.id for r in ledger.runs_to_update("http://m")] == [drop.run]


def test_only_restless_files_are_told_from_waiting_ones(drop: Tree) -> None:
    drop.want(b"a")
    assert not drop.ledger.only_restless()
    (file,) = drop.claim()
    drop.ledger.wait(file.id, B, time.time() + 5, "it changed", touched=False)
    assert drop.ledger.only_restless()


def test_folders_below_one_are_found_by_bytes_not_by_likeness(drop: Tree) -> None:
    ledger = drop.ledger
    for rel in (b"a", b"a/b", b"a/b/c", b"a b", b"ab", b"a/\xff", b"a%/x"):
        folder = (ledger.folder(drop.root, rel, create=True) or (0, ""))[0]
        ledger.want(folder, [Wanted(b"f", State.IGNORED, A)])
    assert sorted(ledger.subfolders(drop.root, b"a")) == [b"a/b", b"a/b/c", b"a/\xff"]
    assert len(ledger.subfolders(drop.root, b"")) == 7


def test_a_transaction_that_fails_leaves_nothing(drop: Tree) -> None:
    def fail() -> None:
        with drop.ledger.transaction():
            drop.want(b"a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert drop.ledger.known_files(drop.folder) == {}


def test_what_belongs_to_a_root_that_is_no_longer_watched_waits_unseen(drop: Tree) -> None:
    drop.want(b"a")
    drop.ledger.use_roots([b"/elsewhere"])
    assert drop.ledger.runs_with_due() == []
    assert drop.ledger.waiting() == (0, 0)
    assert drop.ledger.backlog() == (0, 0)
    drop.ledger.use_roots([b"/drop"])
    assert drop.ledger.waiting() == (1, 10)
    assert drop.ledger.runs_with_due() == [(drop.run, 5.0)]


def test_another_target_forgets_what_held_the_old_one_back(drop: Tree) -> None:
    drop.ledger.block_target("http://old", Blockage("transient", "down", "", 1, 9.0))
    drop.ledger.keep_target("http://new")
    assert drop.ledger.blockages() == {}


def test_no_turn_of_the_loop_reads_all_files(drop: Tree) -> None:
    """What is asked at every turn must not grow with the number of files that are stored."""
    asked: list[str] = []
    con = drop.ledger._con
    drop.want(b"a")
    drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    con.set_trace_callback(asked.append)
    drop.ledger.recover()
    drop.ledger.runs_with_due()
    (file,) = drop.claim()
    drop.ledger.waiting()
    drop.ledger.backlog()
    drop.ledger.only_restless()
    drop.ledger.runs_to_end(MARKERS)
    drop.ledger.runs_to_update("http://m")
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.ledger.fail_run_files(drop.run, GONE_RUN)
    drop.ledger.holder(1, file.id, drop.run, "a")
    con.set_trace_callback(None)
    whole = {
        sql: step
        for sql in asked
        if sql.startswith(("SELECT", "UPDATE", "WITH"))
        for *_, step in con.execute(f"EXPLAIN QUERY PLAN {sql}")
        if re.fullmatch(r"SCAN (files|f|o)", step)
    }
    assert whole == {}


def test_a_run_that_was_made_anew_gets_all_its_files_again(drop: Tree) -> None:
    drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    drop.want(b"a")
    (file,) = drop.claim()
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    assert drop.claim() == [], "the same run has what it has"
    drop.ledger.set_run_id(drop.run, "r2", "RUNNING", "")
    (again,) = drop.claim()
    assert again.digest is None, "what the purged run held is no receipt"


def test_a_disk_that_fails_is_told_and_nothing_is_half_written(drop: Tree) -> None:
    drop.ledger._con.execute("PRAGMA max_page_count = 1")  # SQLite's own way to say that the disk is full

    def fill() -> None:
        with drop.ledger.transaction():
            for n in range(10_000):
                drop.want(b"%d" % n, dest=n)

    with pytest.raises(LedgerError, match="full"):
        fill()
    drop.ledger._con.execute("PRAGMA max_page_count = 1000000")
    assert drop.ledger.known_files(drop.folder) == {}


def test_nothing_that_a_purged_run_held_is_a_receipt_whatever_state_its_file_is_in(drop: Tree) -> None:
    """A touched file waits, or has failed, as the run's end is found out: its content is as good as at rest."""
    for name, dest in ((b"due", 1), (b"failed", 2)):
        drop.want(name, dest=dest)
        drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
        (file,) = drop.claim()
        drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"failed", B, dest=2)
    drop.ledger.fail_run_files(drop.run, GONE_RUN)
    drop.want(b"due", B, dest=1)
    drop.ledger.set_run_id(drop.run, "r2", "RUNNING", "")
    assert drop.state(b"failed") is State.FAILED
    drop.want(b"failed", A, dest=2)
    assert {f.leaf: f.digest for f in drop.claim()} == {"due": None, "failed": None}


def test_versions_that_a_purged_run_held_are_no_receipts_either(drop: Tree) -> None:
    drop.want(b"m")
    drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    (file,) = drop.claim()
    drop.ledger.delivered(drop.ledger.as_next_version(file), DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.ledger.set_run_id(drop.run, "r2", "RUNNING", "")
    (again,) = drop.claim()
    first = drop.ledger.as_next_version(again)
    assert (first.leaf, first.version, first.digest) == ("m", 1, None)


# -- names in a run that other hosts deliver into --------------------------------------------------------------------

FULL = Failure(Kind.TRANSIENT, Scope.FILE, "the store is full")


def test_a_name_is_strange_until_it_was_found_free(drop: Tree) -> None:
    drop.want(b"a", strange=True)
    (file,) = drop.claim()
    assert file.name is Name.STRANGE
    drop.ledger.found_free(file.id)
    (file,) = drop.claim()
    assert file.name is Name.FREE
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"a", B, strange=True)
    (file,) = drop.claim()
    assert (file.name, file.digest) == (Name.OURS, DIGEST)


def test_a_crash_before_anything_was_sent_makes_no_name_ours(drop: Tree) -> None:
    """Else what another host put there would be overwritten by the next try."""
    drop.want(b"a", strange=True)
    drop.claim()
    drop.ledger.recover()
    (file,) = drop.claim()
    assert file.name is Name.STRANGE


def test_after_a_crash_in_an_upload_what_stands_there_may_be_ours(drop: Tree) -> None:
    drop.want(b"a", strange=True)
    (file,) = drop.claim()
    drop.ledger.found_free(file.id)
    drop.claim()
    drop.ledger.recover()
    (file,) = drop.claim()
    assert (file.name, file.ask) == (Name.OURS, True)


@pytest.mark.parametrize(
    ("free", "touched", "name"),
    [(False, True, Name.STRANGE), (False, False, Name.STRANGE), (True, True, Name.OURS), (True, False, Name.FREE)],
)
def test_a_try_that_failed_makes_a_name_ours_only_if_something_may_have_been_sent(
    drop: Tree, free: bool, touched: bool, name: Name
) -> None:
    drop.want(b"a", strange=True)
    (file,) = drop.claim()
    if free:
        drop.ledger.found_free(file.id)
        (file,) = drop.claim()
    drop.ledger.not_delivered(file.id, FULL, 6.0, touched=touched)
    (file,) = drop.claim()
    assert file.name is name


def test_a_file_that_moves_or_changes_is_as_strange_as_its_name(drop: Tree) -> None:
    drop.want(b"a", strange=True)
    drop.want(b"a", B, strange=True)
    (file,) = drop.claim()
    assert file.name is Name.STRANGE
    drop.ledger.found_free(file.id)
    (file,) = drop.claim()
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.want(b"a", B, dest=2, strange=True)
    (file,) = drop.claim()
    assert (file.name, file.digest) == (Name.STRANGE, None)


def test_a_failed_file_of_a_fleet_stays_strange_when_it_is_mended(drop: Tree) -> None:
    drop.want(b"a", state=State.FAILED, kind=CLASH, strange=True)
    drop.want(b"a", strange=True)
    (file,) = drop.claim()
    assert file.name is Name.STRANGE


def test_in_a_run_that_was_made_anew_other_hosts_may_have_been_first(drop: Tree) -> None:
    drop.ledger.set_run_id(drop.run, "r1", "RUNNING", "")
    drop.want(b"a", strange=True)
    (file,) = drop.claim()
    drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2)
    drop.ledger.set_run_id(drop.run, "r2", "RUNNING", "", fleet=True)
    (file,) = drop.claim()
    assert (file.name, file.digest) == (Name.STRANGE, None)


def test_some_files_are_known_by_their_names_however_many(drop: Tree) -> None:
    names = [b"%d" % n for n in range(150)]
    for n, name in enumerate(names):
        drop.want(name, dest=n)
    for count in (0, 1, 2, 5, 64, 65, 150):
        assert set(drop.ledger.known_files(drop.folder, [*names[:count], b"new"])) == set(names[:count])


def test_folders_in_an_artifact_folder_are_those_that_files_have(drop: Tree) -> None:
    for n, folder in enumerate(("", "a", "a/b", "a/b/c", "a/d", "a0", "ab")):
        row = Wanted(b"%d" % n, State.DUE, A, drop.run, folder, str(n), n, due_at=1.0)
        drop.ledger.want(drop.folder, [row])
    assert drop.ledger.folders_in(drop.run, "", 9) == {"a", "a0", "ab"}
    assert drop.ledger.folders_in(drop.run, "a", 9) == {"b", "d"}
    assert drop.ledger.folders_in(drop.run, "a/b/c", 9) == set()
    assert drop.ledger.folders_in(drop.run, "a", 3) is None, "there may be more"
    assert drop.ledger.folders_in(drop.run + 1, "", 9) == set()


def test_receipts_of_one_answer_are_counted_together(drop: Tree) -> None:
    counted = Counter[int]()
    for n, name in enumerate((b"a", b"b")):
        drop.want(name, dest=n)
    for file in drop.claim():
        drop.ledger.delivered(file, DIGEST, size=10, now=1, sent=True, due_again=2, noted=counted)
    assert drop.ledger.changes(drop.run) == (0, 0)
    drop.ledger.note_receipts(counted)
    assert drop.ledger.changes(drop.run) == (2, 0)


def test_as_many_are_due_now_as_are_peeked(drop: Tree) -> None:
    for n in range(5):
        drop.want(b"%d" % n, dest=n)
    assert [drop.ledger.due_now(drop.run, now, most) for now, most in ((4.9, 9), (5.0, 9), (5.0, 3))] == [0, 5, 3]
