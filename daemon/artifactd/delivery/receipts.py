"""Receipts: what a worker said of a file becomes what the ledger knows of it, and what people read of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from artifactd import log
from artifactd.delivery.backoff import Backoff
from artifactd.delivery.messages import Heard, Job, NotAtRest, NotDelivered, Stored
from artifactd.delivery.naming import version_destination
from artifactd.delivery.worker import STILL_OPEN
from artifactd.errors import Failure, Kind, Scope
from artifactd.layout import Layout
from artifactd.ledger import Blockage, DueFile, FileId, Growth, Ledger, Run
from artifactd.metrics import Figures, Outcome
from artifactd.models import ModelFolder
from artifactd.pace import sends_now
from artifactd.paths import join
from artifactd.text import printable
from artifactd.tracking.told import Told
from artifactd.watching.signature import rest_at


@dataclass(frozen=True, slots=True)
class Source:
    """What delivery must know of a watched root.

    Attributes:
        settle: Quiet time in seconds.
        leases: Whether the lease probe means something on its filesystem.
        look_again: Looks at files (folder, name) before they are handed out.
        identity: Device and inode of the root; None while nothing is to be sent from there.
        versions: A changed file is a further artifact, and overwrites none.
        delivered: Told the relative path of each file that was stored.
        fleet: Other hosts deliver into its runs.
        layout: Its rules, for the manifests of its runs; None: there are none.
        removes: Delivered files are removed.
        model: The model in a folder, if it is whole and at rest at that time (unix seconds).
    """

    settle: float
    leases: bool
    look_again: Callable[[Iterable[tuple[bytes, bytes]], float], None]
    identity: Callable[[], tuple[int, int] | None]
    versions: bool = False
    delivered: Callable[[bytes], None] = lambda _: None
    fleet: bool = False
    layout: Layout | None = None
    removes: bool = False
    model: Callable[[bytes, float], ModelFolder | None] = lambda _folder, _now: None


@dataclass(frozen=True, slots=True)
class Delivered:
    """News for whoever shows progress: one file reached its end for now.

    Attributes:
        path: Absolute path.
        size: Bytes.
        sent: The content went over the wire (False: the store had it).
    """

    path: bytes
    size: int
    sent: bool


_UNTOLD = Failure(Kind.TRANSIENT, Scope.FILE, "its run has still to be told what it says")


class Receipts:
    """Writes down how files, runs and the target fared.

    Args:
        ledger: Written to within the caller's transactions.
        target: The target's URI as the ledger knows it, without secrets.
        backoff: The retry policy.
        sources: The watched roots by number.
        news: Called for each file that was delivered.
        figures: Count what deliveries come to.
    """

    def __init__(
        self,
        ledger: Ledger,
        target: str,
        backoff: Backoff,
        sources: Mapping[int, Source],
        news: Callable[[Delivered], None],
        figures: Figures,
    ) -> None:
        self._ledger = ledger
        self._name = target
        self._backoff = backoff
        self._sources = sources
        self._news = news
        self._figures = figures
        self._took_at = 0.0
        self._sent = self._unique = 0
        self._failing: dict[FileId, float] = {}
        self._log = log.get()

    def stored(self, run: Run, results: Iterable[Stored], now: float) -> None:
        """The store has these: write the receipts, or say that it had them already."""
        noted: Counter[int] = Counter()
        source, settle = self._sources.get(run.root), self._settle(run)
        said = self._log.bind(experiment=run.experiment, run=run.name)
        for result in results:
            file, sent, size = result.file, result.sent, result.size
            in_a_row = None if sent is None else self._in_a_row(run, file, now)
            if in_a_row is not None and self._ledger.delivered_new(
                file, run.id, result.digest, size=size, now=now, in_a_row=in_a_row
            ):
                new = True
                noted[run.id] += 1
            else:
                new = self._ledger.delivered(
                    file, result.digest, size=size, now=now, sent=sent is not None, due_again=now + settle,
                    dest=version_destination(run, file) if file.version > 1 else None, in_a_row=in_a_row, noted=noted,
                )  # fmt: skip
            self._failing.pop(file.id, None)
            self._tell("unchanged" if sent is None else "stored", run, file, size, sent or 0, result.seconds)
            path = join(run.root_path, file.rel)
            self._news(Delivered(path, size, sent is not None))
            if source is not None:
                source.delivered(file.rel)
            if file.role:
                self._told(run, file, result.told or Told(), now)
            if sent is None:
                # An upload whose answer was lost: its bytes count as sent, and are content after all.
                lost = file.ask and file.digest != result.digest and file.past.sent_bytes >= size
                self._unique += size if lost else 0
                self._log.debug("unchanged", path=printable(path))
                continue
            self._took_at = now
            self._figures.uploaded(size, result.seconds)
            self._sent += sent
            self._unique += sent if new else 0
            said.info(
                "stored", artifact_path=f"{file.dir}/{file.leaf}" if file.dir else file.leaf, bytes=size,
                seconds=round(result.seconds, 3), tries=file.attempts + 1,
                **({"snapshot": True} if file.growth is Growth.SNAPSHOT else {}),
            )  # fmt: skip
        self._ledger.note_receipts(noted)

    def heard(self, run: Run, result: Heard, now: float) -> None:
        """A growing file's news were told: it is due again for more of them, and for its next upload."""
        self._ledger.put_back(result.file.id)
        self._told(run, result.file, result.told, now)

    def _told(self, run: Run, file: DueFile, told: Told, now: float) -> None:
        if told.mark is not None and told.mark != file.told:
            self._ledger.told(file, told.mark, now)
            self._log.debug("told", path=printable(join(run.root_path, file.rel)), kind=file.role)
        if told.failure is None and told.mark is not None:
            return
        if told.failure is None:  # the server went away before, or the file holds something else by now
            self._ledger.not_told(file.id, _UNTOLD, now + self._settle(run))
            return
        failure = told.failure
        self.count_failed(failure)
        if failure.scope is Scope.FILE:
            next_try = now + self._backoff.delay(file.attempts + 1)
        else:
            self.hold(run, failure, now)
            next_try = now
        self._ledger.not_told(file.id, failure, next_try)
        if failure.scope is Scope.FILE:
            speak = self._log.error if failure.kind is Kind.PERMANENT else self._log.warning
            speak(
                "not told", path=printable(join(run.root_path, file.rel)), error=failure.error, kind=str(failure.kind),
                tries=file.attempts + 1, next_step=failure.cure,
            )  # fmt: skip

    def _settle(self, run: Run) -> float:
        return self._sources[run.root].settle if run.root in self._sources else 0.0

    def _count_sent(self, run: Run, file: DueFile, size: int, now: float) -> None:
        self._sent += size
        self._ledger.was_sent(file.id, size, now, in_a_row=self._in_a_row(run, file, now))

    def _in_a_row(self, run: Run, file: DueFile, now: float) -> int:
        # A snapshot is no sign of a runaway; its bytes are what the next one is paced by.
        return sends_now(file.past, now, self._settle(run)) + (0 if file.growth is Growth.SNAPSHOT else 1)

    def add_up(self) -> None:
        """Write down the bytes of all that was said since the last time."""
        self._ledger.count("bytes_sent", self._sent)
        self._ledger.count("bytes_unique", self._unique)
        self._sent = self._unique = 0

    def not_at_rest(self, run: Run, result: NotAtRest, now: float) -> None:
        """It changed, is being written or is gone: look again."""
        if result.sent:
            self._count_sent(run, result.file, result.sent, now)
            self._tell("changed", run, result.file, result.file.signature.size, result.sent)
        if result.signature is None:
            self._failing.pop(result.file.id, None)
            self._ledger.gone(result.file.id)
            return
        settle = self._settle(run)
        # A file held open may be quiet for long: its times say nothing about when to look again.
        again = now + max(settle, 1.0) if result.reason == STILL_OPEN else rest_at(result.signature, settle, now)
        self._ledger.wait(result.file.id, result.signature, again, result.reason, touched=result.sent > 0)

    def not_delivered(self, run: Run, result: NotDelivered, now: float) -> None:
        """The try failed: again later, or never without a person."""
        file, attempt = result.file, result.file.attempts + 1
        if result.sent:
            self._count_sent(run, file, result.sent, now)
        failure = result.failure
        self.count_failed(failure)
        if failure.scope is Scope.FILE:
            failure = self.judge(file, failure, now)
            next_try = now + self._backoff.delay(attempt)
        else:
            self.hold(run, failure, now)
            next_try = now
        self._ledger.not_delivered(file.id, failure, next_try, touched=result.touched)
        self.tell_failed(run, file, failure, result.sent)
        if failure.scope is not Scope.FILE:
            return  # said once, where the run or the target is held back
        speak = self._log.error if failure.kind is Kind.PERMANENT else self._log.warning
        speak(
            "not delivered", path=printable(join(run.root_path, file.rel)), error=failure.error, kind=str(failure.kind),
            tries=attempt, next_step=failure.cure,
        )  # fmt: skip

    def count_failed(self, failure: Failure) -> None:
        """Count a try that failed: of a file, or of a job as a whole."""
        self._figures.failed[failure.kind] += 1

    def tell_failed(self, run: Run, file: DueFile, failure: Failure, sent: int = 0) -> None:
        """Tell who wants each outcome that a try failed."""
        self._tell("failed", run, file, file.signature.size, sent, failure=failure)

    def _tell(
        self, what: str, run: Run, file: DueFile, size: int, sent: int, seconds: float = 0.0,
        failure: Failure | None = None,
    ) -> None:  # fmt: skip
        if (tell := self._figures.tell) is not None:
            path = f"{file.dir}/{file.leaf}" if file.dir else file.leaf
            tell(
                Outcome(
                    what, run.experiment, run.name, run.run_id, path, size, sent, file.attempts + 1, seconds, failure
                )
            )

    def judge(self, file: DueFile, failure: Failure, now: float) -> Failure:
        """The failure of a try, permanent where it is time to give the file up.

        While nothing else goes through, its trouble is not its own, and it is not counted.
        """
        since = self._failing.setdefault(file.id, now)
        judged = self._backoff.judge(failure, file.attempts + 1, alone=self._took_at > since)
        if judged.kind is Kind.PERMANENT:
            del self._failing[file.id]
        return judged

    def hold(self, run: Run, failure: Failure, now: float) -> None:
        """Hold the target or the run back; said once when it starts, not at each probe."""
        if failure.kind is Kind.PERMANENT:
            return
        if failure.scope is Scope.TARGET:
            old = self._ledger.blockages().get(self._name)
            attempts = old.attempts if old is not None else 0
            waiting = old is not None and old.next_try > now
        else:
            run = self._ledger.run(run.id)
            attempts, waiting = run.attempts, run.next_try > now
        if waiting:
            return  # several workers met the same trouble: one step of backoff
        delay = max(self._backoff.delay(attempts + 1, failure.kind), min(failure.retry_after, self._backoff.maximum))
        blockage = Blockage(failure.kind, failure.error, failure.cure, attempts + 1, now + delay)
        if failure.scope is Scope.TARGET:
            self._ledger.block_target(self._name, blockage)
        else:
            self._ledger.block_run(run.id, blockage)
        if attempts == 0:
            self._log.warning(
                f"{failure.scope if failure.scope is Scope.TARGET else Scope.RUN} "
                + ("paused" if failure.kind is Kind.PAUSED else "waits"), error=failure.error,
                kind=str(failure.kind), next_try_in=round(delay, 1), next_step=failure.cure,
            )  # fmt: skip

    def well(self, job: Job) -> None:
        """The server did what it was asked: whatever held it back is over."""
        if self._name in self._ledger.blockages():
            self._ledger.block_target(self._name, None)
            self._log.info("target is back", target=self._name)
        if self._ledger.run(job.run).kind is not None:
            self._ledger.block_run(job.run, None)
