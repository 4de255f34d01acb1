"""The service that these tests share. A framework that cannot be had fails no test, and the last lines name it."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from presets.bench import Bench
from stores.running import or_skipped


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Its environment is made as the test is set up."""
    return (yield from or_skipped())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Or by the test."""
    return (yield from or_skipped())


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A service with each preset."""
    made = Bench(tmp_path_factory.mktemp("presets"))
    with made.program.running():
        yield made
