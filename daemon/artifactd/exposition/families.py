"""The service's metrics, from the ledger and from what the process counts; made anew for each that asks.

Labels are bounded: states, kinds of failure, statuses, and the watched folders of the configuration; never a file, a
run or what a server said.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from artifactd import __version__
from artifactd.errors import Kind
from artifactd.exposition.asked import Answer, Asked
from artifactd.exposition.counts import Counted, Counts
from artifactd.ledger import State, Totals, WatchView
from artifactd.ledger.schema import FILE_NAME
from artifactd.metrics import Distribution, Figures
from artifactd.text import printable

_STATES = {
    State.DUE: "pending", State.UPLOADING: "uploading", State.STORED: "stored", State.FAILED: "failed",
    State.IGNORED: "ignored",
}  # fmt: skip


class Root(Protocol):
    """What a watched root counts."""

    @property
    def path(self) -> bytes:
        """Its absolute path."""

    @property
    def overflows(self) -> int:
        """Times that the kernel dropped events."""

    @property
    def scanned(self) -> int:
        """Full scans so far."""

    @property
    def scan_seconds(self) -> float:
        """Seconds of a core that these took."""


class MetricsPage:
    """Answers with the metrics; used from one thread, that of the listener, once it is made.

    Args:
        counts: Of the ledger.
        figures: What the process counts.
        roots: The watched roots of now.
    """

    def __init__(self, counts: Counts, figures: Figures, roots: Callable[[], Sequence[Root]]) -> None:
        self._registry: Any = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(Families(counts, figures, roots))

    def answer(self, asked: Asked) -> Answer:
        """The metrics, in the format that the Accept header asks for."""
        encode: Any
        encode, kind = choose_encoder(asked.accept)
        return Answer(HTTPStatus.OK, kind, encode(self._registry))


class Families:
    """A collector for a ``CollectorRegistry``; use from one thread.

    Args:
        counts: Of the ledger.
        figures: What the process counts.
        roots: The watched roots of now.
    """

    def __init__(self, counts: Counts, figures: Figures, roots: Callable[[], Sequence[Root]]) -> None:
        self._counts = counts
        self._figures = figures
        self._roots = roots

    def collect(self) -> Iterator[Metric]:
        """All metrics. How many files there are may be some seconds old where there are millions of them."""
        seen = self._counts.all.get()
        yield InfoMetricFamily("artifactd_build", "The version that runs", {"version": __version__})
        yield from _files(seen.totals)
        yield from _waiting(seen)
        yield from self._work()
        yield from self._watching(seen.watches)
        size = sum(_size(self._counts.state_dir / (FILE_NAME + end)) for end in ("", "-wal"))
        yield GaugeMetricFamily("artifactd_ledger_bytes", "What the ledger takes on disk", size)

    def _work(self) -> Iterator[Metric]:
        yield _histogram("artifactd_upload_seconds", "Uploads, each with its part of a listing", self._figures.seconds)
        yield _histogram("artifactd_upload_size_bytes", "Sizes of uploaded files", self._figures.sizes)
        failed = CounterMetricFamily("artifactd_failed_tries", "Tries that failed, by kind", labels=["kind"])
        for kind in Kind:
            failed.add_metric([kind], self._figures.failed[kind])
        yield failed

    def _watching(self, watches: Sequence[WatchView]) -> Iterator[Metric]:
        health = GaugeMetricFamily("artifactd_watch_healthy", "1: all is seen as it should be", labels=["path", "mode"])
        for watch in watches:
            health.add_metric([printable(watch.path), watch.mode], watch.healthy)
        yield health
        overflows = CounterMetricFamily("artifactd_overflows", "Times that events were dropped", labels=["path"])
        scans = CounterMetricFamily("artifactd_scans", "Full scans", labels=["path"])
        seconds = CounterMetricFamily("artifactd_scan_seconds", "Seconds of a core in full scans", labels=["path"])
        for root in self._roots():
            path = printable(root.path)
            overflows.add_metric([path], root.overflows)
            scans.add_metric([path], root.scanned)
            seconds.add_metric([path], root.scan_seconds)
        yield from (overflows, scans, seconds)


def _files(totals: Totals) -> Iterator[Metric]:
    files = GaugeMetricFamily("artifactd_files", "Files of the watched folders, by state", labels=["state"])
    for state, name in _STATES.items():
        files.add_metric([name], totals.states.get(state, 0))
    yield files
    size = GaugeMetricFamily(
        "artifactd_files_bytes", "What they hold: waiting or under way, and stored", labels=["state"]
    )
    size.add_metric(["pending"], totals.pending_bytes)
    size.add_metric(["stored"], totals.stored_bytes)
    yield size
    sent = CounterMetricFamily("artifactd_sent_bytes", "Sent since the ledger was made", totals.bytes_sent)
    yield sent
    yield CounterMetricFamily("artifactd_unique_bytes", "Different content among these", totals.bytes_unique)


def _waiting(seen: Counted) -> Iterator[Metric]:
    oldest = seen.totals.oldest_due
    lag = 0.0 if oldest is None else max(0.0, time.time() - oldest)
    yield GaugeMetricFamily("artifactd_oldest_pending_seconds", "Since the oldest waiting file changed; 0: none", lag)
    held = GaugeMetricFamily("artifactd_held", "Targets and runs that are held back", labels=["what", "kind"])
    for what, blocks in (("target", seen.targets.values()), ("run", seen.runs.values())):
        counts = Counter(block.kind for block in blocks)
        for kind in Kind:
            held.add_metric([what, kind], counts[kind])
    yield held
    runs = GaugeMetricFamily("artifactd_runs", "Runs of the watched folders, by status", labels=["status"])
    for status, count in sorted(seen.statuses.items()):
        runs.add_metric([status.lower() or "not_made"], count)
    yield runs


def _histogram(name: str, text: str, of: Distribution) -> Metric:
    return HistogramMetricFamily(name, text, buckets=of.up_to(), sum_value=of.total)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
