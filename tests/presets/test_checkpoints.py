"""Whoever finds a checkpoint's marker in the store finds all of the checkpoint there, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from artifactd.checkpoints import REST
from conftest import MlflowServer
from faults.proxy import Fault, Proxy, uploads
from presets.bench import Bench
from presets.replay import MARKER, REPLAYS, SET, trainer_state
from presets.writer import Writer
from support import Oracle, Program, wait_for

pytestmark = pytest.mark.timeout(240)

SLOW = Fault("throttle", uploads, rate=400 * 1024)
DCP = ("__0_0.distcp", "__1_0.distcp", ".metadata")
MODEL = "model.safetensors"
SAVED = ("assets/words.txt", "variables/variables.index", "variables/variables.data-00000-of-00001", "saved_model.pb")


class Reader(threading.Thread):
    """Lists the store without a pause, and notes each checkpoint that has its marker, and what it lacks then.

    Attributes:
        whole: Folders that had their marker.
        torn: What was lacking beside a marker.
        looks: Times that a marker was seen.
    """

    def __init__(self, store: Path, needs: frozenset[str]) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.needs = needs
        self.whole: set[str] = set()
        self.torn: set[str] = set()
        self.looks = 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            for marker in self.store.glob(f"*/artifacts/*/{MARKER}"):
                folder = marker.parent
                names = set(os.listdir(folder))  # after its marker was seen
                self.torn |= {f"{folder.name}/{name}" for name in self.needs - names}
                self.whole.add(folder.name)
                self.looks += 1

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._over.set()
            self.join(20)


class Moody(Proxy):
    """Refuses each model at its first try, so that all the small files of a checkpoint overtake it."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.refused: set[str] = set()

    def meet(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Fault | None:
        fault = super().meet(method, path, headers)
        with self.lock:
            if method != "PUT" or not path.endswith(MODEL) or path in self.refused:
                return fault
            self.refused.add(path)
        return Fault("answer", status=500)


@pytest.fixture
def proxy(mlflow_server: MlflowServer) -> Iterator[Moody]:
    """A proxy before the real server."""
    made = Moody(mlflow_server.uri)
    yield made
    made.close()


def manifest(oracle: Oracle, experiment: str, to: Path) -> Any:
    run = oracle.run(experiment, "run")
    return json.loads(
        Path(oracle.client.download_artifacts(run.info.run_id, "artifactd/manifest.json", str(to))).read_text()
    )


def order(bench: Bench, experiment: str) -> list[str]:
    """What was delivered, in this order."""
    return [e["artifact_path"] for e in bench.sent(experiment)]


def start(bench: Bench, preset: str, experiment: str) -> Writer:
    folder = bench.base / preset / experiment / "run"
    folder.mkdir(parents=True)
    return Writer(folder, seed=5)


def save(writer: Writer, folder: str, *names: str, size: int = 500, step: int = 1) -> None:
    """Write files of a checkpoint, the Trainer's marker as it does."""
    for name in names:
        writer.written(f"{folder}/{name}", trainer_state(step) if name == MARKER else writer.weights(size))


def test_rotation_before_a_slow_store_whatever_is_killed(
    proxy: Moody, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=proxy.uri, watch='preset = "huggingface"\n')
    folder = program.drop / tmp_path.name / "run"
    folder.mkdir(parents=True)
    oracle = Oracle(mlflow_server.uri)
    experiment = oracle.client.create_experiment(tmp_path.name)
    reader = Reader(mlflow_server.artifact_root / experiment, frozenset(SET))
    training = threading.Thread(target=REPLAYS["huggingface"], args=(Writer(folder, 7),), daemon=True)

    def ended() -> bool:
        return str(oracle.run(tmp_path.name, "run").info.status) == "FINISHED"

    with reader.reading(), proxy.misbehaving(SLOW):
        with program.running() as first:
            training.start()
            wait_for(lambda: proxy.counts.sent() > 300_000, "in the middle of a model", 60)
            first.kill()
            first.wait()
        with program.running() as second:
            wait_for(lambda: proxy.counts.sent() > 900_000, "in the middle of another", 60)
            second.kill()
            second.wait()
        with program.running():
            training.join(60)
            (folder / ".done").touch()
            wait_for(ended, f"it ends; log:\n{program.text()[-3000:]}", 120)
    assert reader.torn == set()
    assert reader.whole >= {"checkpoint-5", "checkpoint-6"}
    assert reader.looks > 100, "it did look meanwhile"
    assert len([path for path in proxy.refused if "checkpoint-" in path]) > 1, "models were overtaken"
    told = manifest(oracle, tmp_path.name, tmp_path)["checkpoints"]
    assert {entry["path"] for entry in told if entry["whole"]} == reader.whole
    assert "Traceback" not in program.text()


def test_a_half_deleted_checkpoint_is_given_up_at_the_end_and_named(bench: Bench, tmp_path: Path) -> None:
    writer = start(bench, "huggingface", "half")
    save(writer, "checkpoint-9", *SET, MARKER)
    parts = [name for name in (*SET, "model-00001-of-00002.safetensors", MARKER) if name != MODEL]
    save(writer, "checkpoint-8", *parts)
    at = writer.folder / "checkpoint-8" / MARKER

    def reason() -> Any:
        return json.loads(bench.program.call("explain", "--json", str(at)).stdout)[0]

    missing = "1 of the 2 model-*-of-00002.safetensors, model.safetensors.index.json"
    said = f"{REST}, which lacks {missing}"
    wait_for(lambda: reason()["waits_for"] == said, "it waits", 30)
    wait_for(lambda: f"checkpoint-9/{MARKER}" in order(bench, "half"), "the whole one goes", 30)
    writer.pause(1.0)
    assert f"checkpoint-8/{MARKER}" not in order(bench, "half")
    held = bench.finish(writer.folder)
    assert f"checkpoint-8/{MARKER}" in held, "nothing is lost"
    assert f"Its checkpoint is not whole in the store: it lacks {missing}" in reason()["notes"]
    assert manifest(bench.oracle, "half", tmp_path)["checkpoints"] == [
        {"path": "checkpoint-8", "whole": False},
        {"path": "checkpoint-9", "whole": True},
    ]


@pytest.mark.parametrize(
    ("preset", "folder", "marker", "needs"),
    [
        ("keras", "export", "fingerprint.pb", SAVED),
        ("lightning", "checkpoints/epoch=1-step=8.ckpt", "meta.pt", DCP),
        ("huggingface", "checkpoint-4", MARKER, (*(n for n in SET if n != MODEL), MODEL)),
    ],
)
def test_a_marker_that_comes_first_waits_for_all_the_others(
    preset: str, folder: str, marker: str, needs: tuple[str, ...], bench: Bench
) -> None:
    """No framework writes so, and a copy of its folder may."""
    experiment = f"first-{preset}"
    writer = start(bench, preset, experiment)
    for name in (marker, *needs):
        save(writer, folder, name, size=2_000)
        writer.pause(0.5)
        if name == needs[0]:
            wait_for(lambda: f"{folder}/{needs[0]}" in order(bench, experiment), "it is stored alone", 30)
            assert "which lacks" in bench.explain(writer.folder / folder / marker)
    wait_for(lambda: f"{folder}/{marker}" in order(bench, experiment), "the marker goes at last", 30)
    assert order(bench, experiment)[-1] == f"{folder}/{marker}"
    assert set(order(bench, experiment)) == {f"{folder}/{name}" for name in (*needs, marker)}
    save(writer, folder, needs[-1], marker, size=2_000, step=2)
    wait_for(lambda: order(bench, experiment).count(f"{folder}/{marker}") == 2, "written anew, it goes anew", 30)
    assert order(bench, experiment)[-2:] == [f"{folder}/{needs[-1]}", f"{folder}/{marker}"]


def test_one_pass_delivers_all_of_a_checkpoint(tmp_path: Path) -> None:
    program = Program(tmp_path, watch='preset = ["huggingface", "keras", "lightning"]\n')
    writer = Writer(program.drop / "e" / "run", seed=3)
    sets = {"checkpoint-1": (MARKER, *SET), "export": ("fingerprint.pb", *SAVED), "a.ckpt": ("meta.pt", *DCP)}
    for folder, names in sets.items():
        save(writer, folder, *names)
    done = program.call("sync", "--config", str(program.config), str(writer.folder))
    assert (done.returncode, "16 files stored" in done.stdout) == (0, True), done.stdout + done.stderr
    writer.path("checkpoint-1/model.safetensors").unlink()
    save(writer, "checkpoint-1", MARKER, step=2)
    done = program.call("sync", "--config", str(program.config))
    assert done.returncode == 3
    assert "which lacks model*.safetensors" in done.stdout + done.stderr
