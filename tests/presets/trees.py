"""What the frameworks really leave behind, as data: seen with strace and inotify while they trained, and as trees.

Versions: transformers 5.23, pytorch-lightning 2.6.6, ultralytics 8.4.190 (its tree alone), Keras 3.15, tensorboardX
2.6.5, mlflow 3.17 with scikit-learn 1.9, XGBoost 3.2, LightGBM 4.7.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """A file within the run folder, and what its preset makes of it.

    Attributes:
        path: Within the run folder.
        place: Its artifact path; None when it is left out.
        kind: What it is.
        live: It is sent while it grows.
    """

    path: str
    place: str | None
    kind: str = "artifact"
    live: bool = False


def kept(*paths: str, kind: str = "artifact", live: bool = False) -> tuple[File, ...]:
    """Files that keep their folder."""
    return tuple(File(path, path, kind, live) for path in paths)


def left_out(*paths: str) -> tuple[File, ...]:
    """Files that are no result."""
    return tuple(File(path, None) for path in paths)


SHARDED = "lightning_logs/version_0/checkpoints/epoch=1-step=4.ckpt"
TREES: dict[str, tuple[File, ...]] = {
    "huggingface": (
        *kept(
            *(
                f"checkpoint-{n}/{name}"
                for n in (2, 10)
                for name in (
                    "config.json", "model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt",
                    "rng_state.pth",
                )
            ),
            "config.json", "model.safetensors", "training_args.bin", "all_results.json",
        ),
        *kept(
            *(f"{folder}trainer_state.json" for folder in ("checkpoint-2/", "checkpoint-10/", "")), kind="metrics"
        ),
        *kept("train_results.json", "eval_results.json", kind="metrics"),
        *kept("runs/Nov26_06-41-02_host/events.out.tfevents.1795676028.host.1234.0", live=True),
        *left_out("checkpoint-10/.tmpAbC123", ".tmpx9Yz01", "tmp-checkpoint-12/config.json"),
    ),
    "lightning": (
        *kept(
            "lightning_logs/version_0/checkpoints/epoch=2-val_loss=0.099.ckpt",
            "lightning_logs/version_0/checkpoints/epoch=3-step=32.ckpt",
            "lightning_logs/version_0/checkpoints/last.ckpt",
            *(f"{SHARDED}/{name}" for name in (".metadata", "__0_0.distcp", "meta.pt")),
        ),
        *kept("lightning_logs/version_0/hparams.yaml", "lightning_logs/version_1/hparams.yaml", kind="params"),
        *kept("lightning_logs/version_1/metrics.csv", kind="metrics", live=True),
        *kept("lightning_logs/version_0/events.out.tfevents.1795676096.host.26852.0", live=True),
    ),
    "yolo": (
        *kept("weights/best.pt", "weights/last.pt"),
        *left_out("weights/epoch0.pt", "weights/epoch10.pt"),
        *kept("args.yaml", kind="params"),
        *kept("results.csv", kind="metrics", live=True),
        *(
            File(name, f"plots/{name}")
            for name in (
                "labels.jpg", "train_batch0.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg", "results.png",
                "confusion_matrix.png", "confusion_matrix_normalized.png", "BoxF1_curve.png", "BoxPR_curve.png",
            )
        ),
        # Further trainings, where the run folder is the project's.
        *kept("train-2/args.yaml", "train-2/results.png", "train-2/weights/best.pt"),
        *kept("train-2/results.csv", live=True),
        *left_out("train-2/weights/epoch3.pt"),
    ),
    "keras": (
        *kept(
            "best.keras", "last.weights.h5", "final.keras", "saved/saved_model.pb", "saved/fingerprint.pb",
            "saved/variables/variables.index", "saved/variables/variables.data-00000-of-00001",
        ),
        *kept("training.csv", kind="metrics", live=True),
        *kept("logs/train/events.out.tfevents.1795676028.host.1.0.v2", live=True),
        *kept("logs/best.keras"),
        *left_out(
            "backup/latest.weights.h5", "backup/training_metadata.json", "deep/backup/latest.weights.h5",
            "saved/variables/variables_temp/part-00000-of-00001.index",
            "saved/variables/variables_temp/part-00000-of-00001.data-00000-of-00001.tempstate16041",
            "saved/saved_model.pb.tmp4f0a", "saved/fingerprint.pb.tmp09bc",
        ),
    ),
    "tensorboard": kept(
        "events.out.tfevents.1795676028.host",
        "both/train/events.out.tfevents.1795676028.host",
        "both/val/events.out.tfevents.1795676028.host",
        "1795676031.2370157/events.out.tfevents.1795676031.host",
        kind="metrics",
        live=True,
    ),
    "mlflow": (
        *kept("classifier/MLmodel", kind="model"),
        *kept(
            "classifier/conda.yaml", "classifier/requirements.txt", "classifier/python_env.yaml",
            "classifier/input_example.json", "classifier/serving_input_example.json", "classifier/model.skops",
        ),
    ),
    "xgboost": (
        *kept("model.json", "model.ubj", "checkpoints/booster_2.ubj"),
        *left_out("train.bin"),
    ),
    "lightgbm": (
        *kept("model.txt", "model.txt.snapshot_iter_5"),
        *left_out("train.bin", "data/train.bin"),
    ),
}  # fmt: skip
"""By preset."""
