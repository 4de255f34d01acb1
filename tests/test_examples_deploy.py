"""The examples for Kubernetes and Slurm, and the container file: what can be told of them without a cluster."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifactd import __version__
from artifactd.config import load_config

PROJECT = Path(__file__).parent.parent
KUBERNETES = PROJECT / "examples" / "kubernetes"
SLURM = PROJECT / "examples" / "slurm"


def documents(name: str) -> dict[str, Any]:
    """By kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((KUBERNETES / name).read_text())}


def sidecar_of(job: dict[str, Any]) -> dict[str, Any]:
    spec = job["spec"]["template"]["spec"]
    (container,) = spec.get("initContainers") or spec["containers"]
    assert isinstance(container, dict)
    return container


def test_the_configuration_of_the_sidecar_is_one(tmp_path: Path) -> None:
    text = documents("job.yaml")["ConfigMap"]["data"]["config.toml"]
    assert 'path = "/drop"' in text
    file = tmp_path / "config.toml"
    file.write_text(f'state_dir = "{tmp_path}/state"\n' + text.replace('"/drop"', f'"{tmp_path}/drop"'))
    assert load_config(file).watch[0].run_scope == "fleet"


def job_of_the_page() -> dict[str, Any]:
    page = (PROJECT / "docs" / "how-to" / "kubernetes.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"(?ms)^```yaml\n(.*?)^```$", page)
    job: dict[str, Any] = yaml.safe_load(block)
    return job


@pytest.mark.parametrize("job", [documents("job.yaml")["Job"], job_of_the_page()], ids=["example", "page"])
def test_the_sidecar_has_the_time_that_its_hook_may_take_and_reads_only(job: dict[str, Any]) -> None:
    sidecar = sidecar_of(job)
    assert sidecar["restartPolicy"] == "Always"
    hook = sidecar["lifecycle"]["preStop"]["exec"]["command"]
    (deadline,) = re.findall(r"(?:deadline|timeout)=(\d+)", hook[-1])
    # What comes after the hook, SIGTERM, has 20 s for uploads in hand.
    assert int(deadline) + 30 <= job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    compile(hook[-1], "hook", "exec")
    assert next(mount for mount in sidecar["volumeMounts"] if mount["mountPath"] == "/drop")["readOnly"] is True


def test_the_version_has_no_second_place_here() -> None:
    for file in KUBERNETES.iterdir():
        assert __version__ not in file.read_text(), file


def test_the_last_pass_sees_what_the_sidecar_saw() -> None:
    sidecar, sync = sidecar_of(documents("job.yaml")["Job"]), sidecar_of(documents("sync.yaml")["Job"])
    for same in ("image", "env", "envFrom", "securityContext", "volumeMounts"):
        assert sync[same] == sidecar[same]
    assert sync["args"][0] == "sync"


def test_the_container_ends_by_signals_and_is_not_root() -> None:
    text = (PROJECT / "Containerfile").read_text()
    (entry,) = re.findall(r"(?m)^ENTRYPOINT (.*)$", text)
    assert entry == '["/usr/bin/tini", "--", "artifactd"]'
    assert re.findall(r"(?m)^USER (.*)$", text) == ["10001:10001"]
    for name in re.findall(r"(?m)^COPY (?!--)(.*) \S+$", text):
        for part in name.split():
            assert (PROJECT / part).exists()
            assert f"!{part}\n" in (PROJECT / ".containerignore").read_text()


# -- Slurm -----------------------------------------------------------------------------------------------------------


def slurm(script: str, drop: Path, path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A script as slurmd starts it: with its variables, and no others."""
    user = getpass.getuser()
    env = {"ARTIFACTD_DROP_ROOT": str(drop), "SLURM_JOB_USER": user, "SLURM_JOB_ID": "42", **more}
    # runuser takes root; as anybody else, the user is the one already.
    text = (SLURM / script).read_text().replace("PATH=/usr/sbin", f"PATH={path}:/usr/sbin")
    return subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    if os.geteuid() != 0:
        stand_in = folder / "runuser"
        stand_in.write_text('#!/bin/sh\nshift 3\nexec "$@"\n')
        stand_in.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("status", "marker", "says"),
    [
        ("0", ".done", ""),
        ("256", ".failed", "job 42: exit code 1, signal 0\n"),
        ("9", ".failed", "job 42: exit code 0, signal 9\n"),
    ],
)
def test_a_job_has_a_folder_and_its_exit_code_a_marker(
    status: str, marker: str, says: str, tmp_path: Path, path: Path
) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    assert slurm("prolog.sh", drop, path).stderr == ""
    folder = drop / getpass.getuser() / "job-42"
    assert slurm("task_prolog.sh", drop, path).stdout == f"export ARTIFACTD_DROP={folder}\n"
    assert list(folder.iterdir()) == []
    done = slurm("epilog.sh", drop, path, SLURM_JOB_EXIT_CODE=status)
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.name for file in folder.iterdir()] == [marker]
    assert (folder / marker).read_text() == says


def test_what_goes_wrong_drains_no_node(tmp_path: Path, path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    done = slurm("prolog.sh", nowhere, path)
    assert done.returncode == 0
    assert "no run folder for job 42" in done.stderr
    assert slurm("epilog.sh", nowhere, path, SLURM_JOB_EXIT_CODE="0").returncode == 0


def test_a_slurm_that_says_no_exit_code_leaves_the_run_open(tmp_path: Path, path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    slurm("prolog.sh", drop, path)
    assert slurm("epilog.sh", drop, path).returncode == 0
    assert list((drop / getpass.getuser() / "job-42").iterdir()) == []
