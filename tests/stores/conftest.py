"""The servers that the tests of the stores share, each started once when its first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stores.azurite import azurite as run_azurite
from stores.fakegcs import fakegcs as run_fakegcs
from stores.form import Form
from stores.forms import FORMS, SAME_WAY
from stores.gcloud import google
from stores.objects import ObjectStore
from stores.running import or_skipped
from stores.seaweed import seaweed as run_seaweed
from stores.servers import auth_server, direct_server, postgres_server
from stores.serving import certificate
from stores.table import CASES, Result, cells, page
from stores.user import user
from support import aligned

__all__ = ["auth_server", "certificate", "direct_server", "google", "postgres_server", "user"]

_RESULT = "conformance"


_BIG, _BIG_IN = "test_a_big_file", ("local", "server", "s3")
"""The other forms' parts are met in other tests; 300 MiB at once are for ``make conformance`` there."""

_HEAVY = (
    "test_sizes", _BIG, "test_many_small_files", "test_a_kill_in_the_middle_of_an_upload",
    "test_a_run_that_is_over_is_restored", "test_the_way_back",
    "test_what_the_store_lost_or_altered_is_found_and_mended",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where another form sends its files the same way, the heavy cases are for ``make conformance`` alone."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname not in _HEAVY:
            continue
        if _form_of(item) in SAME_WAY or (item.originalname == _BIG and _form_of(item) not in _BIG_IN):
            item.add_marker(pytest.mark.wide)


def _form_of(item: pytest.Function) -> str:
    return str(item.callspec.params["form"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """A server that cannot be had fails no test."""
    return (yield from or_skipped())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Nor one that a test starts by itself."""
    return (yield from or_skipped())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of conformance, and write it where ``ARTIFACTD_CONFORMANCE`` names a file."""
    results = []
    for report in (r for some in terminalreporter.stats.values() for r in some if isinstance(r, pytest.TestReport)):
        for name, value in report.user_properties:
            if name == _RESULT and (report.when == "call" or not report.passed):
                assert isinstance(value, dict)
                results.append(Result(**value, outcome=report.outcome, reason=_reason(report)))
    if not results:
        return
    results.sort(key=lambda result: result.form)
    terminalreporter.section("conformance")
    for line in aligned(cells(results)):
        terminalreporter.write_line(line)
    if file := os.environ.get("ARTIFACTD_CONFORMANCE"):
        Path(file).write_text(page(results))


def _reason(report: pytest.TestReport) -> str:
    """Why it was skipped, as the form's row or a missing server has it."""
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else ""


@pytest.fixture
def told(form: Form, request: pytest.FixtureRequest) -> None:
    """The test is a case of conformance."""
    case = request.node.originalname
    assert case in CASES, "it has no column"
    request.node.user_properties.append((_RESULT, {"form": form.name, "word": form.checksum, "case": case}))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server."""
    with run_seaweed(tmp_path_factory.mktemp("seaweed")) as store:
        yield store


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An Azure Blob server."""
    with run_azurite(tmp_path_factory.mktemp("azurite")) as store:
        yield store


@pytest.fixture(scope="session")
def fakegcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A Google Cloud Storage server."""
    with run_fakegcs(tmp_path_factory.mktemp("fakegcs")) as store:
        yield store


@pytest.fixture(params=["seaweed", "azurite", "fakegcs"])
def object_store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each of them in turn."""
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


@pytest.fixture(scope="session", params=list(FORMS))
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Form]:
    """Each form of store in turn."""
    with ExitStack() as ends:
        yield FORMS[request.param](request, tmp_path_factory.mktemp(request.param), ends)
