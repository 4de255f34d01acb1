"""One real service with the embedded store, and a watched folder for each preset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from artifactd.config.presets import PRESETS
from support import Oracle, Program, tree, wait_for


class Bench:
    """One service that watches a folder for each preset, all settings of people in their places."""

    def __init__(self, base: Path) -> None:
        more = "".join(f'[[watch]]\npath = "{base}/{n}"\nsettle = "0.3s"\npreset = "{n}"\n' for n in PRESETS)
        self.program = Program(base, watch=more)
        self.base = base
        for name in PRESETS:
            (base / name).mkdir()
        self.oracle = Oracle(f"sqlite:///{self.program.state}/mlflow.db")

    def sent(self, experiment: str) -> list[dict[str, Any]]:
        """Each delivery into this experiment so far, as the log has it."""
        return [e for e in self.program.events() if e["event"] == "stored" and e["experiment"] == experiment]

    def finish(self, folder: Path) -> dict[str, bytes]:
        """End the run, wait for it, and give what it holds, its logged models' files among them."""
        experiment, run = folder.parent.name, folder.name

        def status() -> str | None:
            runs = [r for r in self.oracle.runs(experiment) if r.info.run_name == run]
            return runs[0].info.status if runs else None

        wait_for(lambda: status() == "RUNNING", "the run is there, and not over before its marker", 60)
        (folder / ".done").touch()
        wait_for(lambda: status() == "FINISHED", f"it ends; log:\n{self.program.text()[-3000:]}", 60)
        back = self.base / f"back-{experiment}"
        ended = self.oracle.run(experiment, run)
        held = self.oracle.files(ended.info.run_id, back / "run")
        for output in ended.outputs.model_outputs if ended.outputs else ():
            model = self.oracle.client.get_logged_model(output.model_id)
            assert str(model.status) == "READY"
            here = tree(Path(model.artifact_location.removeprefix("file://")))
            held |= {f"{model.name}/".encode() + path: content for path, content in here.items()}
        return {os.fsdecode(path): content for path, content in held.items() if path != b".done"}

    def points(self, experiment: str, key: str) -> list[tuple[int, float]]:
        """What the experiment's one run was told of a metric, by step."""
        (run,) = self.oracle.runs(experiment)
        history = self.oracle.client.get_metric_history(run.info.run_id, key)
        return sorted((metric.step, metric.value) for metric in history)

    def explain(self, path: Path) -> str:
        done = self.program.call("explain", str(path))
        assert done.returncode == 0, done.stderr
        return done.stdout
