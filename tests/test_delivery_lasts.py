"""The manifest comes before the end, once, and again after what is stored later; on a real ledger."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.delivery.backoff import FILE_TRIES
from artifactd.delivery.lasts import Lasts
from artifactd.delivery.messages import Answer, Describe, Described, EndRun, Job, JobFailed, RunEnded, RunReady, Target
from artifactd.delivery.receipts import Source
from artifactd.errors import Failure, Kind, Scope
from artifactd.excludes import Ignored
from artifactd.layout import Layout
from artifactd.ledger import END_REFUSED, Report
from artifactd.ledger.manifests import stored_files
from artifactd.names import RUN_NOTE
from test_delivery_dispatch import URI, Office

LAYOUT = Layout("{experiment}/{run}", constants={}, include=["**"], exclude=["cache/"], live=[], routes=[])


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    source = Source(1.0, True, lambda *_: None, lambda: (1, 2), layout=LAYOUT)
    office.dispatcher._sources = {office.root: source}
    office.dispatcher._lasts = Lasts(office.ledger, Target(URI), office.dispatcher._sources)
    yield office
    office.ledger.close()


def store(office: Office, run: int, name: bytes, now: float = 1.0) -> None:
    office.due(run, name, folder=b"a")
    (file,) = office.ledger.claim(run, 10.0, 1, 10**9)
    office.ledger.delivered(file, b"d" * 32, size=3, now=now, sent=True, due_again=2)


def answer(office: Office, said: Answer, now: float = 10.0) -> Job:
    (job,) = office.assign(now)
    office.pool.taken.clear()
    office.dispatcher.take(job, said, now)
    return job


def test_the_manifest_comes_first_and_once(office: Office) -> None:
    run = office.run("a", "r1")
    store(office, run, b"x")
    assert office.assign() == [], "the run is not over"
    store(office, run, b".done")
    job = answer(office, Described("artifactd/manifest.json", 100))
    assert isinstance(job, Describe)
    assert (job.run_id, job.folder, job.changes, job.removes, job.fleet) == ("r1", b"a", 2, False, False)
    assert [run.id for run in office.dispatcher.waiting_runs()] == [run]
    assert isinstance(answer(office, RunEnded("FINISHED")), EndRun)
    assert office.assign() == []
    assert office.dispatcher.waiting_runs() == []
    store(office, run, b"late")
    assert isinstance(answer(office, Described("artifactd/manifest.json", 100)), Describe)
    assert office.assign() == [], "it is over already"


def test_a_receipt_that_comes_meanwhile_is_not_forgotten(office: Office) -> None:
    run = office.run("a", "r1")
    store(office, run, b".done")
    (job,) = office.assign()
    office.pool.taken.clear()
    store(office, run, b"meanwhile")
    office.dispatcher.take(job, Described("artifactd/manifest.json", 100), 10.0)
    (again,) = office.assign()
    assert isinstance(again, Describe)
    assert again.changes == 2


def test_a_run_that_somebody_else_ended_or_made_is_described_too(office: Office) -> None:
    adopted = office.ledger.run_for(office.root, b"a", URI, "run:r2", "e", "a")
    office.ledger.set_run_id(adopted, "r2", "FINISHED", office.ledger.run(adopted).settings_text)
    store(office, adopted, b".done")
    job = answer(office, Described("artifactd/manifest.json", 0))
    assert isinstance(job, Describe)
    assert job.run_id == "r2"
    assert office.assign() == []


def test_a_store_that_is_away_is_waited_for_and_one_that_refuses_is_shown(office: Office) -> None:
    run = office.run("a", "r1")
    store(office, run, b".done")
    away = JobFailed(Failure(Kind.TRANSIENT, Scope.RUN, "s3://b cannot be reached", "wait"))
    for n in range(2 * FILE_TRIES):
        assert isinstance(answer(office, away, 1000.0 * (n + 1)), Describe)
    assert office.ledger.run(run).status == "RUNNING", "time mends it"
    office.ledger.block_run(run, None)
    refusal = JobFailed(Failure(Kind.TRANSIENT, Scope.FILE, "its manifest: answered 500", "See the log"))
    for n in range(FILE_TRIES):
        assert isinstance(answer(office, refusal, 1000.0 * (n + 100)), Describe)
    assert office.ledger.run(run).status == END_REFUSED
    assert office.assign(10**6) == []
    report = Report(office.base)
    (held,) = report.held_runs().values()
    assert "its manifest: answered 500 (given up after 12 tries)" in held.error
    report.retry(None)
    report.close()
    answer(office, RunReady("r1", "RUNNING"), 10**6 + 1)
    assert isinstance(office.assign(10**6 + 2)[0], Describe)


def test_the_rules_go_to_another_process_with_the_job() -> None:
    layout = pickle.loads(pickle.dumps(LAYOUT))  # noqa: S301  (our own bytes)
    assert layout.fingerprint == LAYOUT.fingerprint
    assert layout.excluded_folder(b"e/r/cache") is not None
    assert isinstance(layout.place(b"e/r/" + RUN_NOTE), Ignored)
    assert not isinstance(layout.place(b"e/r/deep/" + RUN_NOTE), Ignored), "in the run folder alone"


def test_what_goes_into_it_is_what_is_stored(office: Office) -> None:
    run = office.run("a", "r1")
    store(office, run, b"x", now=5.0)
    office.due(run, b"waits", folder=b"a")
    (file,) = stored_files(office.ledger.path, run)
    assert (file.rel, file.artifact_path, file.size, file.digest, file.stored_at, file.tries) == (
        b"a/x", "x", 3, b"d" * 32, 5.0, 1,
    )  # fmt: skip
    for number, size in ((1, 3), (2, 3)):
        office.due(run, b"kept", folder=b"a")
        claimed = [office.ledger.as_next_version(f) for f in office.ledger.claim(run, 10.0, 9, 10**9)]
        for one in claimed:
            if one.id.name == b"kept":
                office.ledger.delivered(
                    one, bytes([number]) * 32, size=size, now=6.0, sent=True, due_again=2, dest=number
                )
            else:
                office.ledger.put_back(one.id)
    (kept,) = [f for f in stored_files(office.ledger.path, run) if f.rel == b"a/kept"]
    assert (kept.artifact_path, [v.artifact_path for v in kept.versions]) == ("kept_v2", ["kept", "kept_v2"])
