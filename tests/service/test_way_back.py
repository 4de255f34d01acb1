"""The manifest at a run's end, and the way back from it on a machine that never saw the folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from cli_support import call, own_environment
from conftest import MlflowServer
from support import Oracle, Program, tree, wait_for

pytestmark = pytest.mark.live

FILES = {
    "model.bin": b"m" * 5000,
    "plots/loss#1.png": b"png",
    "plots/loss#2.png": b"gnp",
    os.fsdecode(b"odd/nonutf8-\xff.txt"): b"odd",
    "artifactd/manifest.json": b"the user's own",
    "empty": b"",
}


class Site:
    """A run folder of a host, and the server."""

    def __init__(self, base: Path, server: MlflowServer, name: str = "host") -> None:
        self.base, self.server = base, server
        self.program = Program(base / name, tracking_uri=server.uri)
        self.experiment = base.name
        self.folder = self.program.drop / base.name / "r"
        self.folder.mkdir(parents=True)
        self.oracle = Oracle(server.uri)

    def fill(self) -> None:
        for name, content in FILES.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(10**18, 1_700_000_000_123_456_789))
        (self.folder / "model.bin").chmod(0o640)
        (self.folder / "none" / "below").mkdir(parents=True)
        (self.folder / "none").chmod(0o750)

    def end(self) -> None:
        (self.folder / ".done").touch()

    @property
    def run_id(self) -> str:
        return str(self.oracle.run(self.experiment, "r").info.run_id)

    @property
    def status(self) -> str:
        return "".join(r.info.status for r in self.oracle.runs(self.experiment))

    def sync(self) -> int:
        return self.program.call("sync", "--deadline", "50s").returncode

    def stored(self) -> dict[str, bytes]:
        (root,) = self.server.artifact_root.glob(f"*/{self.run_id}/artifacts")
        return {os.fsdecode(path): content for path, content in tree(root).items()}

    def manifest(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.stored()["artifactd/manifest.json"])
        return data


@pytest.fixture
def site(mlflow_server: MlflowServer, tmp_path: Path) -> Site:
    return Site(tmp_path, mlflow_server)


def test_a_run_that_is_over_holds_a_manifest_of_all_its_files(site: Site) -> None:
    site.fill()
    site.program.call("sync", "--deadline", "50s")
    assert "artifactd/manifest.json" not in site.stored(), "it is not over yet"
    site.end()
    assert site.sync() == 0
    assert site.status == "FINISHED"
    said = site.manifest()
    assert (said["artifactd_manifest"], said["run_id"], said["run"]) == (1, site.run_id, "r")
    assert (said["host"], said["watch"], said["folder"]) == (
        socket.gethostname(), str(site.program.drop), f"{site.experiment}/r",
    )  # fmt: skip
    by_path = {file["artifact_path"]: file for file in said["files"]}
    stored = site.stored()
    assert set(by_path) == set(stored) - {"artifactd/manifest.json"}
    for path, file in by_path.items():
        assert (file["size"], file["sha256"]) == (len(stored[path]), hashlib.sha256(stored[path]).hexdigest())
    assert by_path["_x61_rtifactd/manifest.json"]["path"] == "artifactd/manifest.json", "the user's own is another one"
    model = by_path["model.bin"]
    assert (model["mode"], model["mtime_ns"], model["tries"]) == ("0640", 1_700_000_000_123_456_789, 1)
    folders = {folder["path"]: folder["mode"] for folder in said["folders"]}
    assert folders["none"] == "0750"
    assert "none/below" in folders


def test_a_folder_that_changes_after_its_end_gets_a_new_manifest_and_no_second_one(site: Site) -> None:
    site.fill()
    site.end()
    with site.program.running():
        wait_for(lambda: site.status == "FINISHED", "the end", 40)
        first = site.manifest()
        (site.folder / "late").write_bytes(b"late")
        wait_for(lambda: any(f["path"] == "late" for f in site.manifest()["files"]), "the new manifest", 40)
        site.program.wait_idle()
    said = site.program.text().count("manifest stored")
    assert said == 2
    assert len(site.manifest()["files"]) == len(first["files"]) + 1
    (site.program.state / "ledger.db").unlink()
    before = site.stored()
    assert site.sync() == 0
    assert site.stored() == before, "with a lost ledger, the one that says the same is left alone"


@pytest.mark.parametrize("step", ["manifest.before", "manifest.after"])
def test_a_kill_at_each_step_leaves_one_manifest_and_the_end(site: Site, step: str) -> None:
    site.fill()
    site.end()
    with site.program.running(_ARTIFACTD_FAILPOINT=f"{step}:1") as killed:
        assert killed.wait(60) == -signal.SIGKILL, site.program.text()[-2000:]
    with site.program.running():
        wait_for(lambda: site.status == "FINISHED", "the end", 40)
    assert len(site.manifest()["files"]) == len(FILES) + 1
    assert [path for path in site.stored() if path.startswith("artifactd/")] == ["artifactd/manifest.json"]


def test_a_store_that_refuses_the_manifest_is_shown_and_mended_by_a_retry(site: Site) -> None:
    site.fill()
    assert site.sync() == 0
    (root,) = site.server.artifact_root.glob(f"*/{site.run_id}/artifacts")
    (root / "artifactd").write_text("a file where the folder should be")
    site.end()
    with site.program.running(ARTIFACTD_RETRY__MAXIMUM="0.1s", ARTIFACTD_RETRY__INITIAL="0.1s"):
        wait_for(lambda: "given up after 12 tries" in site.program.text(), "the failure", 60)
        assert "its manifest" in site.program.call("status").stdout
    assert site.status == "RUNNING"
    refused = site.program.call("sync", "--deadline", "50s")
    assert (refused.returncode, "its manifest" in refused.stdout) == (3, True)
    (root / "artifactd").unlink()
    site.program.call("retry", "--all")
    assert site.sync() == 0
    assert site.status == "FINISHED"
    assert len(site.manifest()["files"]) == len(FILES) + 1


# -- the way back ----------------------------------------------------------------------------------------------------


def look(folder: Path) -> dict[bytes, tuple[int, int, bytes | None]]:
    """All that stands in a folder: permission bits, nanoseconds, content; the note of a restore aside."""
    found: dict[bytes, tuple[int, int, bytes | None]] = {}
    top = os.fsencode(folder)
    for here, folders, names in os.walk(top):
        for path in (os.path.join(here, n) for n in (*folders, *names)):
            st = os.lstat(path)
            content = None if os.path.isdir(path) else Path(os.fsdecode(path)).read_bytes()
            found[os.path.relpath(path, top)] = (st.st_mode & 0o7777, st.st_mtime_ns, content)
    found.pop(b".artifactd-run", None)
    return found


@pytest.fixture
def elsewhere(site: Site, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    """A command on a machine that never saw the folder."""
    with own_environment(tmp_path):
        os.environ["MLFLOW_TRACKING_URI"] = site.server.uri
        yield lambda *args: call(*args, "--state-dir", tmp_path / "fresh")


def delivered(site: Site) -> str:
    site.fill()
    site.end()
    assert site.sync() == 0
    assert site.status == "FINISHED"
    return site.run_id


def test_a_machine_that_never_saw_the_folder_verifies_by_the_manifest_alone(
    site: Site, tmp_path: Path, elsewhere: Callable[..., Result]
) -> None:
    run_id = delivered(site)
    for what in (run_id, f"{site.experiment}/r"):
        for how in ("--json", "--deep"):
            fine = elsewhere("verify", what, how)
            assert (fine.exit_code, fine.stderr) == (0, "")
            assert ('"files": 7' in fine.stdout) or ("All in order: 7 files" in fine.stdout)
    (root,) = site.server.artifact_root.glob(f"*/{run_id}/artifacts")
    (root / "model.bin").write_bytes(b"n" * 5000)
    (root / "plots" / "loss_x23_1.png").unlink()
    listed = elsewhere("verify", run_id, "--json")
    assert listed.exit_code == 1
    (missed,) = json.loads(listed.stdout)["findings"]
    assert (missed["artifact_path"], missed["error"]) == ("plots/loss_x23_1.png", "missing in the store [AD224]")
    deep = elsewhere("verify", run_id, "--deep")
    assert deep.exit_code == 1
    assert "another content of the same size [AD224]" in deep.stdout
    pulled = elsewhere("pull", run_id, str(tmp_path / "back"))
    assert pulled.exit_code == 1
    assert "another content than was stored there" in pulled.stdout
    assert not (tmp_path / "back" / "model.bin").exists(), "a wrong content never takes the file's name"


def test_a_folder_restored_on_a_second_host_is_that_run_and_sends_nothing(site: Site, tmp_path: Path) -> None:
    run_id = delivered(site)
    before = site.stored()
    second = Site(tmp_path, site.server, "second")
    second.folder.rmdir()
    done = second.program.call("pull", "--tree", run_id, str(second.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert look(second.folder) == look(site.folder)
    with second.program.running():
        status = second.program.wait_idle()
    assert status["bytes_sent"] == 0
    assert [(r["run_id"], r["stored"], r["failed"]) for r in status["runs"]] == [(run_id, len(FILES) + 1, 0)]
    assert second.program.text().count("manifest stored") == 1, "the one that is there says it all"
    assert site.stored() == before
    assert site.status == "FINISHED"
    assert len(site.oracle.runs(site.experiment)) == 1
    said = second.program.call("explain", str(second.folder / ".artifactd-run")).stdout
    assert "note of which run" in said


def test_a_pull_that_was_cut_short_goes_on_where_it_was(
    site: Site, tmp_path: Path, elsewhere: Callable[..., Result]
) -> None:
    run_id = delivered(site)
    back = tmp_path / "back"
    left = back / ".tmp-artifactd-killed"
    left.mkdir(parents=True)
    (left / "artifact-0").write_bytes(b"m" * 100)
    (back / "empty").touch()
    done = elsewhere("pull", run_id, str(back))
    assert done.stdout == "6 files written (4.9 KiB), 1 there already\n"
    assert not left.exists()
    assert {path: content for path, content in tree(back).items() if path != b".done"} == {
        os.fsencode(name): content for name, content in FILES.items()
    }
    plots = elsewhere("pull", f"{site.experiment}/r", "plots/*#1.png", str(tmp_path / "plots"))
    assert plots.exit_code == 0, plots.stderr
    assert tree(tmp_path / "plots") == {b"plots/loss#1.png": b"png"}
    about = elsewhere("pull", run_id, "artifactd/manifest.json", str(tmp_path / "about"))
    assert about.exit_code == 0
    assert len(list((tmp_path / "about").rglob("*.json"))) == 1


def test_two_runs_of_one_name_are_told_apart_by_their_ids(
    site: Site, tmp_path: Path, elsewhere: Callable[..., Result]
) -> None:
    first = delivered(site)
    experiment = site.oracle.run(site.experiment, "r").info.experiment_id
    second = site.oracle.client.create_run(experiment, run_name="r").info.run_id
    done = elsewhere("ls", f"{site.experiment}/r")
    assert done.exit_code == 1
    assert first in done.stderr
    assert second in done.stderr
    nothing = elsewhere("ls", f"{site.experiment}/none")
    assert nothing.exit_code == 1
    assert "no run is known" in nothing.stderr


def log_model(site: Site, run_id: str, name: str, files: dict[str, bytes], base: Path) -> str:
    """As a job does by MLflow's API, and as `kind = "model"` folders are delivered."""
    from mlflow.entities import LoggedModelOutput

    client = site.oracle.client
    folder = base / f"model-{len(list(base.iterdir()))}"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name=name, source_run_id=run_id)
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    return str(model.model_id)


def test_models_are_listed_and_pulled_by_their_names(
    site: Site, tmp_path: Path, elsewhere: Callable[..., Result]
) -> None:
    run_id = delivered(site)
    log_model(site, run_id, "clf", {"MLmodel": b"old", "data/model.pkl": b"old weights"}, tmp_path)
    newest = log_model(site, run_id, "clf", {"MLmodel": b"new", "data/model.pkl": b"weights"}, tmp_path)
    client, name = site.oracle.client, tmp_path.name.replace("_", "-")
    client.create_registered_model(name)
    client.create_model_version(name, f"models:/{newest}", run_id=run_id, model_id=newest)
    client.create_model_version(name, f"runs:/{run_id}/plots", run_id=run_id)
    client.set_registered_model_alias(name, "champion", "1")
    listed = json.loads(elsewhere("ls", run_id, "--json").stdout)
    assert {e["artifact_path"]: e["size"] for e in listed if e["artifact_path"].startswith("clf/")} == {
        "clf/MLmodel": 3, "clf/data/model.pkl": 7,
    }  # fmt: skip
    model = {b"MLmodel": b"new", b"data/model.pkl": b"weights"}
    plots = {b"loss#1.png": b"png", b"loss#2.png": b"gnp"}
    wanted = {
        f"models:/{name}/1": model, f"models:/{name}@champion": model, f"models:/{newest}": model,
        f"models:/{name}": plots, name: plots, f"models:/{name}/2": plots,
    }  # fmt: skip
    for number, (what, files) in enumerate(wanted.items()):
        to = tmp_path / f"to-{number}"
        done = elsewhere("pull", what, str(to))
        assert done.exit_code == 0, done.stderr
        assert tree(to) == files, what
    from_run = elsewhere("pull", run_id, "clf", str(tmp_path / "clf"))
    assert from_run.exit_code == 0
    assert tree(tmp_path / "clf") == {b"clf/" + path: content for path, content in model.items()}
    for wrong in (f"models:/{name}/9", "models:/no-such", f"models:/{name}@nobody"):
        done = elsewhere("ls", wrong)
        assert (done.exit_code, done.stdout) == (1, "")
        assert wrong in done.stderr
