"""A short real training job, as a person writes one: it knows its own folder and nothing else.

``python examples/train.py OUT_FOLDER [--seed N]`` compares two classifiers on the wine data that ships with
scikit-learn, keeps the better one, and writes what people write: models, data, pictures, scores, a log. The
marker ``.done`` comes last; after an error ``.failed`` holds the reason instead.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import pickle
import platform
import signal
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # before pyplot: a training host has no display
import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, f1_score
from sklearn.model_selection import (
    RepeatedStratifiedKFold,
    cross_val_score,
    learning_curve,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

log = logging.getLogger("train")


@dataclass(frozen=True, slots=True)
class Config:
    """What was chosen before the training; ``config.json`` holds it.

    Attributes:
        seed: Of every random choice; the same seed gives the same scores.
        test_share: Share of the rows held back for the final score, 0 to 1.
        folds: Parts of the cross-validation.
        repeats: How often a candidate is cross-validated, each time on other parts.
        trees: Size of the random forest.
        curve_points: Training-set sizes that the learning curve tries.
    """

    seed: int
    test_share: float = 0.3
    folds: int = 5
    repeats: int = 3
    trees: int = 300
    curve_points: int = 5


def write_csv(path: Path, columns: list[str], rows: Any, targets: Any) -> None:
    """Write features and target as one table with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "target"])
        writer.writerows([*row, target] for row, target in zip(rows.tolist(), targets.tolist(), strict=True))


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON that people can read and compare."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_model(path: Path, model: Any) -> None:
    """Write a fitted model; as most jobs do, straight to its final name."""
    with path.open("wb") as file:
        pickle.dump(model, file)


def draw_learning_curve(path: Path, model: Any, x: Any, y: Any, config: Config) -> None:
    """Draw how the scores grow with the number of training rows."""
    sizes, fitted, validated = learning_curve(
        model, x, y, cv=config.folds, train_sizes=np.linspace(0.3, 1.0, config.curve_points)
    )
    figure, axes = plt.subplots(layout="constrained")
    axes.plot(sizes, fitted.mean(axis=1), marker="o", label="training")
    axes.plot(sizes, validated.mean(axis=1), marker="o", label="validation")
    axes.set(title="Learning curve", xlabel="training rows", ylabel="accuracy")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_confusion_matrix(path: Path, model: Any, x: Any, y: Any, labels: Any) -> None:
    """Draw which classes the model takes for which."""
    figure, axes = plt.subplots(layout="constrained")
    ConfusionMatrixDisplay.from_estimator(model, x, y, display_labels=labels, ax=axes)
    axes.set_title("Confusion matrix, test rows")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def describe(config: Config, rows: dict[str, int], metrics: dict[str, Any]) -> str:
    """Return the run's README: when, with what, on what, how well."""
    lines = [
        "# Wine: which cultivar?",
        "",
        f"- Date: {datetime.now(UTC).isoformat(timespec='seconds')}",
        "- Data set: UCI wine, 13 measurements, 3 classes (`sklearn.datasets.load_wine`)",
        f"- Rows: {rows['train']} for training, {rows['test']} for the test",
        f"- Seed: {config.seed}",
        f"- Versions: Python {platform.python_version()}, scikit-learn {sklearn.__version__}",
        f"- Model: {metrics['model']} (`modelos/modelo.pkl`)",
        f"- Accuracy on the test rows: {metrics['test_accuracy']:.3f}",
        f"- Macro F1 on the test rows: {metrics['test_f1_macro']:.3f}",
    ]
    return "\n".join(lines) + "\n"


def train(folder: Path, config: Config) -> None:
    """Run the whole job.

    Args:
        folder: The run folder, which exists.
        config: The choices to train with.
    """
    for name in ("modelos/candidatos", "dados", "graficos"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", asdict(config))

    wine = load_wine()
    x_train, x_test, y_train, y_test = train_test_split(
        wine.data, wine.target, test_size=config.test_share, stratify=wine.target, random_state=config.seed
    )
    columns = list(wine.feature_names)
    write_csv(folder / "dados/train.csv", columns, x_train, y_train)
    write_csv(folder / "dados/test.csv", columns, x_test, y_test)
    log.info("data: %d rows to train, %d to test", len(x_train), len(x_test))

    candidates = {
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "random_forest": RandomForestClassifier(n_estimators=config.trees, random_state=config.seed),
    }
    # A candidate is compared by cross-validation and kept as it stood on the first half of the training rows.
    half = len(x_train) // 2
    folds = RepeatedStratifiedKFold(n_splits=config.folds, n_repeats=config.repeats, random_state=config.seed)
    scores: dict[str, float] = {}
    for name, model in candidates.items():
        scores[name] = float(cross_val_score(model, x_train, y_train, cv=folds).mean())
        save_model(folder / f"modelos/candidatos/{name}.pkl", model.fit(x_train[:half], y_train[:half]))
        log.info("candidate %s: accuracy %.3f over %d fits", name, scores[name], folds.get_n_splits())

    best = max(scores, key=lambda name: scores[name])
    model = candidates[best]
    draw_learning_curve(folder / "graficos/learning_curve.png", model, x_train, y_train, config)
    log.info("learning curve drawn")
    model.fit(x_train, y_train)
    save_model(folder / "modelos/modelo.pkl", model)
    draw_confusion_matrix(folder / "graficos/confusion_matrix.png", model, x_test, y_test, wine.target_names)

    predicted = model.predict(x_test)
    metrics: dict[str, Any] = {
        "model": best,
        "cross_validation_accuracy": scores,
        "test_accuracy": float(accuracy_score(y_test, predicted)),
        "test_f1_macro": float(f1_score(y_test, predicted, average="macro")),
    }
    write_json(folder / "metrics.json", metrics)
    rows = {"train": len(x_train), "test": len(x_test)}
    (folder / "README.md").write_text(describe(config, rows, metrics), encoding="utf-8")
    log.info("best: %s, test accuracy %.3f", best, metrics["test_accuracy"])


def fail(folder: Path, reason: str) -> int:
    """Leave the marker of a failed run, after the last line of its log; returns the exit code."""
    logging.shutdown()
    (folder / ".failed").write_text(f"{reason}\n", encoding="utf-8")
    return 1


def main() -> int:
    """Parse the command line, train, leave the marker.

    Returns:
        0 when the run is complete, 1 when it failed and ``.failed`` says why.
    """
    parser = argparse.ArgumentParser(description="Train a wine classifier into one folder.")
    parser.add_argument("folder", type=Path, metavar="OUT_FOLDER", help="the run folder; made if missing")
    parser.add_argument("--seed", type=int, default=42, help="seed of every random choice (default: 42)")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)

    # A scheduler stops a job by SIGTERM: that, too, ends with a reason in the folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.FileHandler(folder / "train.log"), logging.StreamHandler(sys.stdout)],
    )
    try:
        train(folder, Config(seed=options.seed))
    except KeyboardInterrupt:
        log.error("stopped by a signal")
        return fail(folder, "stopped by a signal before the end")
    except Exception as error:
        log.exception("training failed")
        return fail(folder, f"{type(error).__name__}: {error}")
    log.info("done")
    logging.shutdown()
    (folder / ".done").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
