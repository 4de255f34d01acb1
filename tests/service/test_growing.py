"""TensorBoard's event files while training writes them: readable from the store, and not sent over and over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.proxy import Proxy
from support import Oracle, Program, environment, tree, wait_for

pytestmark = pytest.mark.live

_TRAINING = """
import select, sys
from tensorboardX import SummaryWriter
with SummaryWriter(sys.argv[1], flush_secs=1) as writer:
    for step in range(10**6):
        writer.add_scalar("loss", 1 / (step + 1), step)
        if select.select([sys.stdin], [], [], 0.002)[0]:
            break
print(step + 1)
"""


@pytest.fixture
def proxy(mlflow_server: MlflowServer) -> Iterator[Proxy]:
    made = Proxy(mlflow_server.uri)
    yield made
    made.close()


def scalars(folder: Path) -> int:
    """How many points TensorBoard's own reader finds in an event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return len(events.Scalars("loss")) if "loss" in events.Tags()["scalars"] else 0


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_event_file_is_read_from_the_store_by_tensorboard_while_training_writes_it(
    proxy: Proxy, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=proxy.uri)
    folder = program.drop / tmp_path.name / "r"
    folder.mkdir(parents=True)
    oracle = Oracle(mlflow_server.uri)
    seen: list[int] = []
    copies = 0

    def more() -> bool:
        nonlocal copies
        runs = oracle.runs(tmp_path.name)
        if runs and oracle.client.list_artifacts(runs[0].info.run_id):
            copies += 1
            back = tmp_path / f"back-{copies}"
            oracle.files(runs[0].info.run_id, back)
            found = scalars(back)
            if found > max(seen, default=0):
                seen.append(found)
        return len(seen) >= 2

    with program.running():
        training = subprocess.Popen(
            [sys.executable, "-c", _TRAINING, str(folder)], env=environment(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_for(more, "two states of it can be read", 120)
            assert training.poll() is None, "it was still being written"
            last, _ = training.communicate("end\n", 30)
        finally:
            training.kill()
            training.communicate()
        (folder / ".done").touch()
        run = oracle.run(tmp_path.name, "r")
        wait_for(lambda: oracle.client.get_run(run.info.run_id).info.status == "FINISHED", "the run ends", 60)
    assert oracle.files(run.info.run_id, tmp_path / "end") == tree(folder)
    assert scalars(tmp_path / "end") == int(last)
    assert "Traceback" not in program.text()
    (events,) = (p for p in folder.iterdir() if "tfevents" in p.name)
    sent = sum(n for (method, path), n in list(proxy.counts.bytes.items()) if method == "PUT" and "tfevents" in path)
    assert sent <= 2.5 * os.path.getsize(events)
