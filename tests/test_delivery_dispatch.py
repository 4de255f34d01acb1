"""What is handed out, and in which order, on a real ledger; the pool only says how many workers are free."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pytest

from artifactd.delivery.backoff import Backoff
from artifactd.delivery.dispatch import Dispatcher
from artifactd.delivery.messages import (
    Answer,
    Deliver,
    EndRun,
    Finished,
    Free,
    Job,
    JobFailed,
    NotAtRest,
    NotDelivered,
    Outcomes,
    PrepareRun,
    RunEnded,
    RunReady,
    Stored,
    Target,
)
from artifactd.delivery.pool import Pool
from artifactd.delivery.receipts import Source
from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import END_REFUSED, Blockage, Ledger, Name, Report, State, Wanted
from artifactd.ledger.lives import Life
from artifactd.metrics import Figures
from artifactd.tracking.runs import PARENT_TAG
from artifactd.watching.signature import Signature

URI = "http://127.0.0.1:9"
SIG = Signature(3, 1, 1, 1)
DOWN = Failure(Kind.TRANSIENT, Scope.TARGET, "cannot be reached", "wait")


class Desk(Pool):
    """A pool whose workers take jobs and never answer; the test does."""

    def __init__(self, size: int) -> None:
        super().__init__(size, URI)
        self.taken: list[Job] = []
        self.wrapping: list[Job] = []

    @property
    def free(self) -> int:
        return self.size - len(self.taken)

    def jobs(self) -> list[Job]:
        return self.taken

    def submit(self, job: Job) -> None:
        self.taken.append(job)

    def wrap_up(self, jobs: Collection[Job]) -> None:
        self.wrapping += [job for job in jobs if not any(job is other for other in self.wrapping)]


class Office:
    def __init__(self, base: Path, workers: int = 1, backoff: Backoff | None = None) -> None:
        self.base = base
        self.ledger = Ledger(base)
        self.root = self.ledger.use_roots([b"/drop"])[b"/drop"]
        self.pool = Desk(workers)
        self.figures = Figures()
        self.dispatcher = Dispatcher(
            self.ledger,
            self.pool,
            target=Target(URI),
            target_name=URI,
            artifact_location=None,
            backoff=backoff or Backoff(1, 60),
            sources={self.root: Source(1.0, True, lambda *_: None, lambda: (1, 2))},
            figures=self.figures,
        )

    def run(self, name: str, run_id: str | None = None) -> int:
        row = self.ledger.run_for(self.root, name.encode(), URI, name, "e", name)
        if run_id is not None:
            self.ledger.set_run_id(row, run_id, "RUNNING", self.ledger.run(row).settings_text)
        return row

    def due(self, run: int, name: bytes, folder: bytes = b"", *, strange: bool = False) -> None:
        row, _ = self.ledger.folder(self.root, folder or str(run).encode(), create=True) or (0, "")
        dest = hash((run, name)) % 2**60
        self.ledger.want(row, [Wanted(name, State.DUE, SIG, run, "", name.decode(), dest, due_at=1.0, strange=strange)])

    def be_one_of_a_fleet(self) -> None:
        source = Source(1.0, True, lambda *_: None, lambda: (1, 2), fleet=True)
        self.dispatcher._sources = {self.root: source}

    def answer(self, answer: Answer) -> Job:
        (job,) = self.assign()
        self.pool.taken.clear()
        self.dispatcher.take(job, answer, 10.0)
        return job

    def assign(self, now: float = 10.0) -> list[Job]:
        jobs = self.dispatcher.assign(now)
        self.dispatcher.submit(jobs)
        return jobs

    def finish(self, now: float = 10.0) -> None:
        for job in list(self.pool.taken):
            self.pool.taken.remove(job)
            self.dispatcher.take(job, RunReady("r9", "RUNNING") if isinstance(job, PrepareRun) else Finished(), now)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.ledger.close()


def test_a_run_is_prepared_once_before_its_files_go(office: Office) -> None:
    run = office.run("a")
    office.due(run, b"x")
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    assert office.assign() == []
    office.finish()
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    assert job.run_id == "r9"


def test_each_try_that_fails_is_counted_whatever_it_tried(office: Office) -> None:
    """An outage is met by jobs and not by files: counted must be these, else nobody sees it in the numbers."""
    run = office.run("a", "r1")
    office.due(run, b"x")
    for now in (10.0, 100.0):
        (job,) = office.assign(now)
        office.pool.taken.clear()
        office.dispatcher.take(job, JobFailed(DOWN), now)
    assert office.figures.failed == {"transient": 2}
    (job,) = office.assign(1000.0)
    assert isinstance(job, Deliver)
    refused = Failure(Kind.PAUSED, Scope.TARGET, "answered 401", "Say who asks")
    results = Outcomes((NotDelivered(job.files[0], refused, 0, touched=False),))
    office.dispatcher.take(job, results, 1000.0)
    office.dispatcher.take(job, JobFailed(Failure(Kind.PERMANENT, Scope.RUN, "run r1 is deleted", "")), 1000.0)
    assert office.figures.failed == {"transient": 2, "paused": 1, "permanent": 1}


def test_what_was_sent_without_an_answer_is_content_too_once_the_store_is_seen_to_have_it(office: Office) -> None:
    """Else `status` tells of each byte that it went out a thousand times."""
    run = office.run("a", "r1")
    office.due(run, b"x")
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    (file,) = job.files
    late = Failure(Kind.TRANSIENT, Scope.FILE, "answered 504", "")
    office.dispatcher.take(job, Outcomes((NotDelivered(file, late, 3, touched=True),)), 10.0)
    office.finish(10.0)
    (job,) = office.assign(1000.0)
    assert isinstance(job, Deliver)
    (file,) = job.files
    assert file.ask
    office.dispatcher.take(job, Outcomes((Stored(file, b"d" * 32, 3, None, 0.0),)), 1000.0)
    office.finish(1000.0)
    report = Report(office.base)
    totals = report.totals()
    report.close()
    assert (totals.bytes_sent, totals.bytes_unique) == (3, 3)


def test_runs_take_turns(office: Office) -> None:
    first, second = office.run("a", "r1"), office.run("b", "r2")
    served = []
    for _ in range(4):
        office.due(first, b"x")
        office.due(second, b"y")
        (job,) = office.assign()
        served.append(job.run)
        office.finish()
    assert sorted(served) == [first, first, second, second]


def test_an_end_goes_first_however_much_is_due(office: Office) -> None:
    busy, over = office.run("busy", "r1"), office.run("over", "r2")
    office.due(busy, b"x")
    office.assign()  # the first contact
    office.finish()
    office.due(over, b".done", folder=b"over")
    (done,) = office.ledger.claim(over, 10.0, 1, 10**9)
    office.ledger.delivered(done, b"d" * 32, size=3, now=1, sent=True, due_again=2)
    for n in range(5):
        office.due(busy, b"more-%d" % n)
    (job,) = office.assign()
    assert isinstance(job, EndRun)
    assert (job.run_id, job.end.status) == ("r2", "FINISHED")


def test_a_server_that_is_down_gets_one_small_probe_a_backoff(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=8)
    run = office.run("a", "r1")
    for n in range(50):
        office.due(run, b"%d" % n)
    (job,) = office.assign(now=10.0)  # first contact: one job, whatever is free
    office.pool.taken.clear()
    office.dispatcher.take(job, JobFailed(DOWN), 10.0)
    blockage = office.ledger.blockages()[URI]
    assert blockage.next_try <= 11.0
    assert office.assign(now=blockage.next_try - 0.001) == [] or blockage.next_try <= 10.0
    (probe,) = office.assign(now=20.0)
    assert isinstance(probe, Deliver)
    assert len(probe.files) == 1
    assert office.assign(now=20.0) == [], "one probe at a time"
    office.finish(now=20.0)
    assert office.ledger.blockages() == {}
    assert len(office.assign(now=20.0)) >= 1
    office.ledger.close()


def test_a_store_that_is_crowded_gets_half_as_many_jobs_until_it_takes_them(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    crowded = Failure(Kind.TRANSIENT, Scope.RUN, "is overloaded", crowded=True)
    runs = [office.run(name, f"r{name}") for name in "abcdefgh"]
    for run in runs:
        office.due(run, b"x")
    office.assign()  # first contact
    office.finish()
    assert len(office.assign()) == 4
    first, second, *others = office.pool.taken
    for job in (first, second):
        office.pool.taken.remove(job)
        office.dispatcher.take(job, JobFailed(crowded), 10.0)
    assert office.assign(now=10.0) == [], "two are under way, and no more than two may be"
    office.finish()
    assert len(others) == 2
    assert len(office.assign(now=10.0)) == 2
    for _ in range(8):
        for run in runs:
            office.due(run, b"y")
        office.finish(now=100.0)
        office.assign(now=100.0)
    assert len(office.pool.taken) == 4
    office.ledger.close()


def test_a_runs_files_come_before_the_next_run_is_made(office: Office) -> None:
    runs = [office.run(name) for name in ("a", "b", "c")]
    for run in runs:
        office.due(run, b"x")
    told = []
    for _ in range(6):
        (job,) = office.assign()
        told.append((type(job), job.run))
        office.finish()
        for file in office.ledger.claim(job.run, 10.0, 9, 10**9) if isinstance(job, Deliver) else ():
            office.ledger.delivered(file, b"d" * 32, size=3, now=1, sent=True, due_again=2)
    assert told == [(kind, run) for run in runs for kind in (PrepareRun, Deliver)]


def test_nothing_is_sent_from_a_root_that_is_away(office: Office) -> None:
    run = office.run("a", "r1")
    office.due(run, b"x")
    here: list[tuple[int, int] | None] = [None]
    office.dispatcher._sources[office.root] = Source(1.0, True, lambda *_: None, lambda: here[0])  # type: ignore[index]
    assert office.assign() == []
    here[0] = (1, 2)
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    assert job.root.identity == (1, 2)


def test_what_is_held_back_is_let_go_when_nothing_waits_for_it(office: Office) -> None:
    run = office.run("a", "r1")
    office.due(run, b"x")
    (job,) = office.assign(now=10.0)
    office.pool.taken.clear()
    office.dispatcher.take(job, JobFailed(DOWN), 10.0)
    office.ledger.release_idle(100.0)
    assert office.ledger.blockages(), "a file waits for it"
    office.ledger.forget(office.ledger.folder(office.root, str(run).encode(), create=True)[0], [b"x"])  # type: ignore[index]
    office.ledger.release_idle(0.0)
    assert office.ledger.blockages(), "its time has not come"
    office.assign(now=100.0)
    assert office.ledger.blockages() == {}


def test_a_listing_that_takes_long_makes_the_next_batch_bigger(office: Office) -> None:
    run = office.run("a", "r1")
    sizes = []
    for listing in (0.9, 0.9, 0.1, 0.1):
        for n in range(2000):
            office.due(run, b"%d" % n)
        (job,) = office.assign()
        assert isinstance(job, Deliver)
        sizes.append(len(job.files))
        office.pool.taken.clear()
        office.dispatcher.take(job, Finished(listing), 10.0)
    assert sizes == [256, 512, 1024, 512]


def test_a_long_listing_after_a_few_files_says_nothing(office: Office) -> None:
    run = office.run("a", "r1")
    office.due(run, b"alone")
    office.assign()
    (job,) = office.pool.taken
    office.pool.taken.clear()
    office.dispatcher.take(job, Finished(0.9), 10.0)
    for n in range(2000):
        office.due(run, b"%d" % n)
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    assert len(job.files) == 256


@pytest.mark.parametrize(("files", "shares"), [(500, [125] * 4), (2000, [256] * 4), (40, [16, 16, 8]), (1, [1])])
def test_the_files_of_a_run_are_shared_out_among_the_free_workers(
    tmp_path: Path, files: int, shares: list[int]
) -> None:
    office = Office(tmp_path, workers=4)
    office.dispatcher._met = True
    run = office.run("a", "r1")
    for n in range(files):
        office.due(run, b"%d" % n)
    assert [len(job.files) for job in office.assign() if isinstance(job, Deliver)] == shares
    office.ledger.close()


def test_runs_that_are_due_together_share_the_workers(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    office.dispatcher._met = True
    first, second = office.run("a", "r1"), office.run("b", "r2")
    for n in range(100):
        office.due(first, b"%d" % n)
        office.due(second, b"%d" % n)
    jobs = [job for job in office.assign() if isinstance(job, Deliver)]
    assert sorted((job.run, len(job.files)) for job in jobs) == [(first, 50)] * 2 + [(second, 50)] * 2
    assert office.pool.wrapping == []
    office.ledger.close()


def test_a_run_that_holds_all_workers_makes_way_for_those_that_come(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    office.dispatcher._met = True
    big, late, later = office.run("big", "r1"), office.run("late", "r2"), office.run("later")
    for n in range(2000):
        office.due(big, b"%d" % n)
    jobs = office.assign()
    assert office.pool.wrapping == []
    office.due(late, b"x")
    assert office.assign() == []
    assert office.pool.wrapping == jobs[1:2], "one worker for one run that waits, and the big one keeps some"
    office.due(later, b"y")
    office.ledger.block_run(late, Blockage(Kind.TRANSIENT, "not now", "wait", 1, 99.0))
    office.assign()
    assert office.pool.wrapping == jobs[1:2], "a run that is held back waits for no worker"
    office.ledger.block_run(late, None)
    assert office.assign() == []
    assert office.pool.wrapping == jobs[1:3]
    office.ledger.close()


def test_a_run_that_holds_one_worker_finishes_its_job(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=2)
    office.dispatcher._met = True
    runs = [office.run(name, name) for name in ("a", "b", "c")]
    for run in runs:
        office.due(run, b"x")
    assert len(office.assign()) == 2
    assert office.assign() == []
    assert office.pool.wrapping == []
    office.ledger.close()


def test_settings_that_change_while_a_run_is_prepared_are_told_afterwards(office: Office) -> None:
    run = office.run("a")
    office.due(run, b"x")
    office.assign()
    office.ledger.set_run_settings(run, {"team": "vision"}, {})
    office.finish()
    assert [r.id for r in office.ledger.runs_to_update(URI)] == [run]
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    assert job.spec.tags == {"team": "vision"}
    office.finish()
    assert [r.id for r in office.ledger.runs_to_update(URI)] == []


def test_changed_settings_are_told_though_nothing_is_due(office: Office) -> None:
    run = office.run("a", "r1")
    assert office.assign() == []
    office.ledger.set_run_settings(run, {"team": "vision"}, {})
    assert office.dispatcher.waiting_runs()
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    office.finish()
    assert not office.dispatcher.waiting_runs()
    assert office.assign() == []


def test_settings_that_are_refused_are_not_told_again_before_they_change_or_a_file_is_due(office: Office) -> None:
    run = office.run("a", "r1")
    office.ledger.set_run_settings(run, {"team": "vision"}, {})
    refused = Failure(Kind.PERMANENT, Scope.RUN, "run r1 is deleted", "Restore it")
    (job,) = office.assign()
    office.pool.taken.clear()
    office.dispatcher.take(job, JobFailed(refused), 10.0)
    assert office.assign() == []
    assert not office.dispatcher.waiting_runs()
    office.due(run, b"x")
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    office.pool.taken.clear()
    office.dispatcher.take(job, JobFailed(refused), 10.0)
    assert office.assign() == []
    office.ledger.set_run_settings(run, {"team": "audio"}, {})
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)


def test_settings_that_cannot_be_told_are_tried_less_and_less_often(office: Office) -> None:
    run = office.run("a", "r1")
    office.ledger.set_run_settings(run, {"team": "vision"}, {})
    now, tries = 10.0, []
    while now < 400:
        for job in office.assign(now):
            tries.append(now)
            office.pool.taken.clear()
            office.dispatcher.take(job, JobFailed(DOWN), now)
        now += 0.5
    assert 5 < len(tries) < 60, "one a second would be 390"


def test_settings_of_runs_elsewhere_are_not_told_here(office: Office) -> None:
    other = office.ledger.run_for(office.root, b"b", "http://other", "b", "e", "b")
    office.ledger.set_run_id(other, "r2", "RUNNING", "")
    office.ledger.set_run_settings(other, {"team": "vision"}, {})
    assert office.assign() == []
    assert not office.dispatcher.waiting_runs()


@pytest.mark.parametrize("touched", [True, False])
def test_the_store_is_asked_about_what_a_failed_try_may_have_left(touched: bool, office: Office) -> None:
    run = office.run("a", "r1")
    office.due(run, b"x")
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    (file,) = job.files
    assert not file.ask
    failure = Failure(Kind.TRANSIENT, Scope.FILE, "closed in the middle")
    office.pool.taken.clear()
    office.dispatcher.take(job, Outcomes((NotDelivered(file, failure, 0, touched=touched),)), 10.0)
    office.dispatcher.take(job, Finished(), 10.0)
    (job,) = office.assign(now=100.0)
    assert isinstance(job, Deliver)
    assert [f.ask for f in job.files] == [touched]


def test_an_end_that_is_refused_is_shown_and_tried_again_by_a_retry(office: Office) -> None:
    run = office.run("over", "r1")
    office.due(run, b".done", folder=b"over")
    (done,) = office.ledger.claim(run, 10.0, 1, 10**9)
    office.ledger.delivered(done, b"d" * 32, size=3, now=1, sent=True, due_again=2)
    (job,) = office.assign()
    assert isinstance(job, EndRun)
    office.pool.taken.clear()
    office.dispatcher.take(job, JobFailed(Failure(Kind.PERMANENT, Scope.RUN, "run r1 is deleted", "Restore it")), 10.0)
    assert office.assign(now=10_000.0) == []
    assert office.dispatcher.waiting_runs() == []
    report = Report(office.base)
    assert [held.error for held in report.held_runs().values()] == ["run r1 is deleted"]
    report.retry(None)
    assert report.held_runs() == {}
    report.close()
    (job,) = office.assign(now=10_001.0)
    assert isinstance(job, PrepareRun)
    office.pool.taken.clear()
    office.dispatcher.take(job, RunReady("r1", "RUNNING"), 10_001.0)
    (job,) = office.assign(now=10_002.0)
    assert isinstance(job, EndRun)


def test_an_end_that_cannot_be_told_is_tried_less_and_less_often(office: Office) -> None:
    run = office.run("over", "r1")
    office.due(run, b".done", folder=b"over")
    (done,) = office.ledger.claim(run, 10.0, 1, 10**9)
    office.ledger.delivered(done, b"d" * 32, size=3, now=1, sent=True, due_again=2)
    now, tries = 10.0, 0
    while now < 400:
        for job in office.assign(now):
            tries += 1
            office.pool.taken.clear()
            office.dispatcher.take(job, JobFailed(DOWN), now)
        now += 0.5
    assert 5 < tries < 60, "one a second would be 390"


def test_no_run_is_made_for_files_that_are_gone(tmp_path: Path) -> None:
    office = Office(tmp_path)
    run = office.run("a")
    office.due(run, b"x")
    folder, _ = office.ledger.folder(office.root, str(run).encode(), create=False) or (0, "")

    def look_again(files: Iterable[tuple[bytes, bytes]], _now: float) -> None:
        office.ledger.forget(folder, [name for _, name in files])

    office.dispatcher._sources = {office.root: Source(1.0, True, look_again, lambda: (1, 2))}
    assert office.assign() == []
    office.ledger.close()


def paused(office: Office, *runs: int, now: float) -> None:
    """Have each of these runs refused for its credentials, for the tenth time."""
    refused = Failure(Kind.PAUSED, Scope.RUN, "does not know the key", "Check it")
    for run in runs:
        office.ledger.block_run(run, Blockage(refused.kind, refused.error, refused.cure, 9, now))
        (job,) = office.assign(now)
        office.pool.taken.clear()
        office.dispatcher.take(job, JobFailed(refused), now)


def test_what_waits_for_new_credentials_is_tried_again_within_a_minute(tmp_path: Path) -> None:
    """However often it was refused, and however rare the tries are that an outage gets."""
    office = Office(tmp_path, workers=4, backoff=Backoff(300, 3600))
    waits = []
    for n in range(40):
        run = office.run(f"r{n}", f"r{n}")
        office.due(run, b"x")
        paused(office, run, now=10.0)
        waits.append(office.ledger.run(run).next_try - 10.0)
    assert max(waits) <= 45, "a try may take 12 s by itself"
    assert max(waits) - min(waits) > 15, "not all at once"
    office.ledger.close()


def test_runs_that_wait_for_credentials_leave_half_of_the_workers_to_the_others(tmp_path: Path) -> None:
    """A try may take 12 s, and a hundred runs may wait."""
    office = Office(tmp_path, workers=4)
    office.due(office.run("first", "r"), b"x")
    (job,) = office.assign()  # the first contact
    assert isinstance(job, Deliver)
    office.pool.taken.clear()
    office.dispatcher.take(job, Outcomes((NotAtRest(job.files[0], None, "gone", 0),)), 10.0)
    waiting = [office.run(f"waiting{n}", f"r{n}") for n in range(8)]
    for run in waiting:
        for n in range(3):
            office.due(run, b"%d" % n)
        paused(office, run, now=10.0)
    first = [job.run for job in office.assign(now=60.0)]
    assert len(first) == len(set(first)) == 2, "one each"
    assert set(first) < set(waiting)
    well = [office.run(f"well{n}", f"w{n}") for n in range(3)]
    for run in well:
        office.due(run, b"x")
    assert {job.run for job in office.assign(now=60.0)} < set(well)
    office.finish(now=60.0)
    assert len({job.run for job in office.assign(now=60.0)} & set(waiting)) >= 2, "and get their turns"
    office.ledger.close()


def test_a_run_of_a_fleet_is_asked_for_as_such_and_an_adopted_one_is_not(office: Office) -> None:
    office.be_one_of_a_fleet()
    office.due(office.run("a"), b"x")
    job = office.answer(RunReady("r9", "RUNNING"))
    assert isinstance(job, PrepareRun)
    assert job.spec.fleet
    office.ledger.forget(office.ledger.folder(office.root, str(job.run).encode(), create=True)[0], [b"x"])  # type: ignore[index]
    office.due(office.run("run:" + "a" * 32), b"x")
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    assert (job.spec.fleet, job.spec.run_id) == (False, "a" * 32)


def test_a_name_that_is_free_is_written_down_before_its_file_goes(office: Office) -> None:
    office.be_one_of_a_fleet()
    run = office.run("a", "r1")
    office.due(run, b"x", strange=True)
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    assert [f.name for f in job.files] == [Name.STRANGE]
    office.pool.taken.clear()
    office.dispatcher.take(job, Outcomes((Free(job.files[0]),)), 10.0)
    office.dispatcher.take(job, Finished(), 10.0)
    (job,) = office.assign()
    assert isinstance(job, Deliver)
    assert [f.name for f in job.files] == [Name.FREE]


def _marked(office: Office, run: int) -> None:
    """All of this run is stored, and its end marker with it."""
    office.due(run, b".done", folder=b"a")
    (done,) = office.ledger.claim(run, 10.0, 1, 10**9)
    office.ledger.delivered(done, b"d" * 32, size=3, now=1, sent=True, due_again=2)


def test_each_host_of_a_fleet_ends_the_run_once_whatever_the_others_did(office: Office) -> None:
    office.be_one_of_a_fleet()
    run = office.run("a")
    office.due(run, b"x")
    office.answer(RunReady("r1", "FINISHED", found=True))
    assert office.ledger.run(run).status == "RUNNING", "this host is not through with it"
    (file,) = office.ledger.claim(run, 10.0, 1, 10**9)
    office.ledger.delivered(file, b"e" * 32, size=3, now=1, sent=True, due_again=2)
    _marked(office, run)
    job = office.answer(RunEnded("FAILED"))
    assert isinstance(job, EndRun)
    assert (job.end.status, job.fleet) == ("FINISHED", True)
    assert office.ledger.run(run).status == "FAILED", "as another host said, which is shown"
    office.ledger.set_run_settings(run, {"team": "vision"}, {})
    assert isinstance(office.answer(RunReady("r1", "FAILED", found=True)), PrepareRun)
    assert office.assign() == [], "it is not ended again"


def test_an_end_that_was_refused_to_a_host_of_a_fleet_is_asked_for_again_by_a_retry(office: Office) -> None:
    office.be_one_of_a_fleet()
    run = office.run("a", "r1")
    _marked(office, run)
    office.ledger.set_run_status(run, END_REFUSED)
    report = Report(office.base)
    report.retry(None)
    report.close()
    assert isinstance(office.answer(RunReady("r1", "FINISHED", found=True)), PrepareRun)
    assert isinstance(office.assign()[0], EndRun)


def _nested(office: Office, *names: str) -> tuple[int, list[int]]:
    """Runs with a file each, in one that has none."""
    parent = office.run("sweep")
    office.ledger.note_life(parent, Life(nests=True, began=7))
    children = [office.run(name) for name in names]
    for child in children:
        office.ledger.note_life(child, Life(parent=parent, began=8))
        office.due(child, b"x")
    return parent, children


def test_the_run_that_holds_others_is_made_before_them_and_once(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    parent, children = _nested(office, "t1", "t2", "t3")
    office.dispatcher._met = True
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    assert (job.run, job.spec.began, job.spec.fleet) == (parent, 7, True), "as hosts elect one: an exec may make it too"
    assert office.assign() == []
    office.finish()
    jobs = office.assign()
    assert [j.run for j in jobs] == children
    for job in jobs:
        assert isinstance(job, PrepareRun)
        assert (job.spec.tags[PARENT_TAG], job.spec.began, job.spec.fleet) == ("r9", 8, False)
    office.ledger.close()


def test_what_keeps_the_run_that_holds_others_from_being_made_is_theirs(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    parent, children = _nested(office, "t1", "t2")
    refused = JobFailed(Failure(Kind.PERMANENT, Scope.RUN, "run sweep is deleted", "Restore it"))
    assert office.answer(refused).run == parent
    assert office.assign() == []
    report = Report(office.base)
    assert {view.error for view in report.failures()} == {"run sweep is deleted"}
    assert len(report.failures()) == len(children)
    report.retry(None)
    report.close()
    later = 9e9
    (job,) = office.assign(now=later)
    office.pool.taken.clear()
    office.dispatcher.take(job, JobFailed(Failure(Kind.TRANSIENT, Scope.RUN, "no room", "wait")), later)
    assert office.assign(now=later) == [], "it waits for its next try, and they with it"
    assert [job.run for job in office.assign(now=later + 100)] == [parent]
    office.ledger.close()


def test_a_run_that_lives_again_is_opened_before_more_goes_in(office: Office) -> None:
    run = office.run("a", "r1")
    office.ledger.note_life(run, Life())
    office.ledger.abandon(run, 5.0, "quiet")
    killed = office.answer(RunEnded("KILLED"))
    assert isinstance(killed, EndRun)
    assert (killed.end.status, killed.end.at, killed.end.reason) == ("KILLED", 5000, "quiet")
    assert office.assign() == []
    office.due(run, b"x")
    office.ledger.note_change(run, 9.0, "a file changed")
    opened = office.answer(RunEnded("RUNNING"))
    assert isinstance(opened, EndRun)
    assert (opened.end.status, opened.end.at, opened.end.before) == ("RUNNING", 9000, "KILLED")
    (job,) = office.assign()
    assert isinstance(job, Deliver)


def test_while_a_status_is_set_nobody_asks_for_the_one_before(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    office.dispatcher._met = True
    run = office.run("a", "r1")
    office.ledger.note_life(run, Life())
    office.ledger.abandon(run, 5.0, "quiet")
    (job,) = office.assign()
    assert isinstance(job, EndRun)
    office.ledger.set_run_settings(run, {"team": "vision"}, {})
    assert office.assign() == []
    office.pool.taken.clear()
    office.dispatcher.take(job, RunEnded("KILLED"), 10.0)
    (job,) = office.assign()
    assert isinstance(job, PrepareRun)
    office.ledger.close()
