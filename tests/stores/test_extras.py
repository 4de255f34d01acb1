"""Each extra brings the SDK of its store and no other, and with mlflow-skinny that is enough: clean environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import event_files
from stores.objects import ObjectStore
from stores.servers import Server, mlflow_form
from stores.sshd import sshd
from support import Oracle, Program

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
SDKS = {"s3": "boto3", "azure": "azure.storage.blob", "gcs": "google.cloud.storage", "sftp": "paramiko"}
"""What each extra brings."""
ALSO_NOT = ("azure", "google.cloud", "botocore", "pysftp", "sqlalchemy", "flask", "pandas", "numpy")
"""What nobody asked for, unless it is a part of what somebody did."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: Of all of it.
    """

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    def install(self, what: str) -> None:
        """As a user does, with the versions that this project is tested with."""
        pip = [self.python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile"]
        _run([*pip, "-c", str(PROJECT / "constraints.txt"), what])

    def copy(self, to: Path) -> Environment:
        """Another one with the same packages, at no time: files are shared, and pip never writes into one."""
        shutil.copytree(self.folder, to, symlinks=True, copy_function=os.link)
        return Environment(to)

    def has(self, module: str) -> bool:
        """Whether it can be found there."""
        code = "import importlib.util, sys\ntry: found = importlib.util.find_spec(sys.argv[1])\n"
        code += "except ModuleNotFoundError: found = None\nprint(found is not None)"
        return _run([self.python, "-c", code, module]).strip() == "True"

    def size(self) -> float:
        """MB of its packages, without pip, as they are installed: nothing compiled."""
        (packages,) = self.folder.glob("lib/python*/site-packages")
        files = (Path(here, name) for here, _, names in os.walk(packages) for name in names)
        ours = (f for f in files if not f.relative_to(packages).parts[0].startswith(("pip", "setuptools")))
        return sum(f.stat().st_size for f in ours if f.suffix != ".pyc") / 1e6


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as it is handed out."""
    to = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", str(to), str(PROJECT)])
    (built,) = to.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The bare installation."""
    made = Environment(tmp_path_factory.mktemp("base") / "venv")
    _run([sys.executable, "-m", "venv", str(made.folder)])
    made.install(str(wheel))
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Where runs are made, wherever their artifacts go."""
    env = {"MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "sftp"}
    with mlflow_form(tmp_path_factory.mktemp("extras-server"), env=env) as running:
        yield running


@pytest.fixture(scope="module")
def say(request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Says something below the tests' own output."""
    lines: list[str] = []
    yield lines.append
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if reporter is not None and capture is not None:  # pytest-xdist's workers have no terminal
        with capture.global_and_fixture_disabled():
            for line in ["", *lines]:
                reporter.write_line(line)


@pytest.fixture(params=["base", *SDKS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str | None, dict[str, str]]]:
    """An extra, where its store is and what one must know to get there."""
    if request.param == "base":
        yield "base", None, {}
    elif request.param == "sftp":
        with sshd(tmp_path / "ssh") as store:
            yield "sftp", store.uri, {"HOME": str(store.home)}
    else:
        fixture = {"s3": "seaweed", "azure": "azurite", "gcs": "fakegcs"}[request.param]
        store_: ObjectStore = request.getfixturevalue(fixture)
        yield request.param, store_.artifact_location, dict(store_.environ)


def test_an_extra_brings_its_store_and_no_other(
    place: tuple[str, str | None, dict[str, str]], base: Environment, wheel: Path, server: Server, tmp_path: Path,
    say: Callable[[str], None], record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    extra, location, environ = place
    there = base.copy(tmp_path / "venv")
    if extra != "base":
        there.install(f"{wheel}[{extra}]")
    wanted = SDKS.get(extra)
    for module in (*SDKS.values(), *ALSO_NOT):
        belongs = wanted is not None and (
            f"{wanted}.".startswith(f"{module}.") or (extra, module) == ("s3", "botocore")
        )
        assert there.has(module) is belongs, f"{extra}: {module}"

    more = "" if location is None else f'artifact_location = "{location}"\n'
    program = Program(tmp_path, tracking_uri=server.uri, more=more)
    program.python = there.python
    run = program.drop / f"extra {extra}" / "run"
    run.mkdir(parents=True)
    (run / "weights.bin").write_bytes(content := os.urandom(3 * MIB))
    environ = {**environ, "PYTHONPATH": ""}
    sent = program.call("sync", str(run), "--config", str(program.config), timeout=60, **environ)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    pulled = program.call("pull", str(run), str(tmp_path / "back"), timeout=60, **environ)
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    assert (tmp_path / "back" / "weights.bin").read_bytes() == content

    record_property("megabytes", round(there.size()))
    say(f"artifactd{f'[{extra}]' if wanted else ''}: {there.size():.0f} MB of packages")


def test_the_extra_that_reads_event_files(
    base: Environment, wheel: Path, server: Server, tmp_path: Path, say: Callable[[str], None]
) -> None:
    """Without it the sentence names it; with it, and neither numpy nor tensorboard, the points are told."""
    there = base.copy(tmp_path / "venv")
    bare = there.size()
    program = Program(
        tmp_path, tracking_uri=server.uri, watch='[[watch.route]]\nmatch = "*tfevents*"\nkind = "metrics"\n'
    )
    program.python = there.python
    run = program.drop / "extra tensorboard" / "run"
    run.mkdir(parents=True)
    (run / event_files.NAME).write_bytes(event_files.head() + event_files.scalars("loss", (1.0, 0.5)))
    (run / ".done").touch()
    without = program.call("sync", timeout=60, PYTHONPATH="")
    assert without.returncode == 3, without.stdout + without.stderr
    assert f"{there.python} -m pip install" in without.stdout + without.stderr

    there.install(f"{wheel}[tensorboard]")
    assert there.has("google_crc32c")
    assert not [module for module in ("numpy", "tensorboard", "google.cloud", "grpc") if there.has(module)]
    assert there.size() - bare < 5
    assert program.call("retry", "--all", PYTHONPATH="").returncode == 0
    told = program.call("sync", timeout=60, PYTHONPATH="")
    assert told.returncode == 0, told.stdout + told.stderr
    oracle = Oracle(server.uri)
    history = oracle.client.get_metric_history(oracle.run("extra tensorboard", "run").info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5)]
    say(f"artifactd[tensorboard]: {there.size():.1f} MB of packages, {there.size() - bare:.1f} more")


def _run(command: list[str]) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
