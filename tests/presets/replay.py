"""The recorded write sequences of the frameworks, in their order; each returns when its training is over.

A pause of `LONG` is longer than the quiet time of the tests' services, one of `SHORT` is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from event_files import event, simple
from presets.writer import SIZE, Writer

LONG = 0.7
SHORT = 0.1
SET = ("config.json", "model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")
"""A checkpoint of transformers before its marker, in order."""
MLMODEL = b"""\
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.skops
saved_input_example_info:
  artifact_path: input_example.json
utc_time_created: '2026-11-26 10:34:12.206243'
"""
MARKER = "trainer_state.json"
SUMMARY = {"epoch": 3.0, "step": 6, "total_flos": 4321.0, "train_loss": 0.5, "train_runtime": 2.7183}
"""What the Trainer logs when its training is over: after the last checkpoint."""
FINAL = {"epoch": 3.0, "eval_loss": 0.2718, "eval_runtime": 0.3}
"""The evaluation that a script has made of the trained model: after the last state."""


def logged(step: int) -> list[dict[str, float]]:
    """What transformers' Trainer has logged up to a step: a record each, and an evaluation each two."""
    records: list[dict[str, float]] = []
    for n in range(1, step + 1):
        records.append({"epoch": n / 2, "grad_norm": n / 3, "learning_rate": 1e-4 / n, "loss": 1 / (n + 1), "step": n})
        if n % 2 == 0:
            records.append({"epoch": n / 2, "eval_loss": 1 / (n + 2), "eval_runtime": n / 7, "step": n})
    return records


def trainer_state(step: int, *more: dict[str, float]) -> bytes:
    """As ``TrainerState.save_to_json`` writes it."""
    found = {"best_metric": None, "epoch": step / 2, "global_step": step, "log_history": [*logged(step), *more]}
    return (json.dumps(found, indent=2, sort_keys=True) + "\n").encode()


def results(record: dict[str, float]) -> bytes:
    """As ``Trainer.save_metrics`` writes it: without the step."""
    return json.dumps({k: v for k, v in record.items() if k != "step"}, indent=4, sort_keys=True).encode()


def huggingface(writer: Writer) -> None:
    """Six checkpoints, two are kept; some live for 0.4 s only. Rotation deletes the marker last but one."""
    for step in range(1, 7):
        folder = f"checkpoint-{step}"
        writer.written(f"{folder}/{SET[0]}", writer.weights(500))
        # The third one takes long to write: half of it is at rest, and delivered, before the rest is there.
        pause = LONG if step == 3 else 0.0
        writer.filled_and_renamed(f"{folder}/{SET[1]}", f"{folder}/.tmp{step}AbCd", writer.weights(), pause=pause)
        for name in SET[2:]:
            writer.written(f"{folder}/{name}", writer.weights(2_000), pause=pause)
        writer.written(f"{folder}/{MARKER}", trainer_state(step))
        writer.appended("runs/Nov26_host/events.out.tfevents.1.host", b"e" * 1000)
        if step > 2:
            old = f"checkpoint-{step - 2}"
            writer.deleted(*(f"{old}/{name}" for name in SET[1:]), f"{old}/{MARKER}", f"{old}/{SET[0]}")
        # Twice they come so fast that a checkpoint is gone before any of it is at rest; else some of it is stored.
        writer.pause(SHORT if step in (1, 2) else LONG)
    writer.filled_and_renamed("model.safetensors", ".tmpfinal", writer.weights())
    for name in ("train_results.json", "all_results.json"):
        writer.written(name, results(SUMMARY))
    writer.written(MARKER, trainer_state(6, SUMMARY))
    writer.pause(LONG)
    writer.written("eval_results.json", results(FINAL))
    writer.written("all_results.json", results({**SUMMARY, **FINAL}))


def lightning(writer: Writer) -> None:
    """Two version folders; the best two checkpoints; a link to the last; metrics.csv gets a column on its way."""
    logs, outside = "lightning_logs", writer.folder.parent.parent.with_name("lightning-tmp")
    outside.mkdir()
    for version in (0, 1):
        writer.written(f"{logs}/version_{version}/hparams.yaml", b"lr: 0.05\n")
    metrics = writer.path(f"{logs}/version_1/metrics.csv")
    kept: list[str] = []
    for epoch in range(5):
        writer.appended(f"{logs}/version_0/events.out.tfevents.1.host.1.0", b"e" * 500)
        name = f"{logs}/version_0/checkpoints/epoch={epoch}-val_loss=0.{epoch}.ckpt"
        if epoch % 2:  # $TMPDIR is another filesystem
            writer.written(name, writer.weights(), pause=LONG)
        else:
            writer.moved_in(name, outside / "checkpoint", writer.weights())
        kept.append(name)
        if len(kept) > 2:
            writer.deleted(kept.pop(0))
        link = writer.path(f"{logs}/version_0/checkpoints/last.ckpt")
        link.unlink(missing_ok=True)
        link.symlink_to(f"epoch={epoch}-val_loss=0.{epoch}.ckpt")
        if epoch == 2:
            metrics.write_bytes(b"epoch,step,train_loss,val_loss\n" + b"0,1,0.5,\n" * (epoch + 1))
        else:
            row = b"0,1,0.5,0.4\n" if epoch > 2 else b"0,1,0.5\n"
            writer.appended(f"{logs}/version_1/metrics.csv", b"epoch,step,train_loss\n" * (not epoch) + row)
        writer.pause(LONG if epoch == 3 else SHORT)


def yolo(writer: Writer) -> None:
    """Weights are truncated and rewritten each epoch, and shrink to a fifth at the end; the summary is drawn last."""
    writer.written("args.yaml", b"epochs: 4\n")
    writer.written("labels.jpg", writer.weights(3_000))
    for epoch in range(4):
        writer.appended("results.csv", b"epoch,loss\n" * (not epoch) + b"%d,0.5\n" % epoch)
        for name in ("last.pt", "best.pt", f"epoch{epoch}.pt"):
            writer.written(f"weights/{name}", writer.weights(), pause=LONG if epoch == 1 else 0.0)
        writer.pause(LONG if epoch % 2 else SHORT)
    for name in ("last.pt", "best.pt"):
        writer.written(f"weights/{name}", writer.weights(SIZE // 5))
    writer.written("val_batch0_pred.jpg", writer.same_size(2_000))
    writer.written("val_batch0_pred.jpg", writer.same_size(2_000))
    writer.written("results.png", writer.weights(5_000))


def keras(writer: Writer) -> None:
    """CSVLogger holds its file open; files are rewritten with their old size; a SavedModel at the end."""
    with writer.path("training.csv").open("wb") as training:
        for epoch in range(4):
            writer.rewritten_in_place("backup/latest.weights.h5", writer.weights())
            writer.written("backup/training_metadata.json", b'{"epoch": %d}' % epoch)
            writer.written("best.keras", writer.same_size(), pause=LONG if epoch == 1 else 0.0)
            writer.rewritten_in_place("last.weights.h5", writer.same_size(), pause=LONG if epoch == 2 else 0.0)
            training.write(b"epoch,loss\n" * (not epoch) + b"%d,0.5\n" % epoch)
            training.flush()
            writer.appended("logs/train/events.out.tfevents.1.host.1.0.v2", b"e" * 700)
            writer.pause(LONG if epoch == 3 else SHORT)
    writer.deleted("backup/latest.weights.h5", "backup/training_metadata.json")
    parts = "saved/variables/variables_temp/part-00000-of-00001"
    variables = writer.path(f"{parts}.data-00000-of-00001.tempstate16041")
    variables.write_bytes(content := writer.weights())
    writer.pause(LONG)
    writer.whole["saved/variables/variables.data-00000-of-00001"].append(content)
    variables.rename(writer.path("saved/variables/variables.data-00000-of-00001"))
    writer.filled_and_renamed("saved/variables/variables.index", f"{parts}.index.tempstate16041", writer.weights(300))
    variables.parent.rmdir()
    for name in ("saved_model.pb", "fingerprint.pb"):
        writer.filled_and_renamed(f"saved/{name}", f"saved/{name}.tmp09bc", writer.weights(400), pause=LONG)


def tensorboard(writer: Writer) -> None:
    """Many files are one run; one of them was cut in the middle of a record."""
    name = "events.out.tfevents.1.host"
    for step in range(20):
        for folder, tag in (("", "loss"), ("both/train/", "both"), ("both/val/", "both")):
            writer.appended(f"{folder}{name}", event(simple(tag, step / 2 + len(folder)), step=step))
        writer.pause(0.05)
    writer.appended(f"1795676031.2370157/{name}", event(simple("hparam/loss", 0.5)))
    writer.appended(name, event(simple("loss", 20), step=20)[:-3])


def mlflow(writer: Writer) -> None:
    """MLmodel is not last: the environment's files follow when it has been at rest for long."""
    writer.written("classifier/MLmodel", MLMODEL)
    writer.written("classifier/model.skops", writer.weights())
    writer.written("classifier/input_example.json", b"{}")
    writer.pause(LONG)
    for name in ("conda.yaml", "requirements.txt", "python_env.yaml"):
        writer.written(f"classifier/{name}", writer.weights(200), pause=SHORT)


def boosters(writer: Writer) -> None:
    """Truncated and written, some with the size they had; LightGBM's are closed, and appended to for nothing."""
    writer.written("train.bin", writer.weights())
    for _ in range(3):
        writer.written("model.json", writer.same_size(), pause=SHORT)
        writer.written("model.txt", writer.same_size(90_000))
        writer.appended("model.txt", b"")
        writer.pause(LONG)


REPLAYS: Mapping[str, Callable[[Writer], None]] = {
    "huggingface": huggingface, "lightning": lightning, "yolo": yolo, "keras": keras, "tensorboard": tensorboard,
    "mlflow": mlflow, "xgboost": boosters, "lightgbm": boosters,
}  # fmt: skip
"""By preset."""
