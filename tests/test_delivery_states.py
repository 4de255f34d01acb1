"""The states beside a file of results, as they lie on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.delivery.states import states_beside
from artifactd.watching.inside import open_root


class Folder:
    """A watched folder with one run folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = open_root(str(base))

    def state(self, folder: str, step: int, *, cut: int = 0) -> None:
        path = self.base / "e/r" / folder / "trainer_state.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"epoch": step / 2, "global_step": step, "log_history": []})
        path.write_text(text[: len(text) - cut])

    def steps(self) -> list[int | None]:
        return [record.step for record in states_beside(self.root, b"e/r/train_results.json")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    os.close(made.root)


def test_the_newest_checkpoint_and_the_state_in_the_same_folder(folder: Folder) -> None:
    assert folder.steps() == []
    for step in (500, 1000, 90):
        folder.state(f"checkpoint-{step}", step)
    folder.state("checkpoint-best", 7)
    folder.state("other/checkpoint-2000", 2000)
    assert folder.steps() == [1000]
    folder.state("", 1200)
    assert folder.steps() == [1000, 1200], "the later one counts where both know"


def test_one_that_is_half_deleted_or_being_written_gives_way_to_the_one_before(folder: Folder) -> None:
    folder.state("checkpoint-500", 500)
    folder.state("checkpoint-1000", 1000, cut=5)
    (folder.base / "e/r/checkpoint-1500").mkdir()
    assert folder.steps() == [500]


def test_nothing_outside_is_read(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = Folder(tmp_path_factory.mktemp("outside"))
    os.close(outside.root)
    outside.state("checkpoint-1", 1)
    run = folder.base / "e/r"
    run.mkdir(parents=True)
    (run / "checkpoint-1").symlink_to(outside.base / "e/r/checkpoint-1")
    (run / "trainer_state.json").symlink_to(outside.base / "e/r/checkpoint-1/trainer_state.json")
    assert folder.steps() == []
