"""How this very installation gets what it lacks: a line for a shell, with its words behind a ``#``.

artifactd is installed from a clone. No line here has an index asked for its name: whoever has that there is somebody
else, and would be run by administrators.
"""

from __future__ import annotations

import enum
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

EXTRAS = ("local", "s3", "azure", "gcs", "sftp", "tensorboard", "otel")
"""Those of pyproject.toml that a user wants; ``all`` is all of them."""

_NAME = "artifactd"
_CLIENT = "mlflow-skinny"
_FOLDER = "/opt/artifactd"
"""Where the Debian package and the container have it."""
_IN_CLONE = "in the clone"
_RESTART = "then restart the service"


class Kind(enum.Enum):
    """What keeps an environment."""

    PACKAGE = "Debian's package"
    IMAGE = "a container's image"
    PIPX = "pipx"
    UV = "uv tool"
    PIP = "pip"


class Line(NamedTuple):
    """What a shell takes, and what is to be known of it; as text, one line that can be pasted whole."""

    command: str
    words: str

    def __str__(self) -> str:
        return f"{self.command}  # {self.words}"


@dataclass(frozen=True, slots=True)
class Need:
    """A distribution that is required: as pip is to be told of it, and whether it is there as it should be."""

    wanted: str
    is_there: bool


@dataclass(frozen=True, slots=True)
class Installation:
    """An environment with artifactd in it.

    Attributes:
        kind: What keeps it.
        python: Its interpreter.
        has_pip: Whether pip is in it.
        name: What pipx calls it.
        needs: By extra, what that requires; empty where artifactd is not installed, but run from a folder.
    """

    kind: Kind
    python: str
    has_pip: bool = True
    name: str = _NAME
    needs: Mapping[str, tuple[Need, ...]] = field(default_factory=dict)

    def with_extra(self, name: str, also: str = _RESTART) -> Line:
        """The line that brings an extra.

        Args:
            name: One of `EXTRAS`.
            also: What is to be done after it, or in its place.
        """
        if self.kind is Kind.PACKAGE and name == "local":
            return Line(f"apt-get install {_packages(local=True)}", f"{_IN_CLONE} where `make deb` made them; {also}")
        if self.kind is Kind.IMAGE:
            return Line(self._image(name), f"{_IN_CLONE}; {also} from the new image")
        needs = self.needs.get(name, ())
        if not needs:
            return Line(self._pip(f".[{name}]"), f"{_IN_CLONE}; {also}")
        return self.distributions(*(need.wanted for need in needs), also=also)

    def distributions(self, *wanted: str, also: str = _RESTART) -> Line:
        """The line that brings distributions of other projects.

        Args:
            wanted: Each as pip is told of it, as ``boto3>=1.38``.
            also: What is to be done after it, or in its place.
        """
        if self.kind is Kind.PIPX:
            line = shlex.join(["pipx", "inject", self.name, *wanted])
        elif self.kind is Kind.UV:
            line = shlex.join(["uv", "pip", "install", "--python", self.python, *wanted])
        elif self.kind is Kind.IMAGE:
            # Nobody may write there, and there is no pip: it is a step of the build.
            added = f"{_IN_CLONE}, with {' '.join(wanted)} added to the pip install of the Containerfile"
            return Line(self._image(), f"{added}; {also} from the new image")
        else:
            line = self._pip(*wanted)
        return Line(line, also)

    def newer(self, also: str = _RESTART) -> Line:
        """The line that brings a newer artifactd, and with it the newest client of MLflow that it takes.

        Args:
            also: What is to be done after it, or in its place.
        """
        there = self._clone()
        if self.kind is Kind.PACKAGE:
            line = f"make deb && apt-get install {_packages(local=self._has('local'))}"
        elif self.kind is Kind.IMAGE:
            line = self._image()
        elif self.kind is Kind.PIPX:
            line = shlex.join(["pipx", "install", "--force", there])
        elif self.kind is Kind.UV:
            line = shlex.join(["uv", "tool", "install", "--force", there])
        else:
            line = self._pip("-U", there, _CLIENT)
        return Line(f"git pull && {line}", f"{_IN_CLONE}; {also}")

    def _has(self, extra: str) -> bool:
        needs = self.needs.get(extra, ())
        return bool(needs) and all(need.is_there for need in needs)

    def _clone(self) -> str:
        """The clone, with the extras that are there: an environment that is made anew would lack them."""
        extras = ",".join(filter(self._has, EXTRAS))
        return f".[{extras}]" if extras else "."

    def _image(self, *more: str) -> str:
        extras = ",".join(extra for extra in EXTRAS if extra in more or self._has(extra))
        return f"docker build -f Containerfile --build-arg EXTRAS={extras} -t artifactd ."

    def _pip(self, *wanted: str) -> str:
        install = shlex.join([self.python, "-m", "pip", "install", *wanted])
        return install if self.has_pip else f"{shlex.join([self.python, '-m', 'ensurepip'])} && {install}"


def _packages(*, local: bool) -> str:
    # Both, since the second takes the first of its own build alone.
    return "./dist/artifactd_*.deb" + (" ./dist/artifactd-local_*.deb" if local else "")


@cache
def here() -> Installation:
    """The environment of this process."""
    prefix = sys.prefix
    has_pip = find_spec("pip") is not None
    return Installation(
        kind_of(prefix, has_pip=has_pip), sys.executable or f"{prefix}/bin/python", has_pip, os.path.basename(prefix),
        required(),
    )  # fmt: skip


def kind_of(prefix: str, *, has_pip: bool, dpkg: str = "/var/lib/dpkg/info") -> Kind:
    """What keeps an environment.

    Args:
        prefix: Its folder.
        has_pip: Whether pip is in it.
        dpkg: Where dpkg writes down which files are whose.
    """
    if os.path.exists(f"{prefix}/pipx_metadata.json"):
        return Kind.PIPX
    if os.path.exists(f"{prefix}/uv-receipt.toml"):
        return Kind.UV
    if prefix == _FOLDER and _is_packaged(dpkg):
        return Kind.PACKAGE
    return Kind.IMAGE if prefix == _FOLDER and not has_pip else Kind.PIP


def _is_packaged(dpkg: str) -> bool:
    try:
        with open(f"{dpkg}/{_NAME}.list", encoding="utf-8", errors="replace") as stream:
            return any(line.rstrip("\n") == f"{_FOLDER}/bin/{_NAME}" for line in stream)
    except OSError:
        return False


def required() -> dict[str, tuple[Need, ...]]:
    """By extra, what that requires, by the metadata of what is installed; empty where there is none."""
    from importlib import metadata  # noqa: PLC0415 (only where something is missing)

    try:
        texts = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        return {}
    return {extra: tuple(_needs(texts, extra)) for extra in EXTRAS}


def _needs(texts: list[str], extra: str) -> Iterator[Need]:
    from importlib import metadata  # noqa: PLC0415 (as above)

    from packaging.requirements import Requirement  # noqa: PLC0415

    for wanted in map(Requirement, texts):
        marker, wanted.marker = wanted.marker, None
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = None
        if version is not None and wanted.specifier.contains(version, prereleases=True):
            # As it is: what works already is not to be brought forward by what comes to it.
            yield Need(f"{wanted.name}=={version}", is_there=True)
        else:
            yield Need(str(wanted), is_there=False)
