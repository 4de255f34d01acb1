"""``import artifactd`` beside the real program."""

from __future__ import annotations

from pathlib import Path

import pytest

import artifactd
from artifactd.errors import ArtifactdError, FailedError, NotStoredError, UsageError, WaitTimeoutError
from conftest import MlflowServer
from support import Oracle, Program, free_port, wait_for

pytestmark = pytest.mark.live


def write(program: Program, rel: str, content: str = "x") -> Path:
    path = program.drop / rel
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path.parent


def test_beside_a_service_a_folder_is_waited_for_to_its_end(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    with program.running():
        wait_for(lambda: [e for e in program.events() if e["event"] == "watching"], "the service watches")
        folder = write(program, "api/one/a", "abc")
        stored = artifactd.wait(folder, timeout=60, config=program.config)
        assert (stored.files, stored.bytes) == (1, 3)
        write(program, "api/one/.done", "")
        artifactd.wait(folder, timeout=60, config=program.config)
        run = artifactd.run_for(folder, config=program.config)
        truth = Oracle(mlflow_server.uri).run("api", "one")
        assert (run.run_id, run.experiment, run.name) == (truth.info.run_id, "api", "one")
        assert run.status == truth.info.status == "FINISHED"
        assert run.url == f"{mlflow_server.uri}/#/experiments/{truth.info.experiment_id}/runs/{run.run_id}"
        assert artifactd.run_for(folder, config=program.config, offline=True).url is None
        write(program, "api/one/b")
        synced = artifactd.sync(folder, config=program.config, deadline=60)
        assert (synced.ok, synced.stored) == (True, 1)
        assert synced.by is not None
        assert "artifactd run (pid" in synced.by
        now = artifactd.status(config=program.config)
        assert (now.stored, now.pending, now.failed) == (3, 0, 0)
        assert [(r.run, r.run_id, r.stored) for r in now.runs] == [("one", run.run_id, 3)]
        write(program, "api/two/artifactd.toml", "nmae = 'x'")
        with pytest.raises(FailedError, match="nmae") as failed:
            artifactd.wait(program.drop / "api" / "two", timeout=60, config=program.config)
        assert [f.path for f in failed.value.files] == [str(program.drop / "api/two/artifactd.toml")]
        with pytest.raises(UsageError, match="no watched folder holds"):
            artifactd.wait(tmp_path, timeout=60, config=program.config)


def test_a_time_that_is_over_says_what_is_left_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program(tmp_path, tracking_uri=f"http://127.0.0.1:{free_port()}")
    folder = write(program, "e/r/a")
    with program.running():
        wait_for(lambda: program.status().get("failures"), "the server is found to be away")
        with pytest.raises(WaitTimeoutError, match="cannot be reached") as over:
            artifactd.wait(folder, timeout=1, config=program.config)
    assert [f.path for f in over.value.files] == [str(folder / "a")]
    with pytest.raises(ArtifactdError, match="no run is known"):
        artifactd.run_for(folder, config=program.config)
    monkeypatch.setattr("artifactd.waiting.GONE_FOR", 0.2)
    with pytest.raises(NotStoredError, match="no artifactd works"):
        artifactd.wait(folder, timeout=60, config=program.config)


def test_without_a_service_a_part_of_a_known_folder_is_synced_by_its_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path)
    monkeypatch.setenv("ARTIFACTD_STATE_DIR", str(program.state))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    write(program, "e/r/a")
    assert artifactd.sync(program.drop, settle="0.1s").stored == 1
    folder = write(program, "e/r/b", "bb")
    write(program, "e/other/c")
    synced = artifactd.sync(folder, settle="0.1s")
    assert (synced.stored, synced.stored_bytes, synced.by) == (1, 2, None)
    assert artifactd.wait(folder, timeout=5).files == 2
    assert artifactd.run_for(folder).url is None
    assert artifactd.run_for(folder).name == "r"


def test_a_pass_does_not_give_up_while_its_delivery_process_comes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It imports MLflow, which takes seconds here, and most of a minute just after an installation on a slow disk.
    monkeypatch.setattr("artifactd.onepass.PATIENCE", 0.2)
    program = Program(tmp_path)
    write(program, "e/r/a")
    done = artifactd.sync(config=program.config, settle="0.1s")
    assert (done.stored, done.left) == (1, ())
