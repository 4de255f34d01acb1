"""From the ledger to the workers and back: what is due is handed out, what became of it is written down.

Everything here can be repeated: a job that was lost with its worker, or with the whole service, leaves files that
are due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from artifactd import log
from artifactd.delivery.abreast import MOST
from artifactd.delivery.backoff import Backoff
from artifactd.delivery.lasts import Lasts
from artifactd.delivery.limits import BATCH_BYTES
from artifactd.delivery.messages import (
    Answer,
    Deliver,
    Describe,
    Described,
    EndRun,
    Finished,
    Free,
    Heard,
    Job,
    JobFailed,
    NotAtRest,
    NotDelivered,
    Outcomes,
    PrepareRun,
    Result,
    Root,
    RunEnded,
    RunReady,
    Stored,
    Target,
)
from artifactd.delivery.modeljobs import model_job, say
from artifactd.delivery.naming import as_versions
from artifactd.delivery.order import Recent, Turns
from artifactd.delivery.pool import Pool
from artifactd.delivery.preparing import preparation
from artifactd.delivery.receipts import Delivered, Receipts, Source
from artifactd.delivery.width import Width
from artifactd.errors import Failure, Kind, Scope
from artifactd.ledger import END_REFUSED, Blockage, DueFile, FileId, Ledger, Order, Run
from artifactd.metrics import Figures
from artifactd.paths import join
from artifactd.runfolder import MARKERS
from artifactd.text import printable

_BATCH = 256
"""Files of a job, at first: each job ends with a listing of the folders that it sent to."""
_SMALLEST_BATCH = 16
"""Files that are not shared out among more workers."""
_BIGGEST_BATCH = 8192
_LISTING = 0.25
"""Part of a job's time that listings may take before the run's next one gets more files, as for a folder of 100,000."""


class Dispatcher:
    """Hands out what is due and takes the answers.

    Args:
        ledger: Written to within the caller's transactions.
        pool: The workers.
        target: Where everything goes.
        target_name: The target's URI as the ledger knows it, without secrets.
        artifact_location: For experiments that are created.
        backoff: The retry policy.
        sources: The watched roots by number.
        news: Called for each file that was delivered.
        order: What goes first.
        batch: Bytes of a job.
        figures: Count what deliveries come to.
    """

    def __init__(
        self,
        ledger: Ledger,
        pool: Pool,
        *,
        target: Target,
        target_name: str,
        artifact_location: str | None,
        backoff: Backoff,
        sources: Mapping[int, Source],
        news: Callable[[Delivered], None] = lambda _: None,
        order: Order = Order.AGE,
        batch: Callable[[], int] = lambda: BATCH_BYTES,
        figures: Figures | None = None,
    ) -> None:
        self._ledger = ledger
        self._pool = pool
        self._target = target
        self._name = target_name
        self._artifact_location = artifact_location
        self._backoff = backoff
        self._sources = sources
        self._receipts = Receipts(ledger, target_name, backoff, sources, news, figures or Figures())
        self._lasts = Lasts(ledger, target, sources)
        self._width = Width(pool.size)
        self._order = Turns(ledger, order)
        self._batch = batch
        self._open: dict[int, dict[FileId, DueFile]] = {}
        self._stamps: dict[int, int] = {}
        self._turns, self._most = Recent(), Recent()
        self._served = 0
        self._refused: dict[int, str] = {}
        self._met = False
        self._log = log.get()

    # -- out -----------------------------------------------------------------------------------------------------

    def assign(self, now: float) -> list[Job]:
        """Choose jobs for the free workers and mark their files; submit them once that is durable."""
        news = {run.id for run in self._news()}
        self._ledger.release_idle(now, news | {run.id for run in self.waiting_runs()})
        blockage = self._ledger.blockages().get(self._name)
        under_way = self._pool.jobs()
        if blockage is not None and (now < blockage.next_try or under_way):
            return []
        free = max(0, min(self._pool.free, self._width.jobs - len(under_way)))
        if not self._met or blockage is not None:
            free = min(free, 0 if under_way else 1)  # first contact, and probes, are one at a time
        lasts = self._lasts_of(now, under_way, free) if free else []
        # One end goes first: under a steady stream of files, ends would never find a worker that is free.
        jobs = lasts[:1]
        due = sorted(
            {r for r, at in self._ledger.runs_with_due() if at <= now} | news,
            key=self._turns.get,
        )
        due = self._order.runs(due, now) if free > len(jobs) else due
        preparing = {j.run for j in under_way if isinstance(j, PrepareRun)}
        # A try without credentials may take long, and a hundred runs may wait for some: half is left to the others.
        trying = sum(self._ledger.run(j.run).kind == Kind.PAUSED for j in under_way)
        tries = (self._pool.free + len(under_way) + 1) // 2 - trying
        while free > len(jobs) and due:
            served = False
            hands = max(1, (free - len(jobs)) // len(due))
            for row in due:
                if free <= len(jobs):
                    break
                run = self._ledger.run(row)
                paused = run.kind == Kind.PAUSED
                if row in preparing or (paused and tries <= 0):
                    continue
                job = self._job_for(run, now, blockage, under_way + jobs, hands)
                if job is None:
                    continue
                tries -= paused
                if isinstance(job, PrepareRun):
                    preparing.add(row)  # no turn: its files come before the next run is made
                else:
                    self._served += 1
                    self._turns.put(row, self._served)
                jobs.append(job)
                served = True
            if not served:
                break
        jobs = (jobs + lasts[1:])[:free]
        if len(jobs) >= free:
            self._make_way(due, now, under_way + jobs)
        return self._noted(jobs)

    def _noted(self, jobs: list[Job]) -> list[Job]:
        for end in [j for j in jobs if isinstance(j, EndRun)]:
            self._ledger.ask_end(end.run, end.end)
        return jobs

    def _make_way(self, due: list[int], now: float, jobs: list[Job]) -> None:
        """Runs that find no worker are waited for by those that hold several: all but one of these come back soon."""
        holders: set[int] = set()
        surplus: list[Job] = []
        for job in jobs:
            if job.run in holders:
                surplus.append(job)
            holders.add(job.run)
        # No more runs are asked for than could be helped: there may be thousands.
        waiting = (row for row in due if surplus and row not in holders and self._ledger.run(row).next_try <= now)
        self._pool.wrap_up([job for job, _ in zip(surplus, waiting, strict=False)])

    def _news(self) -> list[Run]:
        """Runs whose settings changed since the server was told, unless it refused them as they are."""
        changed = self._ledger.runs_to_update(self._name)
        return [r for r in changed if self._refused.get(r.id) != r.settings_text and self._source(r) is not None]

    def _job_for(self, run: Run, now: float, blockage: Blockage | None, under_way: list[Job], hands: int) -> Job | None:
        source = self._source(run)
        if source is None or run.next_try > now:
            return None
        probing = blockage is not None or run.kind is not None
        if probing and any(j.run == run.id for j in under_way):
            return None
        most = 1 if probing else self._most.get(run.id, _BATCH)
        order = self._order.of_job(run.id)
        if most == _BATCH:  # listings are cheap there: no worker goes without a share
            share = -(-self._ledger.due_now(run.id, now, most * hands) // hands)
            most = min(most, max(_SMALLEST_BATCH, share))
        source.look_again(self._ledger.peek(run.id, now, most, order), now)
        run = self._ledger.run(run.id)  # which that look may have told new settings
        if run.run_id is None and not self._ledger.peek(run.id, now, 1):
            return None  # no run is made for files that are gone
        if run.run_id is None or run.applied != run.settings_text:
            job = preparation(self._ledger, self._target, self._artifact_location, run, now, self._is_fleets(run))
            # Once for all that are nested in it; and while its status is set, the server may name the one before.
            about = [j for j in under_way if job is not None and j.run == job.run]
            return None if any(isinstance(j, PrepareRun | EndRun) for j in about) else job
        root = Root(run.root_path, source.identity(), source.leases)
        if (model := model_job(self._ledger, run, source, self._target, root, now, under_way)) is not None:
            return model
        files = self._ledger.claim(run.id, now, most, self._batch(), order)
        if source.versions:
            others = (f for j in under_way if isinstance(j, Deliver) and j.run == run.id for f in j.files)
            files = as_versions(self._ledger, run, files, others, now)
        if not files:
            return None
        self._order.went(run.id)
        abreast = MOST if self._width.jobs == self._pool.size else 1  # a crowded store is given less of everything
        return Deliver(self._target, run.id, run.run_id, root, tuple(files), abreast)

    def _source(self, run: Run) -> Source | None:
        """The run's watched root; None while nothing is to be sent from there."""
        source = self._sources.get(run.root)
        return None if source is None or source.identity() is None else source

    def _is_fleets(self, run: Run) -> bool:
        """Whether other hosts have the same run. One that is adopted stays its maker's."""
        return run.root in self._sources and self._sources[run.root].fleet and not run.identity.startswith("run:")

    def _ends(self, now: float, under_way: list[Job], most: int) -> list[Job]:
        busy = {j.run for j in under_way}
        ends: list[Job] = []
        for run, end in self._ledger.runs_to_end(dict(MARKERS)):
            if run.id not in busy and run.next_try <= now and run.run_id and self._source(run) is not None:
                ends.append(EndRun(self._target, run.id, run.run_id, end, self._is_fleets(run)))
        return ends[:most]

    def _lasts_of(self, now: float, under_way: list[Job], most: int) -> list[Job]:
        """Ends and, before them, manifests."""
        return self._lasts.before(self._ends(now, under_way, most), {j.run for j in under_way}, now)[:most]

    def next_due(self, now: float) -> float | None:
        """When something can next be handed out (unix seconds); None when nothing waits for a time."""
        blockage = self._ledger.blockages().get(self._name)
        times = [at for _, at in self._ledger.runs_with_due()]
        if not times:
            return None
        soonest = min(times)
        if blockage is not None:
            return max(soonest, blockage.next_try)
        # A due run that is held back, or being prepared, is looked at again with the next tick.
        return soonest if soonest > now else None

    def waiting_runs(self) -> list[Run]:
        """Runs of which the server is to be told changed settings or the end."""
        ends = (run for run, _ in self._ledger.runs_to_end(dict(MARKERS)))
        return list({run.id: run for run in (*ends, *self._lasts.waiting(), *self._news())}.values())

    def submit(self, jobs: list[Job]) -> None:
        """Give the jobs to the workers."""
        for job in jobs:
            self._open[id(job)] = {f.id: f for f in job.files} if isinstance(job, Deliver) else {}
            self._stamps[id(job)] = self._width.stamp
            self._pool.submit(job)

    # -- back ----------------------------------------------------------------------------------------------------

    def take(self, job: Job, answer: Answer, now: float) -> None:
        """Write down what a worker said."""
        if isinstance(answer, Outcomes):
            self._met = True
            run, left = self._ledger.run(job.run), self._open[id(job)]
            for result in answer.results:
                del left[result.file.id]
            for together in groupby(answer.results, type):
                self._take_results(run, [*together[1]], now)
            self._receipts.add_up()
            say(job, run, answer)
            return
        left = self._open.pop(id(job))
        self._met = self._met or not isinstance(answer, JobFailed)
        self._mind_the_width(self._stamps.pop(id(job)), answer)
        match answer:
            case RunReady():
                run = self._ledger.run(job.run)
                told = job.settings if isinstance(job, PrepareRun) else ""  # they may have changed since
                fleet = self._is_fleets(run)
                self._ledger.set_run_id(
                    job.run, answer.run_id, _part(run, answer) if fleet else answer.status, told,
                    found=answer.found, fleet=fleet,
                )  # fmt: skip
                if run.run_id != answer.run_id:
                    self._log.info(
                        "run ready", experiment=run.experiment, run=run.name, run_id=answer.run_id,
                        folder=printable(join(run.root_path, run.folder)),
                    )  # fmt: skip
                self._receipts.well(job)
            case RunEnded():
                run = self._ledger.run(job.run)
                self._ledger.set_run_status(job.run, answer.status)
                self._log.info(
                    "run reopened" if answer.status == "RUNNING" else "run ended",
                    experiment=run.experiment,
                    run=run.name,
                    run_id=run.run_id,
                    status=answer.status,
                )
                self._receipts.well(job)
            case Described():
                self._lasts.described(job, answer)
                self._receipts.well(job)
            case Finished():
                self._fit_batch(job, answer)
                for file in left:
                    self._ledger.put_back(file)
                self._receipts.well(job)
            case JobFailed():
                self._job_failed(job, answer.failure, left, now)

    def _take_results(self, run: Run, results: Sequence[Result], now: float) -> None:
        """Results of one kind."""
        self._receipts.stored(run, [r for r in results if isinstance(r, Stored)], now)
        for result in results:
            self._take_result(run, result, now)

    def _take_result(self, run: Run, result: Result, now: float) -> None:
        match result:
            case NotAtRest():
                self._receipts.not_at_rest(run, result, now)
            case NotDelivered():
                self._receipts.not_delivered(run, result, now)
            case Free():
                self._ledger.found_free(result.file.id)
            case Heard():
                self._receipts.heard(run, result, now)

    def _mind_the_width(self, stamp: int, answer: Answer) -> None:
        if isinstance(answer, JobFailed):
            if answer.failure.crowded and self._width.crowded(stamp):
                self._log.info("fewer jobs at a time", jobs=self._width.jobs, error=answer.failure.error)
        elif self._width.well():
            self._log.info("as many jobs at a time as before", jobs=self._width.jobs)

    def _fit_batch(self, job: Job, answer: Finished) -> None:
        most = self._most.get(job.run, _BATCH)
        if answer.listing <= _LISTING:
            most = max(most // 2, _BATCH)
        elif isinstance(job, Deliver) and len(job.files) >= most:  # for a few files, any listing is long
            most = min(2 * most, _BIGGEST_BATCH)
        self._most.put(job.run, most)

    def put_back_all(self) -> None:
        """The pool was stopped: what was under way is to be looked at again."""
        self._open.clear()
        self._stamps.clear()
        self._ledger.recover()

    def _job_failed(self, job: Job, failure: Failure, left: dict[FileId, DueFile], now: float) -> None:
        run = self._ledger.run(job.run)
        self._receipts.count_failed(failure)
        if isinstance(job, Deliver) and failure.scope is Scope.FILE:
            for file in left.values():
                attempt = file.attempts + 1
                judged = self._receipts.judge(file, failure, now)
                self._ledger.not_delivered(file.id, judged, now + self._backoff.delay(attempt), touched=True)
                self._receipts.tell_failed(run, file, judged)
            self._log.warning("delivery process died", run=run.name, files=len(left), error=failure.error)
            return
        for file_id in left:
            self._ledger.put_back(file_id)
        if isinstance(job, Describe) and failure.scope is Scope.FILE:
            failure = self._backoff.judge(failure, run.attempts + 1)  # as of any file that the store goes on refusing
        if failure.kind is Kind.PERMANENT:
            if isinstance(job, PrepareRun):
                self._refused[run.id] = job.settings
            failed = self._ledger.fail_run_files(run.id, failure)
            if isinstance(job, PrepareRun) and run.run_id is None:  # what is nested in it cannot be made either
                failed += sum(self._ledger.fail_run_files(r, failure) for r in self._ledger.nested_in(run.id))
            if isinstance(job, EndRun | Describe):
                self._ledger.set_run_status(run.id, END_REFUSED)
                # Shown until a retry: nobody tries it.
                self._ledger.block_run(run.id, Blockage(failure.kind, failure.error, failure.cure, 1, now))
            self._log.error(
                "run cannot be delivered to", experiment=run.experiment, run=run.name, error=failure.error,
                files=failed, next_step=failure.cure,
            )  # fmt: skip
        else:
            self._receipts.hold(run, failure, now)


def _part(run: Run, answer: RunReady) -> str:
    """How far this host is with a run of several hosts: another one may have ended it, and this one not."""
    ended_here = run.run_id == answer.run_id and run.status not in ("", END_REFUSED)
    return run.status if ended_here else "RUNNING"
