"""Where a command's files go: folder and names by the layout, and what does not go together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from artifactd.config import Config, WatchConfig
from artifactd.errors import UsageError
from artifactd.execute import choose


def config(base: Path, **rules: str) -> Config:
    return Config(state_dir=base / "state", watch=(WatchConfig.model_validate({"path": base / "drop", **rules}),))


def test_names_come_from_flags_variables_and_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(config(tmp_path), None, "vision", "r1").folder == b"vision/r1"
    assert re.fullmatch(rb"Default/\d{8}-\d{6}-[0-9a-f]{4}", choose(config(tmp_path), None, None, None).folder)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nlp")
    assert choose(config(tmp_path), None, None, "r").folder == b"nlp/r"
    fixed = config(tmp_path, layout="runs/{run}", experiment="vision")
    assert choose(fixed, None, None, "r").folder == b"runs/r"


def test_a_folder_is_one_of_a_watch(tmp_path: Path) -> None:
    place = choose(config(tmp_path), tmp_path / "drop/e/r", None, None)
    assert (place.folder, place.path) == (b"e/r", str(tmp_path / "drop/e/r").encode())
    with pytest.raises(UsageError, match="no watched folder holds"):
        choose(config(tmp_path), tmp_path / "elsewhere/r", None, None)
    with pytest.raises(UsageError, match="is no run folder"):
        choose(config(tmp_path), tmp_path / "drop/e", None, None)
    with pytest.raises(UsageError, match="--dir says"):
        choose(config(tmp_path), tmp_path / "drop/e/r", "e", None)


@pytest.mark.parametrize(
    ("rules", "experiment", "run", "why"),
    [
        ({}, "e", "a/b", "no name of a folder"),
        ({}, "..", "r", "no name of a folder"),
        ({"layout": "{run}", "experiment": "e"}, "other", "r", "has no {experiment}"),
        ({"layout": "{user}/{experiment}/{run}"}, "e", "r", "also names {user}"),
        ({"layout": ".", "experiment": "e", "run": "r"}, None, None, "watched folder itself"),
    ],
)
def test_what_does_not_go_together(
    tmp_path: Path, rules: dict[str, str], experiment: str | None, run: str | None, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        choose(config(tmp_path, **rules), None, experiment, run)
