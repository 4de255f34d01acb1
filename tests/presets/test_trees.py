"""Each preset against the real tree of names of its framework, whatever the layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artifactd.checkpoints import wholes
from artifactd.config import WatchConfig, layout_of
from artifactd.config.presets import PRESETS
from artifactd.excludes import Ignored
from artifactd.layout import Destination
from presets.trees import SHARDED, TREES, File

LAYOUTS: dict[str, dict[str, str]] = {
    "experiment/run": {},
    "run": {"layout": "{run}", "experiment": "e"},
    "backup/logs": {"layout": "{user}/{experiment}/fixed/{run}"},
    "": {"layout": ".", "experiment": "e", "run": "r"},
}
"""A run folder, and the settings by which it is one."""
FOLDERS = {
    "experiment/run": "experiment/run/", "run": "run/", "backup/logs": "backup/logs/fixed/train.bin/", "": ""
}  # fmt: skip
"""Names of levels above the run are nothing to a preset, whatever they are."""
CASES = [pytest.param(name, file, id=f"{name}-{file.path}") for name, tree in TREES.items() for file in tree]


def watch(preset: str | list[str], **settings: Any) -> WatchConfig:
    return WatchConfig.model_validate({"path": Path("/data"), "preset": preset, **settings})


def test_every_preset_has_its_tree() -> None:
    assert TREES.keys() == PRESETS.keys()


@pytest.mark.parametrize("above", LAYOUTS)
@pytest.mark.parametrize(("preset", "file"), CASES)
def test_where_each_file_goes(preset: str, file: File, above: str) -> None:
    layout = layout_of(watch(preset, **LAYOUTS[above]))
    path = f"{FOLDERS[above]}{file.path}".encode()
    placed = layout.place(path)
    if file.place is None:
        assert isinstance(placed, Ignored)
        assert placed.rule.startswith("exclude ")
        return
    assert isinstance(placed, Destination)
    assert (placed.artifact_path, placed.kind) == (file.place, file.kind)
    assert layout.is_live(path) is file.live


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_each_pattern_of_a_preset_is_for_something(preset: str) -> None:
    """A pattern that no real file needs would be a guess."""
    made = PRESETS[preset]
    for number, glob in enumerate(made.exclude):
        others = made.exclude[:number] + made.exclude[number + 1 :]
        assert _left_out(preset, tuple(others)) < _left_out(preset, made.exclude), glob
    live = {f.path for f in TREES[preset] if f.live}
    assert bool(made.live) is bool(live)
    kinds = {f.kind for f in TREES[preset] if f.place}
    assert {route.kind for route in made.routes} <= kinds


def _left_out(preset: str, exclude: tuple[str, ...]) -> set[str]:
    layout = layout_of(WatchConfig(path=Path("/data"), exclude=exclude))
    return {f.path for f in TREES[preset] if isinstance(layout.place(f"e/r/{f.path}".encode()), Ignored)}


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_checkpoints_of_a_real_tree_are_whole(preset: str) -> None:
    layout = layout_of(watch(preset))
    stored = [f"e/r/{file.path}".encode() for file in TREES[preset] if file.place is not None]
    found = [(os.fsdecode(folder), whole) for folder, whole in wholes(stored, layout.checkpoint)]
    folders = {"huggingface": ["checkpoint-10", "checkpoint-2"], "keras": ["saved"], "lightning": [SHARDED]}
    assert found == [(f"e/r/{folder}", True) for folder in folders.get(preset, [])]
