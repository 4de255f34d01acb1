"""What each kind of installation is told to run, and that no index is asked for this project's own name."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from artifactd import installation
from artifactd.installation import EXTRAS, Installation, Kind, Need, kind_of

PROJECT = Path(__file__).parent.parent
PYTHON = "/opt/artifactd/bin/python"
NEEDS = {
    "local": (Need("mlflow<4,>=3.17", False),),
    "s3": (Need("boto3>=1.38", False),),
    "otel": (Need("opentelemetry-sdk==1.40.0", True), Need("opentelemetry-exporter<2", False)),
    "tensorboard": (Need("google-crc32c==1.8.0", True), Need("protobuf==6.33.0", True)),
}


def of(kind: Kind, *, has_pip: bool = True) -> Installation:
    return Installation(kind, PYTHON, has_pip, "artifactd-2", NEEDS)


def test_an_environment_of_pip_gets_the_distributions_of_an_extra() -> None:
    line = of(Kind.PIP).with_extra("s3")
    assert str(line) == f"{PYTHON} -m pip install 'boto3>=1.38'  # then restart the service"
    assert shlex.split(line.command)[-1] == "boto3>=1.38"


def test_what_is_there_already_stays_as_it_is() -> None:
    command = of(Kind.PIP).with_extra("otel").command
    assert command == f"{PYTHON} -m pip install opentelemetry-sdk==1.40.0 'opentelemetry-exporter<2'"


def test_without_pip_it_comes_first() -> None:
    command = of(Kind.PIP, has_pip=False).with_extra("s3").command
    assert command == f"{PYTHON} -m ensurepip && {PYTHON} -m pip install 'boto3>=1.38'"


def test_the_package_has_another_one_for_the_embedded_store() -> None:
    line = of(Kind.PACKAGE).with_extra("local", "or set a server")
    assert str(line) == (
        "apt-get install ./dist/artifactd_*.deb ./dist/artifactd-local_*.deb  # in the clone where `make deb` made "
        "them; or set a server"
    )
    assert of(Kind.PACKAGE).with_extra("otel") == of(Kind.PIP).with_extra("otel"), "what it lacks goes beside it"


def test_a_container_is_made_anew() -> None:
    line = of(Kind.IMAGE, has_pip=False).with_extra("local")
    assert line.command == "docker build -f Containerfile --build-arg EXTRAS=local,tensorboard -t artifactd ."
    assert line.words == "in the clone; then restart the service from the new image"
    assert "with pyarrow added" in of(Kind.IMAGE, has_pip=False).distributions("pyarrow").words


def test_pipx_and_uv_put_it_into_what_they_keep() -> None:
    assert of(Kind.PIPX).with_extra("s3").command == "pipx inject artifactd-2 'boto3>=1.38'"
    assert of(Kind.UV).with_extra("s3").command == f"uv pip install --python {PYTHON} 'boto3>=1.38'"


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (Kind.PACKAGE, "make deb && apt-get install ./dist/artifactd_*.deb"),
        (Kind.IMAGE, "docker build -f Containerfile --build-arg EXTRAS=tensorboard -t artifactd ."),
        (Kind.PIPX, "pipx install --force '.[tensorboard]'"),
        (Kind.UV, "uv tool install --force '.[tensorboard]'"),
        (Kind.PIP, f"{PYTHON} -m pip install -U '.[tensorboard]' mlflow-skinny"),
    ],
)
def test_a_newer_one_comes_from_the_clone_with_the_extras_that_are_there(kind: Kind, command: str) -> None:
    line = of(kind).newer("or wait")
    assert str(line) == f"git pull && {command}  # in the clone; or wait"


def test_a_newer_package_takes_its_other_half_along() -> None:
    whole = Installation(Kind.PACKAGE, PYTHON, needs={"local": (Need("mlflow==3.17.2", True),)})
    assert whole.newer().command.endswith("apt-get install ./dist/artifactd_*.deb ./dist/artifactd-local_*.deb")


def test_where_the_metadata_say_nothing_the_clone_does() -> None:
    bare = Installation(Kind.PIP, PYTHON)
    assert str(bare.with_extra("s3")) == f"{PYTHON} -m pip install '.[s3]'  # in the clone; then restart the service"
    assert " -U . mlflow-skinny" in bare.newer().command


@pytest.mark.parametrize("kind", list(Kind))
def test_no_line_asks_an_index_for_this_project(kind: Kind) -> None:
    for has_pip in (True, False):
        ours = of(kind, has_pip=has_pip)
        for line in (*map(ours.with_extra, EXTRAS), ours.newer(), ours.distributions("pyarrow>=4")):
            subprocess.run(["bash", "-n", "-c", str(line)], check=True)
            for part in line.command.split(" && "):
                words = shlex.split(part)
                if "install" in words and words[0] != "apt-get":
                    named = words[words.index("install") + 1 :]
                    assert not [word for word in named if word.startswith("artifactd")], line


# -- what is here ----------------------------------------------------------------------------------------------------


def test_what_keeps_an_environment(tmp_path: Path) -> None:
    dpkg = tmp_path / "dpkg"
    dpkg.mkdir()
    for kind, mark in ((Kind.PIPX, "pipx_metadata.json"), (Kind.UV, "uv-receipt.toml")):
        prefix = tmp_path / mark
        prefix.mkdir()
        assert kind_of(str(prefix), has_pip=True, dpkg=str(dpkg)) is Kind.PIP
        (prefix / mark).touch()
        assert kind_of(str(prefix), has_pip=True, dpkg=str(dpkg)) is kind
    place = "/opt/artifactd"
    assert kind_of(place, has_pip=True, dpkg=str(dpkg)) is Kind.PIP, "as README.md has it, by hand"
    assert kind_of(place, has_pip=False, dpkg=str(dpkg)) is Kind.IMAGE
    (dpkg / "artifactd.list").write_text("/etc/artifactd/config.toml\n")
    assert kind_of(place, has_pip=True, dpkg=str(dpkg)) is Kind.PIP, "removed, and its configuration stayed"
    (dpkg / "artifactd.list").write_text("/.\n/opt/artifactd/bin/artifactd\n/etc/artifactd/config.toml\n")
    assert kind_of(place, has_pip=True, dpkg=str(dpkg)) is Kind.PACKAGE
    assert kind_of("/home/me/venv", has_pip=True, dpkg=str(dpkg)) is Kind.PIP, "another one beside the package"


def test_this_one_knows_its_requirements() -> None:
    ours = installation.here()
    assert ours.python == sys.executable
    assert ours.needs["s3"] == (Need(f"boto3=={version('boto3')}", True),)
    assert [need.wanted.partition("=")[0] for need in ours.needs["azure"]] == ["azure-identity", "azure-storage-blob"]


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == project.keys() - {"all", "dev", "docs", "fuzz"}
    (whole,) = project["all"]
    assert set(whole.removeprefix("artifactd[").removesuffix("]").split(",")) == set(EXTRAS)
