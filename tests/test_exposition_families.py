"""Metrics, as Prometheus' own parser reads them, beside what the ledger holds."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from artifactd.exposition.asked import Asked
from artifactd.exposition.counts import Counts
from artifactd.exposition.families import MetricsPage
from artifactd.ledger import Report
from artifactd.metrics import Figures
from cli_support import Book

PROJECT = Path(__file__).parents[1]
OPEN = "application/openmetrics-text; version=1.0.0"


@dataclass
class Root:
    path: bytes
    overflows: int = 2
    scanned: int = 3
    scan_seconds: float = 1.5


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    yield book
    book.close()


@pytest.fixture
def figures() -> Figures:
    return Figures()


@pytest.fixture
def counts(book: Book) -> Iterator[Counts]:
    with contextlib.closing(Counts(book.state)) as made:
        yield made


@pytest.fixture
def page(counts: Counts, book: Book, figures: Figures) -> MetricsPage:
    return MetricsPage(counts, figures, lambda: [Root(os.fsencode(book.drop))])


def samples(page: MetricsPage) -> dict[str, float]:
    answer = page.answer(Asked("text/plain"))
    assert answer.status == 200
    assert answer.kind.startswith("text/plain")
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items(), reverse=True)): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_they_say_what_the_ledger_holds(page: MetricsPage, book: Book) -> None:
    for name in "abc":
        book.write(f"e/r/{name}", b"1234")
    book.look()
    book.deliver()
    book.write("e/s/d", b"12")
    book.look()
    book.fail()
    book.write("e/t/e", b"123")
    book.look()
    book.hold()
    said = samples(page)
    files = {state: said[f"artifactd_files state={state}"] for state in ("pending", "uploading", "stored", "failed")}
    assert files == {"pending": 1, "uploading": 0, "stored": 3, "failed": 1}
    assert said["artifactd_files_bytes state=pending"] == 3
    assert said["artifactd_files_bytes state=stored"] == 12
    assert said["artifactd_sent_bytes_total"] == said["artifactd_unique_bytes_total"] == 12
    assert 0 < said["artifactd_oldest_pending_seconds"] < 60
    assert said["artifactd_held what=target kind=transient"] == 1
    assert said["artifactd_held what=target kind=paused"] == said["artifactd_held what=run kind=transient"] == 0
    assert said["artifactd_runs status=running"] == 1
    assert said["artifactd_runs status=not_made"] == 2
    assert said[f"artifactd_watch_healthy path={book.drop} mode=events"] == 1
    assert said[f"artifactd_overflows_total path={book.drop}"] == 2
    assert said[f"artifactd_scans_total path={book.drop}"] == 3
    assert said[f"artifactd_scan_seconds_total path={book.drop}"] == 1.5
    assert said["artifactd_ledger_bytes"] > 10_000
    assert said["process_resident_memory_bytes"] > 2**20
    assert any(name.startswith("artifactd_build_info version=") for name in said)


def test_they_say_what_the_process_counts(page: MetricsPage, figures: Figures) -> None:
    before = samples(page)
    figures.uploaded(5000, 0.02)
    figures.uploaded(10, 2.0)
    figures.failed["paused"] += 1
    said = samples(page)
    assert said["artifactd_upload_seconds_count"] - before["artifactd_upload_seconds_count"] == 2
    assert said["artifactd_upload_seconds_sum"] == pytest.approx(2.02)
    assert said["artifactd_upload_seconds_bucket le=0.03"] == 1
    assert said["artifactd_upload_size_bytes_sum"] == 5010
    assert said["artifactd_upload_size_bytes_bucket le=1024.0"] == 1
    assert said["artifactd_failed_tries_total kind=paused"] == 1


def test_the_newer_format_is_spoken_to_who_asks_for_it(page: MetricsPage) -> None:
    answer = page.answer(Asked(OPEN))
    assert answer.kind.startswith("application/openmetrics-text")
    told: Any = openmetrics.text_string_to_metric_families(answer.content.decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in told}
    assert {"artifactd_files", "artifactd_upload_seconds", "artifactd_sent_bytes"} <= names


def test_what_did_not_change_is_not_counted_again(
    page: MetricsPage, counts: Counts, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    totals = Report.totals

    def counted(self: Report) -> object:
        asked.append(time.monotonic())
        return totals(self)

    monkeypatch.setattr(Report, "totals", counted)
    for _ in range(3):
        samples(page)
    assert len(asked) == 1
    book.write("e/r/a")
    book.look()
    counts.all.not_before = time.monotonic() + 60  # as after a count that was dear
    assert samples(page)["artifactd_files state=pending"] == 0
    counts.all.not_before = 0.0
    assert samples(page)["artifactd_files state=pending"] == 1
    assert len(asked) == 2


def test_no_label_is_of_a_file_a_run_or_what_a_server_said(page: MetricsPage, book: Book) -> None:
    book.write("an-experiment/a-run/a-file")
    book.look()
    book.fail("a-secret-word")
    book.hold("http://mlflow.test says: a-secret-word")
    content = page.answer(Asked()).content
    for word in (b"an-experiment", b"a-run", b"a-file", b"a-secret-word", b"mlflow.test"):
        assert word not in content


@pytest.mark.parametrize("file", sorted((PROJECT / "examples" / "prometheus").glob("*")), ids=lambda path: path.name)
def test_what_the_examples_ask_for_is_there(file: Path, page: MetricsPage) -> None:
    content = page.answer(Asked()).content
    asked = set(re.findall(r"\bartifactd_[a-z_]+\b", file.read_text()))
    assert len(asked) > 3
    there = set(re.findall(r"^(artifactd_\w+)[{ ]", content.decode(), re.MULTILINE))
    assert asked <= there | {f"{name.removesuffix('_bucket')}" for name in there}
