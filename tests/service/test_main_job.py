"""The main job with the real program: folders in, runs out, on the embedded store."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Oracle, Program, tree, wait_for


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def oracle(program: Program) -> Oracle:
    return Oracle(f"sqlite:///{program.state}/mlflow.db")


@pytest.fixture
def run_folder(program: Program) -> Path:
    folder = program.drop / "vision" / "run-1"
    (folder / "plots").mkdir(parents=True)
    (folder / "model.pkl").write_bytes(os.urandom(100_000))
    (folder / "plots" / "loss#1 é.png").write_bytes(b"png")
    (folder / "empty").touch()
    return folder


@pytest.fixture
def service(program: Program, run_folder: Path) -> Iterator[Program]:
    with program.running():
        program.wait_idle()
        yield program


def stored_events(program: Program) -> list[str]:
    return [e["artifact_path"] for e in program.events() if e["event"] == "stored"]


def test_a_dropped_folder_is_a_run_with_its_files(
    service: Program, oracle: Oracle, run_folder: Path, tmp_path: Path
) -> None:
    run = oracle.run("vision", "run-1")
    assert oracle.files(run.info.run_id, tmp_path / "back") == tree(run_folder)
    assert run.data.tags["artifactd.path"] == str(run_folder)
    assert run.data.tags["artifactd.host"] == os.uname().nodename
    assert len(run.data.tags["artifactd.key"]) == 40
    assert run.info.status == "RUNNING"
    (done,) = [e for e in service.events() if e.get("artifact_path") == "model.pkl"]
    assert (done["experiment"], done["run"], done["bytes"], done["tries"]) == ("vision", "run-1", 100_000, 1)
    assert not (run_folder / ".artifactd").exists()


def test_new_and_changed_files_follow_and_the_marker_ends_the_run(
    service: Program, oracle: Oracle, run_folder: Path, tmp_path: Path
) -> None:
    deep = run_folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "new.txt").write_text("new")
    (run_folder / "model.pkl").write_bytes(b"better")
    (run_folder / ".done").touch()
    run_id = oracle.run("vision", "run-1").info.run_id
    wait_for(lambda: oracle.client.get_run(run_id).info.status == "FINISHED", "the marker ends the run")
    assert oracle.files(run_id, tmp_path / "back") == tree(run_folder)
    (run_folder / "late.txt").write_text("late")
    wait_for(lambda: "late.txt" in stored_events(service), "a late file still goes in")
    service.wait_idle()
    assert oracle.client.get_run(run_id).info.status == "FINISHED"


def test_a_failed_marker_fails_the_run(service: Program, oracle: Oracle, run_folder: Path) -> None:
    (run_folder / ".failed").write_text("CUDA out of memory")
    wait_for(lambda: oracle.run("vision", "run-1").info.status == "FAILED", "the marker fails the run")


def test_after_kill_touch_and_rewrite_nothing_is_sent_again(program: Program, run_folder: Path, oracle: Oracle) -> None:
    with program.running() as process:
        program.wait_idle()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    sent = program.status()["bytes_sent"]
    with program.running():
        os.utime(run_folder / "model.pkl")
        content = (run_folder / "plots" / "loss#1 é.png").read_bytes()
        (run_folder / "plots" / "loss#1 é.png").write_bytes(content)
        (run_folder / "sentinel").write_bytes(b"12345")
        wait_for(lambda: "sentinel" in stored_events(program), "the service works again")
        program.wait_idle()
    status = program.status()
    assert status["bytes_sent"] == sent + 5
    assert status["bytes_sent"] == status["bytes_unique"]
    assert len(oracle.runs("vision")) == 1


def test_a_file_that_is_open_waits_and_says_so(service: Program, run_folder: Path) -> None:
    path = run_folder / "train.log.txt"
    with path.open("w") as writing:
        writing.write("epoch 1\n")
        writing.flush()
        said = wait_for(
            lambda: next((t for t in [service.call("explain", str(path)).stdout] if "open for writing" in t), None),
            "explain says what it waits for",
        )
        assert "vision" in said
        assert "train.log.txt" not in stored_events(service)
    wait_for(lambda: "train.log.txt" in stored_events(service), "it is delivered once closed")


def test_two_services_on_one_state_folder(service: Program) -> None:
    second = service.call("run", "--config", str(service.config))
    assert second.returncode == 1
    assert "in use by artifactd run (pid " in second.stderr
    assert "Traceback" not in second.stderr
    assert service.call("sync").returncode == 1


def test_reload_takes_a_good_config_and_keeps_the_old_one_for_a_bad_one(service: Program, run_folder: Path) -> None:
    process = service._service
    assert process is not None
    good = service.config.read_text()
    service.config.write_text(good.replace("settle", "setle"))
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the old one stays" in service.text(), "the bad one is refused")
    assert "setle" in service.text()
    (run_folder / "after-bad.txt").write_text("1")
    wait_for(lambda: "after-bad.txt" in stored_events(service), "it goes on as before")
    service.config.write_text(good + 'exclude = ["*.secret"]\n')
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: [e for e in service.events() if e["event"] == "reloaded"], "the good one is taken")
    (run_folder / "x.secret").write_text("no")
    (run_folder / "after-good.txt").write_text("2")
    wait_for(lambda: "after-good.txt" in stored_events(service), "it goes on by the new one")
    service.wait_idle()
    assert "x.secret" not in stored_events(service)
    assert "exclude *.secret" in service.call("explain", str(run_folder / "x.secret")).stdout


def test_a_deleted_run_is_a_failure_until_it_is_restored(service: Program, oracle: Oracle, run_folder: Path) -> None:
    run_id = oracle.run("vision", "run-1").info.run_id
    oracle.client.delete_run(run_id)
    (run_folder / "new.txt").write_text("x")
    status = wait_for(lambda: (s := service.status()) and s["failed"] == 1 and s, "the failure shows")
    (failure,) = status["failures"]
    assert failure["path"] == str(run_folder / "new.txt")
    assert f"run {run_id} is deleted" in failure["error"]
    assert "new.txt" not in [f.path for f in oracle.client.list_artifacts(run_id)]
    oracle.client.restore_run(run_id)
    done = service.call("retry", str(run_folder))
    assert done.returncode == 0, done.stderr
    wait_for(lambda: "new.txt" in stored_events(service), "the running service picks it up")
    assert len(oracle.runs("vision")) == 1


def test_settings_in_the_run_folder(service: Program, oracle: Oracle) -> None:
    folder = service.drop / "vision" / "run-2"
    folder.mkdir()
    (folder / "artifactd.toml").write_text(
        'name = "best so far"\ndescription = "ResNet, **wide**"\n[tags]\nteam = "vision"\n[params]\nlr = "0.1"\n'
    )
    (folder / "w.bin").write_bytes(b"w")
    run = wait_for(
        lambda: next((r for r in oracle.runs("vision") if r.info.run_name == "best so far" and r.data.params), None),
        "the run is named and has its params",
    )
    assert run.data.tags["mlflow.note.content"] == "ResNet, **wide**"
    assert run.data.tags["team"] == "vision"
    assert run.data.params == {"lr": "0.1"}


def test_a_run_folder_may_adopt_a_run_by_its_name_or_by_its_settings(service: Program, oracle: Oracle) -> None:
    experiment = oracle.client.get_experiment_by_name("vision").experiment_id
    first, second = (oracle.client.create_run(experiment, run_name=n).info.run_id for n in ("one", "two"))
    (service.drop / "vision" / first).mkdir()
    (service.drop / "vision" / first / "a").write_bytes(b"a")
    (service.drop / "vision" / "job-7").mkdir()
    (service.drop / "vision" / "job-7" / "artifactd.toml").write_text(f'run_id = "{second}"\n')
    (service.drop / "vision" / "job-7" / "b").write_bytes(b"b")

    def names(run_id: str) -> list[str]:
        return sorted(f.path for f in oracle.client.list_artifacts(run_id))

    wait_for(lambda: names(first) == ["a"], "the folder named by a run id is that run")
    wait_for(lambda: names(second) == ["artifactd.toml", "b"], "the settings name the run")
    assert {r.info.run_name for r in oracle.runs("vision")} == {"run-1", "one", "two"}


def test_what_is_no_regular_file_is_ignored_by_a_rule_with_a_name(service: Program, run_folder: Path) -> None:
    outside = service.base / "outside.txt"
    outside.write_text("secret")
    (run_folder / "link.txt").symlink_to(outside)
    os.mkfifo(run_folder / "pipe")
    (service.drop / "stray.txt").write_text("above the run level")
    (run_folder / "half.tmp").write_text("partial")
    (run_folder / "sentinel").touch()
    wait_for(lambda: "sentinel" in stored_events(service), "the look is over")
    assert not {"link.txt", "pipe", "stray.txt", "half.tmp"} & set(stored_events(service))
    for path, rule in (
        (run_folder / "link.txt", "symbolic link"),
        (run_folder / "pipe", "named pipe"),
        (service.drop / "stray.txt", "above the run level"),
        (run_folder / "half.tmp", "exclude **/*.tmp"),
    ):
        said = service.call("explain", str(path)).stdout
        assert "ignored" in said, said
        assert rule in said, said
    assert service.status()["ignored"] == 4


def test_sigterm_stops_within_the_deadline_and_what_is_left_is_due(program: Program, run_folder: Path) -> None:
    for n in range(300):
        (run_folder / f"f{n}").write_bytes(os.urandom(1000))
    program.start()
    wait_for(lambda: len(stored_events(program)) > 10, "a burst is under way", 60)
    begun = time.monotonic()
    assert program.stop() == 0
    assert time.monotonic() - begun < 20
    with sqlite3.connect(program.state / "ledger.db") as con:
        assert con.execute("SELECT count(*) FROM files WHERE state = 1").fetchone() == (0,)
    con.close()
    assert program.call("sync").returncode == 0
    assert program.status()["stored"] == 303


def test_a_watched_folder_that_comes_goes_and_comes_again(program: Program, oracle: Oracle) -> None:
    program.drop.rmdir()
    with program.running():
        wait_for(lambda: (s := program.status()) and s["watches"][0]["mode"] == "waiting", "it waits for its folder")
        folder = program.drop / "e" / "r"
        folder.mkdir(parents=True)
        (folder / "a").write_text("a")
        wait_for(lambda: "a" in stored_events(program), "it found the folder", 30)
        program.drop.rename(program.base / "away")
        wait_for(lambda: program.status()["watches"][0]["healthy"] is False, "it says that the folder is away", 30)
        assert program.status()["stored"] == 1, "a vanished root is a pause, never a deletion"
        (program.base / "away").rename(program.drop)
        (folder / "b").write_text("b")
        wait_for(lambda: "b" in stored_events(program), "it goes on", 30)
    assert stored_events(program).count("a") == 1
    assert len(oracle.runs("e")) == 1


def test_a_pass_over_a_folder_that_is_not_there_does_not_end_well(program: Program) -> None:
    program.drop.rmdir()
    done = program.call("sync")
    assert done.returncode == 3
    assert f"Nothing of {program.drop} was looked at: the folder is not there" in done.stdout
