"""The frameworks' write sequences before the real service: nothing torn, no failure, no temporary file, all at last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from presets.bench import Bench
from presets.replay import FINAL, MARKER, REPLAYS, SET, SUMMARY, logged
from presets.writer import Writer
from support import tree, wait_for

pytestmark = pytest.mark.timeout(240)

LIVE = {
    "huggingface": {"runs/Nov26_host/events.out.tfevents.1.host"},
    "lightning": {"lightning_logs/version_0/events.out.tfevents.1.host.1.0", "lightning_logs/version_1/metrics.csv"},
    "yolo": {"results.csv"},
    "keras": {"training.csv", "logs/train/events.out.tfevents.1.host.1.0.v2"},
    "tensorboard": {
        f"{folder}events.out.tfevents.1.host" for folder in ("", "both/train/", "both/val/", "1795676031.2370157/")
    },
}
"""Files of which snapshots are sent."""
PLOTS = {"labels.jpg", "val_batch0_pred.jpg", "results.png"}
LEFT_OUT = {
    "yolo": {f"weights/epoch{n}.pt" for n in range(4)}, "xgboost": {"train.bin"}, "lightgbm": {"train.bin"}
}  # fmt: skip
"""What lies on the disk at the end and is no result."""


class Rotating(Writer):
    """Deletes the third checkpoint when some of it has been delivered, and not before."""

    def __init__(self, folder: Path, seed: int, bench: Bench) -> None:
        super().__init__(folder, seed)
        self.bench = bench

    def deleted(self, *names: str) -> None:
        third = "checkpoint-3/"
        if names[0].startswith(third):
            experiment = self.folder.parent.name
            wait_for(
                lambda: any(e["artifact_path"].startswith(third) for e in self.bench.sent(experiment)),
                "some of the third checkpoint is delivered", 60,
            )  # fmt: skip
        super().deleted(*names)


def arrived(preset: str, bench: Bench) -> dict[str, bytes]:
    """Replay a training, end it, and compare all that was ever sent of it with all that it ever wrote."""
    folder = bench.base / preset / f"{preset}-experiment" / "run"
    folder.mkdir(parents=True)
    writer = Rotating(folder, 7, bench)
    REPLAYS[preset](writer)
    held = bench.finish(folder)

    def place(path: str) -> str:
        return f"plots/{path}" if preset == "yolo" and path in PLOTS else path

    disk = {os.fsdecode(path): content for path, content in tree(folder).items() if path != b".done"}
    assert LEFT_OUT.get(preset, set()) <= disk.keys()
    wanted = {place(path): content for path, content in disk.items() if path not in LEFT_OUT.get(preset, ())}
    assert {path: held.get(path) == content for path, content in wanted.items()} == dict.fromkeys(wanted, True)

    # What else is there stood here once, and was deleted by the framework after it had been delivered.
    contents = {place(path): versions for path, versions in writer.whole.items()}
    rotated = {path: content for path, content in held.items() if path not in wanted}
    assert all("checkpoint" in path for path in rotated), "no temporary file, no backup"
    assert [path for path, content in rotated.items() if content not in contents[path]] == []

    # Every state that was ever called stored, not the last alone, was one that the framework had finished.
    sizes = {path: {len(content) for content in versions} for path, versions in contents.items()}
    sent = [(e["artifact_path"], e["bytes"]) for e in bench.sent(folder.parent.name)]
    still = [(path, size) for path, size in sent if path not in LIVE.get(preset, ()) and path != ".done"]
    assert {path for path, _ in still} <= sizes.keys(), "nothing that is left out was sent on the way either"
    assert [(path, size) for path, size in still if size not in sizes[path]] == []
    assert bench.program.status()["failures"] == []
    assert "Traceback" not in bench.program.text()
    return held


@pytest.mark.parametrize("preset", [name for name in REPLAYS if name != "huggingface"])
def test_a_recorded_training_arrives(preset: str, bench: Bench) -> None:
    arrived(preset, bench)


def test_what_event_files_say_is_told_once_and_folders_are_told_apart(bench: Bench) -> None:
    folder = bench.base / "tensorboard" / "told" / "run"
    folder.mkdir(parents=True)
    REPLAYS["tensorboard"](Writer(folder, 11))
    bench.finish(folder)
    for key, first in (("loss", 0), ("both/train/both", 11), ("both/val/both", 9)):
        assert bench.points("told", key) == [(step, step / 2 + first) for step in range(20)]
    assert bench.points("told", "hparam/loss") == [(0, 0.5)]


def test_rotation_leaves_whole_checkpoints_and_what_had_arrived_of_the_others(bench: Bench) -> None:
    """What is kept on the disk is whole in the store; of what rotation deletes nothing is torn, and nothing fails."""
    held = arrived("huggingface", bench)
    by_step = {n: {p.partition("/")[2] for p in held if p.startswith(f"checkpoint-{n}/")} for n in range(1, 7)}
    assert by_step[5] == by_step[6] == {*SET, MARKER}
    assert by_step[3], "the replay has shown it"
    # Each checkpoint has told what the ones before it did, rotated or not; the results come at the step they belong to.
    records = [*logged(6), SUMMARY, {**FINAL, "step": 6}]
    for key in {key for record in records for key in record} - {"step"}:
        curve = {(r["step"], r[key]) for r in records if key in r}
        assert bench.points("huggingface-experiment", key) == sorted(curve), key


def test_explain_names_the_preset(bench: Bench) -> None:
    yolo, keras = (bench.base / name / "e" / "r" for name in ("yolo", "keras"))
    assert "exclude **/weights/epoch*.pt (preset yolo)" in bench.explain(yolo / "weights" / "epoch1.pt")
    assert "preset yolo: route /*.png → plots" in bench.explain(yolo / "results.png")
    assert "exclude **/backup/** (preset keras)" in bench.explain(keras / "backup" / "latest.weights.h5")


def test_without_the_preset_the_same_training_leaves_more_behind(bench: Bench) -> None:
    """It is the preset that leaves these out, and brings the pictures together."""
    folder = bench.program.drop / "plain" / "run"
    folder.mkdir(parents=True)
    REPLAYS["yolo"](Writer(folder, seed=9))
    assert bench.finish(folder) == {os.fsdecode(p): c for p, c in tree(folder).items() if p != b".done"}
