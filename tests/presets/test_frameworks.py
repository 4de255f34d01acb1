"""Real frameworks train into a watched folder; what the run holds then is what their preset says."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from presets.bench import Bench
from presets.environments import environment
from support import environment as variables
from support import tree

pytestmark = [pytest.mark.presets, pytest.mark.timeout(1800)]

SCRIPTS = Path(__file__).parent / "training"
BOOSTERS = ("boosters", ("xgboost-cpu", "lightgbm"))
# One for all three: torch alone is most of each.
TORCH = ("torch", ("torch", "pytorch-lightning", "tensorboard", "keras", "transformers", "accelerate"))
HERE: tuple[str, tuple[str, ...]] = ("", ())


@dataclass(frozen=True, slots=True)
class Training:
    """A framework at work.

    Attributes:
        preset: Its name.
        script: In ``training/``.
        home: The environment's name and packages.
        sure: Globs, each of which some delivered file matches.
        left_out: What lies on the disk at the end and is no result.
        went: Glob of files that the framework deletes on its way, which may have been delivered before.
        told: Points of each metric that the run must have.
        logs: The script's last line is a list of records as JSON, each with its step: the run has these points.
        marker: Glob of the files that are written last of their checkpoints; some are delivered.
        others: Files of such a checkpoint besides, at least.
    """

    preset: str
    script: str
    home: tuple[str, tuple[str, ...]]
    sure: tuple[str, ...]
    left_out: frozenset[str] = frozenset()
    went: str = ""
    told: tuple[tuple[str, int], ...] = ()
    logs: bool = False
    marker: str = ""
    others: int = 0


BIG = pytest.mark.big
CHECKPOINTS = "lightning_logs/version_0/checkpoints"
TRAININGS = [
    pytest.param(made, id=made.script, marks=[BIG] if made.home is TORCH else [])
    for made in (
        Training(
            "tensorboard", "event_files", HERE, ("events.*", "both/train/events.*", "[0-9]*/events.*"),
            told=(("loss", 300), ("both/train/both", 300), ("both/val/both", 300), ("hparam/loss", 1)),
        ),
        Training(
            "tensorboard", "torch_events", TORCH, ("runs/*_*/events.*", "runs/*_*/both_val/events.*"),
            told=(
                *((key, 100) for key in ("train/loss", "tensor", "double", "both_train/both", "both_val/both")),
                ("hparam/loss", 1),
            ),
        ),
        Training("mlflow", "sklearn_model", HERE, ("classifier/MLmodel", "classifier/python_env.yaml")),
        Training(
            "xgboost", "xgboost_train", BOOSTERS, ("model.json", "model.ubj", "checkpoints/*"), frozenset({"train.bin"})
        ),
        Training(
            "lightgbm", "lightgbm_train", BOOSTERS, ("model.txt", "model.txt.snapshot_iter_5"), frozenset({"train.bin"})
        ),
        Training(
            "lightning", "lightning_fit", TORCH,
            (f"{CHECKPOINTS}/epoch=3-*.ckpt", "*/version_1/metrics.csv", "*/hparams.yaml", "*/events.out.tfevents.*"),
            went=f"{CHECKPOINTS}/epoch=*.ckpt",
        ),
        Training("keras", "keras_fit", TORCH, ("best.keras", "last.weights.h5", "training.csv", "final.keras")),
        Training(
            "huggingface", "trainer", TORCH,
            ("checkpoint-12/trainer_state.json", "checkpoint-12/model.safetensors", "*_results.json"),
            went="checkpoint-*", logs=True, marker="checkpoint-*/trainer_state.json", others=6,
        ),
        Training(
            "lightning", "lightning_sharded", TORCH,
            ("checkpoints/epoch=1-*.ckpt/meta.pt", "*.ckpt/.metadata", "*.ckpt/__0_0.distcp"),
            went="checkpoints/epoch=0-*.ckpt/*", marker="*.ckpt/meta.pt", others=2,
        ),
    )
]  # fmt: skip


@pytest.mark.parametrize("training", TRAININGS)
def test_a_real_training_arrives(training: Training, bench: Bench) -> None:
    python = environment(*training.home)
    folder = bench.base / training.preset / f"real {training.script}" / "run"
    folder.mkdir(parents=True)
    command = [python, str(SCRIPTS / f"{training.script}.py"), str(folder)]
    done = subprocess.run(
        command, env=variables(PYTHONPATH=""), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    held = bench.finish(folder)
    disk = {os.fsdecode(path): content for path, content in tree(folder).items() if path != b".done"}
    assert training.left_out <= disk.keys()
    wanted = {path: content for path, content in disk.items() if path not in training.left_out}
    assert {path: held.get(path) == content for path, content in wanted.items()} == dict.fromkeys(wanted, True)
    assert [glob for glob in training.sure if not any(fnmatchcase(path, glob) for path in wanted)] == []
    # Deleted by the framework after it had been delivered.
    assert [path for path in held.keys() - wanted.keys() if not fnmatchcase(path, training.went)] == []
    told = {key: len(bench.points(folder.parent.name, key)) for key, _ in training.told}
    assert told == dict(training.told)
    if training.logs:
        records = json.loads(done.stdout.splitlines()[-1])
        keys = {key for record in records for key in record} - {"step"}
        assert {"loss", "grad_norm", "learning_rate", "epoch", "eval_loss", "train_loss", "train_runtime"} <= keys
        curves = {key: sorted({(r["step"], r[key]) for r in records if key in r}) for key in keys}
        assert {key: bench.points(folder.parent.name, key) for key in keys} == curves
    # Of a checkpoint that has its marker in the store, the marker is what arrived last, at its first time.
    arrived = list(dict.fromkeys(e["artifact_path"] for e in bench.sent(folder.parent.name)))
    marked = [path for path in arrived if fnmatchcase(path, training.marker)] if training.marker else []
    assert bool(marked) is bool(training.marker)
    for marker in marked:
        others = [path for path in arrived if path.startswith(f"{os.path.dirname(marker)}/") and path != marker]
        assert len(others) >= training.others, marker
        assert max(map(arrived.index, others)) < arrived.index(marker), marker
    assert bench.program.status()["failures"] == []
    assert "Traceback" not in bench.program.text()
