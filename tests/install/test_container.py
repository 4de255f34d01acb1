"""The Containerfile: built by buildah, which needs no engine, and used as docs/install.md has it.

Its base is made here by mmdebstrap under the name that the file asks for, so no registry is needed. The containers run
in a chroot: tini, the user, the folders and the commands are those of the image, and process 1 is somebody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import MlflowServer
from support import Oracle, idle, wait_for

pytestmark = [pytest.mark.container, pytest.mark.timeout(1500)]

SOURCES = Path(__file__).parents[2]
FILE = SOURCES / "Containerfile"
PAGE = (SOURCES / "docs" / "install.md").read_text(encoding="utf-8")

_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Buildah:
    """buildah with a store of its own."""

    def __init__(self, base: Path) -> None:
        own = (f"--root={base}/storage", f"--runroot={base}/run", "--storage-driver=vfs")
        self.command = ("buildah", *own)

    def __call__(self, verb: str, *args: str) -> str:
        done = subprocess.run(
            [*self.command, verb, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"buildah {verb} {' '.join(args)}: {done.returncode}\n{done.stdout[-5000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """One that has the image `artifactd`."""
    if os.geteuid() != 0:
        pytest.fail("only root can build an image without an engine: run it as root")
    for program in ("buildah", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.fail(f"as root: apt-get install {program}")
    base = tmp_path_factory.mktemp("container")
    build = Buildah(base)
    _make_base(build, base)
    build(
        "build",
        "--pull-never",
        "--isolation=chroot",
        "--network=host",
        "-f",
        str(FILE),
        "-t",
        "artifactd",
        str(SOURCES),
    )
    yield build
    build("rm", "--all")
    shutil.rmtree(base)


def _make_base(build: Buildah, base: Path) -> None:
    (name,) = set(re.findall(r"(?m)^FROM (\S+)", FILE.read_text()))
    subprocess.run(["mmdebstrap", "-q", "--variant=minbase", "bookworm", base / "base.tar"], check=True)
    container = build("from", "scratch").strip()
    build("add", "-q", container, str(base / "base.tar"), "/")
    if _CERTIFICATES.exists():  # whom this machine trusts, pip trusts while it builds
        (base / "pip.conf").write_text("[global]\ncert = /etc/pip-certificates.crt\n")
        build("add", "-q", container, str(_CERTIFICATES), "/etc/pip-certificates.crt")
        build("add", "-q", container, str(base / "pip.conf"), "/etc/pip.conf")
    build("commit", "-q", "--rm", container, f"docker.io/library/{name}")
    (base / "base.tar").unlink()


class Container:
    """One of the image, with a drop folder that it may only read, and a state folder.

    Args:
        base: For the two folders.
    """

    def __init__(self, build: Buildah, base: Path, tracking_uri: str) -> None:
        name = build("from", "--pull-never", "localhost/artifactd").strip()
        config = json.loads(build("inspect", "--type=image", "localhost/artifactd"))["OCIv1"]["config"]
        self.entrypoint, self.cmd, self.user = config["Entrypoint"], config["Cmd"], config["User"]
        (volume,) = config["Volumes"]
        build("config", f"--volume={volume}-", name)  # this buildah would, now and then, mount an empty one over ours
        self.drop, self.state = base / "drop", base / "state"
        self.drop.mkdir()
        self.state.mkdir()
        number, _, group = self.user.partition(":")
        os.chown(self.state, int(number), int(group))  # an engine does that for a new volume
        self._run = (
            *build.command, "run", "--isolation=chroot", "--network=host", f"--volume={self.drop}:/drop:ro",
            f"--volume={self.state}:{volume}", f"--env=MLFLOW_TRACKING_URI={tracking_uri}", name, "--",
        )  # fmt: skip

    def execute(self, *command: str) -> str:
        """What a command in it prints."""
        done = subprocess.run(
            [*self._run, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Its service, as an engine would start it."""
        with subprocess.Popen([*self._run, *self.entrypoint, *self.cmd], stdin=subprocess.DEVNULL) as process:
            try:
                yield process
            finally:
                for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()

    def wait_stored(self, files: int) -> None:
        def stored() -> bool:
            if not (self.state / "ledger.db").exists():
                return False
            status = json.loads(self.execute("artifactd", "status", "--json"))
            return idle(status) is not None and status["stored"] == files

        wait_for(stored, f"{files} stored", 120)


def tini_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    (found,) = (p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "tini")
    return found


def test_it_is_built_and_delivers_as_a_sidecar(buildah: Buildah, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    container = Container(buildah, tmp_path, mlflow_server.uri)
    run = container.drop / "sidecar" / "r"
    run.mkdir(parents=True)
    (run / "a.txt").write_bytes(b"a")
    with container.running() as process:
        container.wait_stored(1)
        tini = tini_of(process)
        assert f"{tini.uids().real}:{tini.gids().real}" == container.user == "10001:10001"
        # While it runs, at the end of a job: by what the page says.
        (script,) = re.findall(r"docker exec artifactd python -c '(.*)'", PAGE)
        (run / "b.txt").write_bytes(b"b")
        container.execute("python", "-c", script)
        container.wait_stored(2)
        tini.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, "tini handed the signal on, and the service ended by itself"
    (run / "c.txt").write_bytes(b"c")
    (arguments,) = re.findall(r"-v artifactd:/var/lib/artifactd artifactd (sync .*)", PAGE)
    assert container.execute(*container.entrypoint, *arguments.split()).startswith(
        "1 file stored (1 B), 0 failed, 0 left"
    )
    oracle = Oracle(mlflow_server.uri)
    stored = oracle.files(oracle.run("sidecar", "r").info.run_id, tmp_path / "back")
    assert stored == {b"a.txt": b"a", b"b.txt": b"b", b"c.txt": b"c"}
    assert container.execute("sh", "-c", "command -v pip gcc || true") == "", "nothing to build with is left in it"
