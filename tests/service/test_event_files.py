"""TensorBoard's event files with `kind = "metrics"`: each scalar is told once, while the file grows, over kills, and of
what is damaged or cannot be read the reason is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from artifactd import installation
from artifactd.names import encode_component
from conftest import MlflowServer
from event_files import NAME, event, head, read_back, scalars, simple
from support import Oracle, Program, environment, wait_for

pytestmark = pytest.mark.live

ROUTE = '[[watch.route]]\nmatch = "**/*tfevents*"\nkind = "metrics"\n'

_TRAINING = """
import sys, time
from tensorboardX import SummaryWriter
writer = SummaryWriter(sys.argv[1], flush_secs=1)
for step in range(10**6):
    writer.add_scalar("loss", 1 / (step + 1), step)
    writer.add_scalars("both", {"train": step, "val": step / 2}, step)
    time.sleep(0.002)
"""


class Site:
    def __init__(self, base: Path, server: MlflowServer, watch: str = ROUTE) -> None:
        self.program = Program(base, tracking_uri=server.uri, watch=watch)
        self.experiment = base.name
        self.folder = self.program.drop / base.name / "r"
        self.folder.mkdir(parents=True)
        self.oracle = Oracle(server.uri)

    def points(self, key: str) -> Counter[tuple[int, float]]:
        runs = self.oracle.runs(self.experiment)
        history = self.oracle.client.get_metric_history(runs[0].info.run_id, key) if runs else []
        return Counter((m.step, m.value) for m in history)

    def end(self) -> dict[str, Any]:
        (self.folder / ".done").touch()
        return self.program.wait_idle()


def told_of(path: Path) -> Counter[tuple[int, float]]:
    """The scalars of an event file, as TensorBoard reads them."""
    return Counter((e.step, v.simple_value) for e in read_back(str(path)) for v in e.summary.value)


@pytest.fixture
def site(mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    return Site(tmp_path, mlflow_server)


@pytest.mark.timeout(180)
def test_scalars_count_while_a_real_writer_writes_and_once_over_kills_of_both(site: Site, tmp_path: Path) -> None:
    """Also when the ledger is lost; and what is pulled is what TensorBoard reads."""
    writer = subprocess.Popen([sys.executable, "-c", _TRAINING, str(site.folder)], env=environment())
    try:
        with site.program.running() as service:
            wait_for(lambda: len(site.points("loss")) > 10, "the first points, long before the end", 60)
            os.killpg(service.pid, signal.SIGKILL)
            service.wait(10)
        sofar = len(site.points("loss"))
        with site.program.running():
            wait_for(lambda: len(site.points("loss")) > sofar, "points that came after the kill", 60)
            writer.kill()
            writer.wait(10)
            site.end()
    finally:
        writer.kill()
    (site.program.state / "ledger.db").unlink()
    with site.program.running():
        site.program.wait_idle()
        assert site.program.status()["failures"] == []
    run_id = site.oracle.runs(site.experiment)[0].info.run_id
    pulled = site.program.call("pull", run_id, str(tmp_path / "back"))
    assert pulled.returncode == 0, pulled.stderr
    for folder, key in (("", "loss"), ("both/train", "both/train/both"), ("both/val", "both/val/both")):
        (file,) = (site.folder / folder).glob("events.*")
        (back,) = (tmp_path / "back" / folder).glob("events.*")
        assert back.name == file.name
        assert back.read_bytes() == file.read_bytes()
        assert len(told_of(back)) > 10
        assert site.points(key) == told_of(back)


@pytest.mark.parametrize("step", ["tell.between", "tell.after"])
def test_a_kill_in_the_middle_tells_each_point_once(site: Site, step: str) -> None:
    """Of two files as well, of which the second goes on where the first was at some time, as after a restart."""
    (site.folder / NAME).write_bytes(head() + scalars("loss", range(2500)))  # three requests
    (site.folder / f"{NAME}.2").write_bytes(head() + scalars("loss", (n + 0.5 for n in range(2400, 2600)), first=2400))
    with site.program.running(_ARTIFACTD_FAILPOINT=f"{step}:1") as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    with site.program.running():
        site.end()
    first, second = ((n, float(n)) for n in range(2500)), ((n, n + 0.5) for n in range(2400, 2600))
    assert site.points("loss") == Counter([*first, *second])


def test_the_ui_gets_pictures_tables_and_text_as_such_whatever_their_names(site: Site) -> None:
    """What the page of a run asks its server for, and what that says of it."""
    shown = {
        b"plot.png": "image/png", b"loss#1 50%.png": "image/png", b"figure.svg": "image/svg+xml",
        b"table.csv": "text/plain", b"train.log": "text/plain", b"lines.jsonl": "", b"README.md": "text/plain",
    }  # fmt: skip
    for name in shown:
        (site.folder / os.fsdecode(name)).write_bytes(b"content of " + name)
    with site.program.running():
        site.end()
    run_id = site.oracle.runs(site.experiment)[0].info.run_id
    for name, kind in shown.items():
        leaf = encode_component(name)
        answer = requests.get(
            f"{site.oracle.client.tracking_uri}/get-artifact", {"run_uuid": run_id, "path": leaf}, timeout=20
        )
        assert answer.content == b"content of " + name
        assert answer.headers["Content-Type"].startswith(kind)
        assert leaf.rpartition(".")[2] == os.fsdecode(name).rpartition(".")[2], "the UI goes by the suffix"


def test_damage_is_named_by_its_place_and_the_rest_is_told(site: Site, tmp_path: Path) -> None:
    before = head() + scalars("loss", (1.0, 0.5))
    damaged = bytearray(event(simple("loss", 7.0), step=2))
    damaged[-6] ^= 1
    content = before + damaged + scalars("loss", (0.25,), first=3) + event(simple("loss", 9), step=4)[:-1]
    (site.folder / NAME).write_bytes(content)
    with site.program.running():
        (site.folder / ".done").touch()
        (failure,) = wait_for(lambda: site.program.status().get("failures"), "the failure", 30)
    assert f"byte {len(before)}: the record there is damaged: its checksum is wrong" in failure["error"]
    assert site.points("loss") == Counter({(0, 1.0): 1, (1, 0.5): 1, (3, 0.25): 1})
    run_id = site.oracle.runs(site.experiment)[0].info.run_id
    copy = site.oracle.client.download_artifacts(run_id, NAME, str(tmp_path))
    assert Path(copy).read_bytes() == content


def test_without_the_extra_the_file_is_stored_and_the_sentence_names_it(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """With a route of one's own it is a failure; a preset asks for what can be had; and then both are told."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['google_crc32c'] = None\n")
    without: dict[str, Any] = {"PYTHONPATH": os.pathsep.join((str(hidden), os.environ.get("PYTHONPATH", "")))}
    preset = tmp_path / "preset"
    more = f'{ROUTE}[[watch]]\npath = "{preset}"\nsettle = "0.3s"\npreset = "tensorboard"\n'
    site = Site(tmp_path, mlflow_server, more)
    other = preset / f"{tmp_path.name}-preset" / "r"
    other.mkdir(parents=True)
    for folder in (site.folder, other):
        (folder / NAME).write_bytes(head() + scalars("loss", (1.0, 0.5)))
        (folder / ".done").touch()
    with site.program.running(**without):
        (failure,) = wait_for(lambda: site.program.status().get("failures"), "the failure", 30)
        name = f"{tmp_path.name}-preset"
        wait_for(lambda: [r for r in site.oracle.runs(name) if r.info.status == "FINISHED"], "the preset's", 30)
    assert failure["path"] == str(site.folder / NAME)
    line = installation.here().with_extra("tensorboard").command
    assert line in failure["error"]
    run_id = site.oracle.runs(site.experiment)[0].info.run_id
    assert NAME in {a.path for a in site.oracle.client.list_artifacts(run_id)}
    said = site.program.call("check", **without)
    assert "".join((said.stdout + said.stderr).split("\n")).count(line) == 2
    assert site.program.call("retry", "--all").returncode == 0
    with site.program.running():
        wait_for(lambda: site.points("loss") == Counter({(0, 1.0): 1, (1, 0.5): 1}), "told", 30)
        told = site.oracle.run(f"{tmp_path.name}-preset", "r").info.run_id
        wait_for(lambda: len(site.oracle.client.get_metric_history(told, "loss")) == 2, "the preset's too", 30)
        site.program.wait_idle()
