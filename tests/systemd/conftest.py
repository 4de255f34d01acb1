"""A fresh systemd for each test; where none can be booted, each test says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from systemd.box import Box, box, missing
from systemd.host import UNIT, Host


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.systemd)


@pytest.fixture(autouse=True, scope="session")
def _can_boot() -> None:
    if why := missing():
        pytest.skip(f"no systemd was booted: {why}")


@pytest.fixture
def booted(tmp_path: Path, _can_boot: None) -> Iterator[Box]:
    """A systemd with the unit in it, neither started nor enabled."""
    with box(tmp_path, "one", [UNIT]) as made:
        yield made


@pytest.fixture
def host(booted: Box) -> Host:
    """With the embedded store."""
    made = Host(booted)
    made.set_up()
    return made
