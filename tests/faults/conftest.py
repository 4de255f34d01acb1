"""The fault tests' marker, their proxy, and their table at the end of the session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.proxy import Proxy
from faults.table import Row, lines

_ROW = "fault-row"
_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All here are fault tests."""
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker(pytest.mark.faults)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows = []
    for report in (r for some in terminalreporter.stats.values() for r in some if isinstance(r, pytest.TestReport)):
        for name, value in report.user_properties:
            if report.when == "call" and name == _ROW:
                assert isinstance(value, dict)
                rows.append(Row(**value))
    if rows:
        terminalreporter.section("faults")
        for line in lines(rows):
            terminalreporter.write_line(line)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Puts a row into the table."""
    return lambda row: request.node.user_properties.append((_ROW, dataclasses.asdict(row)))


@pytest.fixture
def proxy(mlflow_server: MlflowServer) -> Iterator[Proxy]:
    """A proxy before the real server, well at first."""
    made = Proxy(mlflow_server.uri)
    yield made
    made.close()
