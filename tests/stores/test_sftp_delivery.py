"""The whole way: the real command, a real MLflow server that names an SFTP store, a real sshd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.names import decode_path
from artifactd.tracking import sftp
from conftest import MlflowServer, end_server, start_server
from service.test_with_server import NAMES
from stores.line import slow_line
from stores.sshd import Sshd, know, sshd
from support import Oracle, Program, free_port, tree, wait_for

pytestmark = [pytest.mark.stores, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server that takes ``sftp://`` locations; artifacts go past it."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    process = start_server(folder, port, MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES="sftp")
    try:
        yield MlflowServer(f"http://127.0.0.1:{port}", folder / "artifacts", folder / "mlflow.db")
    finally:
        end_server(process)


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "store/home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "store") as running:
        yield running


def program(base: Path, mlflow: MlflowServer, location: str) -> Program:
    return Program(base, tracking_uri=mlflow.uri, more=f'artifact_location = "{location}/{base.name}"\n')


def stored(program: Program, mlflow: MlflowServer, server: Sshd) -> dict[bytes, bytes]:
    """What lies on the server's disk, put together as the drop folder is."""
    oracle = Oracle(mlflow.uri)
    found: dict[bytes, bytes] = {}
    for experiment in os.listdir(program.drop):
        for run in os.listdir(program.drop / experiment):
            uri = oracle.run(experiment, run).info.artifact_uri
            assert uri.startswith("sftp://")
            folder = Path(uri[uri.index(str(server.data)) :])
            for path, content in tree(folder).items():
                found[os.path.join(experiment.encode(), run.encode(), decode_path(os.fsdecode(path)))] = content
    return found


def write(program: Program, rel: bytes, content: bytes) -> Path:
    path = os.path.join(os.fsencode(program.drop), rel)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)
    return Path(os.fsdecode(path))


def test_a_tree_is_delivered_verified_listed_and_pulled_back(
    mlflow: MlflowServer, server: Sshd, tmp_path: Path
) -> None:
    artifactd = program(tmp_path, mlflow, server.uri)
    experiment = os.fsencode(tmp_path.name)
    for n, name in enumerate(NAMES):
        write(artifactd, experiment + b"/run %d/d%d/" % (n % 2, n % 3) + name, b"%d" % n * n)
    write(artifactd, experiment + b"/run 0/big.bin", os.urandom(20 * 2**20))
    done = artifactd.call("sync", timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    disk = tree(artifactd.drop)
    assert stored(artifactd, mlflow, server) == disk
    sent = artifactd.status()["bytes_sent"]
    assert sent == sum(map(len, disk.values()))
    assert artifactd.call("sync").returncode == 0
    assert artifactd.status()["bytes_sent"] == sent

    run = str(artifactd.drop / tmp_path.name / "run 0")
    verified = artifactd.call("verify", run, "--deep")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "big.bin" in artifactd.call("ls", run).stdout
    pulled = artifactd.call("pull", run, str(tmp_path / "back"))
    assert pulled.returncode == 0, pulled.stderr
    below = experiment + b"/run 0/"
    assert tree(tmp_path / "back") == {k.removeprefix(below): v for k, v in disk.items() if k.startswith(below)}

    checked = artifactd.call("check")
    assert checked.returncode == 0, checked.stdout
    assert "one object written, listed, read back and removed" in checked.stdout
    left = {name for _, _, names in os.walk(server.data) for name in names}
    assert not any(name.startswith((".artifactd-", "artifactd-check")) for name in left)


def test_an_unknown_server_pauses_the_run_until_it_is_known_without_a_restart(
    mlflow: MlflowServer, server: Sshd, tmp_path: Path
) -> None:
    (server.home / ".ssh/known_hosts").unlink()
    location = server.uri.replace("sftp://", "sftp://root:hunter2secret@")
    artifactd = program(tmp_path, mlflow, location)
    write(artifactd, os.fsencode(tmp_path.name) + b"/r/f", b"x")
    checked = artifactd.call("check")
    assert checked.returncode == 1
    assert "is not known" in " ".join(checked.stdout.split())
    with artifactd.running():
        wait_for(lambda: "is not known" in artifactd.text(), f"it is said; log:\n{artifactd.text()}", 60)
        explained = artifactd.call("explain", str(artifactd.drop / tmp_path.name / "r/f")).stdout
        assert "ssh-keyscan" in explained
        know(server.home, server.port, server.folder / "host_key")
        status = artifactd.wait_idle(90)
    assert stored(artifactd, mlflow, server) == tree(artifactd.drop)
    said = artifactd.text() + explained + checked.stdout + checked.stderr + str(status)
    assert "hunter2secret" not in said
    assert b"hunter2secret" not in b"".join(p.read_bytes() for p in artifactd.state.rglob("*") if p.is_file())


def test_a_store_that_goes_and_comes_back_costs_time_alone(mlflow: MlflowServer, tmp_path: Path) -> None:
    port = free_port()
    first, second = os.urandom(30 * 2**20), os.urandom(30 * 2**20)
    with sshd(tmp_path / "store", port=port) as server:
        artifactd = program(tmp_path, mlflow, server.uri)
        path = write(artifactd, os.fsencode(tmp_path.name) + b"/r/f", first)
        assert artifactd.call("sync").returncode == 0
        server.signal(signal.SIGKILL, listener=True)
        server.process.wait()
    with artifactd.running():
        path.write_bytes(second)
        wait_for(lambda: "refuses the connection" in artifactd.text(), "it is said that the store is away", 60)
        with sshd(tmp_path / "store", port=port) as server:
            wait_for(lambda: stored(artifactd, mlflow, server) == tree(artifactd.drop), "it is delivered", 90)
            wait_for(lambda: artifactd.status()["pending"] == 0, "it is known as stored", 60)


def test_a_service_killed_in_the_middle_leaves_the_old_content_and_then_the_new_one(
    mlflow: MlflowServer, server: Sshd, tmp_path: Path
) -> None:
    with slow_line(server.port, 400 * 1024) as port:
        know(server.home, port, server.folder / "host_key")
        artifactd = program(tmp_path, mlflow, f"sftp://127.0.0.1:{port}{server.data}")
        path = write(artifactd, os.fsencode(tmp_path.name) + b"/r/f", b"old")
        assert artifactd.call("sync").returncode == 0
        old = tree(artifactd.drop)
        path.write_bytes(os.urandom(4 * 2**20))
        part = sftp.temporary(b"f").decode()
        with artifactd.running() as service:
            wait_for(lambda: any(p.stat().st_size for p in server.data.rglob(part)), "it is being sent", 60)
            service.kill()
            service.wait()
            left = stored(artifactd, mlflow, server)
            assert {k: v for k, v in left.items() if not k.endswith(b".part")} == old
        with artifactd.running():
            artifactd.wait_idle(120)
        assert stored(artifactd, mlflow, server) == tree(artifactd.drop)


def test_a_server_that_takes_no_sftp_location_is_said_with_its_setting(
    mlflow_server: MlflowServer, server: Sshd, tmp_path: Path
) -> None:
    artifactd = program(tmp_path, mlflow_server, server.uri)
    write(artifactd, os.fsencode(tmp_path.name) + b"/r/f", b"x")
    done = artifactd.call("sync", "--deadline", "15s")
    assert done.returncode == 3
    assert "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES=sftp" in done.stdout + done.stderr
    assert artifactd.status()["failed"] == 0, "its files wait"
