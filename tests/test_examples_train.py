"""The demo's training job is a real one: it runs as a program, and its folder is what the demo delivers."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parent.parent / "examples" / "train.py"
FILES = {
    ".done",
    "README.md",
    "config.json",
    "dados/test.csv",
    "dados/train.csv",
    "graficos/confusion_matrix.png",
    "graficos/learning_curve.png",
    "metrics.json",
    "modelos/candidatos/logistic_regression.pkl",
    "modelos/candidatos/random_forest.pkl",
    "modelos/modelo.pkl",
    "train.log",
}


def run_training(folder: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", os.fspath(TRAIN), os.fspath(folder), *arguments],
        env={**os.environ, "MPLCONFIGDIR": os.fspath(cache)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run folder and what the job printed."""
    base = tmp_path_factory.mktemp("train")
    result = run_training(base / "run", base / "cache", "--seed", "7")
    assert result.returncode == 0, result.stdout + result.stderr
    return base / "run", result.stdout


def test_writes_what_people_write(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    assert files_below(folder) == FILES
    assert all((folder / name).stat().st_size > 0 for name in FILES - {".done"})
    for picture in folder.glob("graficos/*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG\r\n")


def test_marker_is_the_last_file_and_the_rest_comes_bit_by_bit(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    times = {name: (folder / name).stat().st_mtime_ns for name in FILES}
    assert times[".done"] == max(times.values())
    assert times[".done"] - times["config.json"] > 500_000_000  # nanoseconds


def test_data_scores_and_model_belong_together(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "dados/test.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[-1] == "target"
    with (folder / "modelos/modelo.pkl").open("rb") as model_file:
        model = pickle.load(model_file)  # noqa: S301 - written by the job that this test started
    predicted = model.predict([[float(value) for value in row[:-1]] for row in rows])
    hits = sum(int(row[-1]) == guess for row, guess in zip(rows, predicted, strict=True))
    assert hits / len(rows) == pytest.approx(metrics["test_accuracy"])
    assert metrics["test_accuracy"] > 0.9
    assert json.loads((folder / "config.json").read_text())["seed"] == 7


def test_log_on_disk_is_what_the_terminal_showed(trained: tuple[Path, str]) -> None:
    folder, printed = trained
    assert (folder / "train.log").read_text() == printed
    assert printed.count("\n") >= 5


def test_readme_names_date_data_sizes_versions_and_scores(trained: tuple[Path, str]) -> None:
    text = (trained[0] / "README.md").read_text()
    for word in ("Date: 2", "load_wine", "124 for training", "54 for the test", "scikit-learn", "Accuracy"):
        assert word in text


def test_failure_says_why_and_is_not_done(tmp_path: Path) -> None:
    result = run_training(tmp_path / "run", tmp_path / "cache", "--seed", "-1")
    assert result.returncode == 1
    assert "random_state" in (tmp_path / "run" / ".failed").read_text()
    assert not (tmp_path / "run" / ".done").exists()
    assert "training failed" in (tmp_path / "run" / "train.log").read_text()
