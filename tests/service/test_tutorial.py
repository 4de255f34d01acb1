"""docs/tutorial.md, as a reader follows it: each block in its order, in an empty folder, from the first to the last."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reader import BLOCKS, Reader, name_of
from support import environment

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    reader = Reader(tmp_path / "second", environment(HOME=str(tmp_path), PATH=path, COLUMNS="160"))
    # The installation is that of the tests.
    reader.type("mkdir ~/artifactd-tutorial; cd ~/artifactd-tutorial")
    yield reader
    reader.end()


def followed(reader: Reader, home: Path, *, ui: bool) -> None:
    for language, text in BLOCKS:
        if name_of(text):
            reader.save(text)
        elif language == "console" and (ui or "$ artifactd ui" not in text):
            reader.follow(text)
    assert (home / "artifactd-tutorial" / "back" / "plots" / "loss.svg").exists()


def test_the_tutorial(reader: Reader, tmp_path: Path) -> None:
    """One test: each step stands on those before it. MLflow's UI takes as long as half of them: the next one has it."""
    followed(reader, tmp_path, ui=False)


@pytest.mark.wide
def test_the_tutorial_with_its_look_at_the_ui(reader: Reader, tmp_path: Path) -> None:
    followed(reader, tmp_path, ui=True)


def test_all_but_the_installation_is_run() -> None:
    """`make test-deb` runs that of the package, which is the second and third."""
    others = [language for language, text in BLOCKS if language != "console" and not name_of(text)]
    assert others == ["sh", "sh", "sh"]
