"""The last jobs of runs: a manifest of what they hold, and only then their end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from artifactd import log
from artifactd.delivery.messages import Describe, Described, EndRun, Job, Root, Target
from artifactd.delivery.receipts import Source
from artifactd.layout import Layout
from artifactd.ledger import Ledger, Run
from artifactd.runfolder import ENDS, MARKERS


class Lasts:
    """Which manifests are due.

    Args:
        ledger: Written to within the caller's transactions.
        target: Where everything goes.
        sources: The watched roots by number.
    """

    def __init__(self, ledger: Ledger, target: Target, sources: Mapping[int, Source]) -> None:
        self._ledger = ledger
        self._target = target
        self._sources = sources

    def waiting(self) -> list[Run]:
        """Runs that are over and lack a manifest."""
        runs = map(self._ledger.run, self._ledger.rows_to_describe([*MARKERS]))
        return [run for run in runs if self._layout(run) is not None]

    def before(self, ends: Sequence[Job], busy: Collection[int], now: float) -> list[Job]:
        """The jobs that come first: for an end whose run lacks its manifest, that one; then those of other runs.

        Args:
            ends: Of runs that could end now.
            busy: Rows of runs that have jobs under way.
            now: Unix seconds.
        """
        jobs: list[Job] = [self._manifest_of(e) or e for e in ends if isinstance(e, EndRun)]
        taken = {*busy, *(end.run for end in ends)}
        for run in self.waiting():
            if run.id not in taken and run.next_try <= now:
                fleet = self._sources[run.root].fleet and not run.identity.startswith("run:")
                if (job := self._describe(run, fleet)) is not None:
                    jobs.append(job)
        return jobs

    def described(self, job: Job, answer: Described) -> None:
        """The store has the manifest."""
        if isinstance(job, Describe):
            self._ledger.described(job.run, job.changes)
            log.get().info(
                "manifest stored", experiment=job.experiment, run=job.name, artifact_path=answer.artifact_path,
                bytes=answer.sent,
            )  # fmt: skip

    def _manifest_of(self, end: EndRun) -> Describe | None:
        return self._describe(self._ledger.run(end.run), end.fleet) if end.end.status in ENDS else None

    def _describe(self, run: Run, fleet: bool) -> Describe | None:
        source, layout = self._sources.get(run.root), self._layout(run)
        changes, described = self._ledger.changes(run.id)
        if source is None or layout is None or source.identity() is None or run.run_id is None or changes == described:
            return None
        return Describe(
            self._target, run.id, run.run_id, Root(run.root_path, source.identity(), source.leases), run.folder,
            self._ledger.path, changes, run.experiment, run.name, layout, source.removes, fleet,
        )  # fmt: skip

    def _layout(self, run: Run) -> Layout | None:
        return self._sources[run.root].layout if run.root in self._sources else None
