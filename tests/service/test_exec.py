"""``artifactd exec`` with real commands, before real stores, with and without a service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import MlflowServer
from support import Oracle, Program, environment, free_port, wait_for

pytestmark = pytest.mark.live

WRITES = "import os; d = os.environ['ARTIFACTD_RUN_DIR']; open(d + '/out.txt', 'w').write(os.environ['MLFLOW_RUN_ID'])"


def exec_(program: Program, *args: str, python: str) -> subprocess.CompletedProcess[str]:
    return program.call("exec", "--config", str(program.config), *args, "--", sys.executable, "-c", python)


def begin(program: Program, *args: str, python: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "artifactd", "exec", "--config", str(program.config), *args, "--"]
    return subprocess.Popen(
        [*command, sys.executable, "-c", python], env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_without_a_service_the_embedded_store_has_the_run_that_the_command_was_told(tmp_path: Path) -> None:
    program = Program(tmp_path)
    done = exec_(program, "--experiment", "vision", "--run", "r1", python=WRITES + "; print('said')")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "said\n", "stdout is the command's alone"
    folder = program.drop / "vision" / "r1"
    assert (folder / ".done").read_text() == ""
    oracle = Oracle(f"sqlite:///{program.state}/mlflow.db")
    run = oracle.run("vision", "r1")
    assert (run.info.run_id, run.info.status) == ((folder / "out.txt").read_text(), "FINISHED")
    assert set(oracle.files(run.info.run_id, tmp_path / "back")) == {b"out.txt", b".done"}
    again = exec_(program, "--dir", str(folder), python=WRITES)
    assert (again.returncode, "has ended: it holds .done" in again.stderr) == (2, True)


def test_beside_a_service_there_is_one_run_and_a_failing_command_fails_it(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    with program.running():
        wait_for(lambda: [e for e in program.events() if e["event"] == "watching"], "the service watches")
        job = WRITES + "\nimport mlflow\nwith mlflow.start_run():\n    raise ValueError('no')\n"
        done = exec_(program, "--experiment", "beside", "--run", "r", "--deadline", "30s", python=job)
        assert done.returncode == 1, done.stderr
        oracle = Oracle(mlflow_server.uri)
        run = wait_for(
            lambda: next((r for r in oracle.runs("beside") if r.info.status == "FAILED"), None), program.text()
        )
        seen = program.drop / "beside" / "seen"
        seen.mkdir()
        (seen / "before.txt").touch()
        again = exec_(program, "--dir", str(seen), "--deadline", "30s", python=WRITES)
        assert again.returncode == 0, again.stderr
        assert oracle.run("beside", "seen").info.run_id == (seen / "out.txt").read_text()
    folder = program.drop / "beside" / "r"
    assert (folder / ".failed").read_text() == "1\n"
    assert run.info.run_id == (folder / "out.txt").read_text() == oracle.run("beside", "r").info.run_id
    assert "2 files stored" in done.stderr
    assert f"{mlflow_server.uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}" in done.stderr


def test_a_job_that_logs_into_its_run_by_mlflow_has_one_run_with_files_and_metrics(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    job = WRITES + "\nimport mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('loss', 0.5)\n"
    folder = program.drop / "logs" / "ok"
    folder.mkdir(parents=True)
    (folder / "before.txt").touch()
    done = exec_(program, "--dir", str(folder), python=job)
    assert done.returncode == 0, done.stderr
    oracle = Oracle(mlflow_server.uri)
    run = oracle.run("logs", "ok")
    assert (run.data.metrics, run.info.status) == ({"loss": 0.5}, "FINISHED")
    assert run.info.run_id == (program.drop / "logs/ok/out.txt").read_text()


def test_a_server_that_is_away_does_not_keep_the_command_from_running(tmp_path: Path) -> None:
    program = Program(tmp_path, tracking_uri=f"http://127.0.0.1:{free_port()}")
    job = "import os; open(os.environ['ARTIFACTD_RUN_DIR'] + '/a', 'w').write(str('MLFLOW_RUN_ID' in os.environ))"
    done = exec_(program, "--run", "r", "--deadline", "6s", python=job)
    folder = program.drop / "Default" / "r"
    assert (folder / "a").read_text() == "False"
    assert done.returncode == 75, done.stderr
    assert "without MLFLOW_RUN_ID" in done.stderr
    assert "cannot be reached" in done.stderr
    assert str(folder / "a") in done.stderr


def test_signals_reach_the_command_whose_words_are_kept_as_they_come(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    slow = (
        "import signal, sys, time\n"
        "asked = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
        "print('begun', flush=True); print('worse', file=sys.stderr)\n"
        "end = time.monotonic() + 30\n"
        "while len(asked) < 2 and time.monotonic() < end: time.sleep(0.02)\n"
        "print('asked', len(asked), flush=True)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    job = begin(program, "--experiment", "signals", "--run", "r", "--capture", python=slow)
    folder = program.drop / "signals" / "r"
    log = folder / "stdout.log"
    try:
        wait_for(lambda: log.exists() and log.read_text() == "begun\n", "the first words, while it runs", 40)
        job.send_signal(signal.SIGTERM)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert job.poll() is None, "a command that ignores it for a while is waited for"
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=60)
    finally:
        job.kill()
        job.communicate()
    assert job.returncode == 128 + signal.SIGTERM
    assert out == "begun\nasked 2\n" == log.read_text()
    assert (folder / "stderr.log").read_text() == "worse\n"
    assert "worse\n" in err
    assert (folder / ".failed").read_text() == "143\n"
    assert Oracle(mlflow_server.uri).run("signals", "r").info.status == "FAILED"


def test_two_that_begin_together_with_one_folder_make_one_run(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    job = WRITES + "; import time\nwhile not os.path.exists(os.path.join(d, '..', 'go')): time.sleep(0.05)"
    both = [begin(program, "--experiment", "both", "--run", "r", python=job) for _ in range(2)]
    try:
        refused = wait_for(lambda: next((p for p in both if p.poll() is not None), None), "one is refused", 60)
        (program.drop / "both" / "go").touch()
        said = refused.communicate()[1]
        assert (refused.returncode, "is in use: " in said) == (1, True), said
        both.remove(refused)
        said = both[0].communicate(timeout=60)[1]
        assert both[0].returncode == 0, said
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert len(Oracle(mlflow_server.uri).runs("both")) == 1


def test_a_command_that_removes_its_folder_keeps_its_code(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    program = Program(tmp_path, tracking_uri=mlflow_server.uri)
    job = "import os; os.rmdir(os.environ['ARTIFACTD_RUN_DIR']); raise SystemExit(9)"
    done = exec_(program, "--experiment", "gone", "--run", "r", python=job)
    assert (done.returncode, "cannot be marked" in done.stderr) == (9, True), done.stderr


def test_what_cannot_start_makes_nothing(tmp_path: Path) -> None:
    program = Program(tmp_path)
    done = program.call("exec", "--config", str(program.config), "--", "no-such-program-here")
    assert (done.returncode, os.listdir(program.drop)) == (127, [])
