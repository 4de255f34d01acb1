"""Checks a release: which one it is, what its packages hold, that the wheel installs and runs by itself, and with what.

docs/releasing.md says what it looks at. Run by ``make release-check``, from any folder; the network brings the build's
own tools and what the wheel needs, each into an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import audit
import sbom
from audit import Audit

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
VENV = ROOT / ".venv"

UNRELEASED = "Unreleased"

OF_SDIST = (
    "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "config.example.toml", "constraints.txt", "pyproject.toml",
    "daemon/artifactd/py.typed", "docs/architecture.md", "systemd/artifactd.service", "tests/conftest.py",
)  # fmt: skip
"""What an sdist lacks if it lacks anything that a package for a distribution needs."""


class NotReadyError(Exception):
    """This is no release yet; the message says why."""


def version_in(source: str) -> str:
    """The version that ``artifactd/__init__.py`` says.

    Raises:
        NotReadyError: It says none.
    """
    found = re.search(r'(?m)^__version__ = "([^"]+)"$', source)
    if found is None:
        raise NotReadyError("daemon/artifactd/__init__.py has no __version__")
    return found[1]


def heading_in(changelog: str) -> str:
    """What the changelog's first section is of: a version, or ``UNRELEASED``.

    Raises:
        NotReadyError: It has no section.
    """
    found = re.search(r"(?m)^## \[([^\]]+)\]", changelog)
    if found is None:
        raise NotReadyError("CHANGELOG.md has no '## [version] - date' and no '## [Unreleased]'")
    return found[1]


def name_of(version: str, heading: str, tags: Collection[str], *, is_clean: bool) -> str:
    """What this is, in words.

    Args:
        version: Of the package.
        heading: Of the changelog.
        tags: Of the commit, those of versions alone (``v1.2.3``).
        is_clean: Nothing is uncommitted.

    Raises:
        NotReadyError: These contradict each other.
    """
    if heading not in (version, UNRELEASED):
        raise NotReadyError(f"CHANGELOG.md begins with [{heading}], and the package is {version}: one of them is old")
    if not tags:
        return f"{version}, unreleased" if heading == UNRELEASED else f"{version}, not tagged yet"
    if set(tags) != {f"v{version}"}:
        raise NotReadyError(f"the commit has the tag {', '.join(sorted(tags))}, and the package is {version}")
    if heading == UNRELEASED:
        raise NotReadyError(f"the commit is tagged, and CHANGELOG.md begins with [{UNRELEASED}] still")
    if not is_clean:
        raise NotReadyError("the commit is tagged, and something is changed that is not in it: git status")
    return f"{version}, tagged"


def wrong_in_wheel(names: Collection[str], version: str) -> list[str]:
    """What a wheel of these files has too much, and what it lacks."""
    info = f"artifactd-{version}.dist-info"
    wanted = {"artifactd/__init__.py", "artifactd/py.typed", "artifactd/artifactd.service"}
    wanted |= {f"artifactd/exposition/assets/page.{end}" for end in ("css", "html", "js")}
    wanted |= {f"artifactd/codes/{page.name}" for page in (ROOT / "docs" / "errors").iterdir()}
    wanted |= {f"{info}/entry_points.txt", f"{info}/licenses/LICENSE"}
    strange = sorted(name for name in names if not name.startswith(("artifactd/", f"{info}/")))
    return [f"it lacks {name}" for name in sorted(wanted - set(names))] + [f"it has {name}" for name in strange]


def wrong_in_sdist(names: Collection[str], version: str) -> list[str]:
    """What an sdist of these files lacks."""
    return [f"it lacks {name}" for name in OF_SDIST if f"artifactd-{version}/{name}" not in names]


def main() -> None:
    """All of it, with a line for each step.

    Raises:
        NotReadyError: Something is wrong.
    """
    version = version_in((ROOT / "daemon" / "artifactd" / "__init__.py").read_text(encoding="utf-8"))
    heading = heading_in((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    tags = [tag for tag in _git("tag", "--points-at", "HEAD").split() if re.fullmatch(r"v\d.*", tag)]
    print(f"This is artifactd {name_of(version, heading, tags, is_clean=not _git('status', '--porcelain'))}")
    wheel, sdist = _build(version)
    with zipfile.ZipFile(wheel) as packed:
        _refuse(wheel, wrong_in_wheel(packed.namelist(), version))
    with tarfile.open(sdist) as packed_source:
        _refuse(sdist, wrong_in_sdist(packed_source.getnames(), version))
    print(f"Built and looked into: {sdist.name}, {wheel.name}")
    _try(wheel, version)
    print("The wheel installs into a fresh environment, says its version and helps")
    tools = _environment("release-tools")
    _run([tools, "-m", "pip", "install", "-q", "--disable-pip-version-check", *audit.TOOLS, *sbom.TOOLS])
    bill = _list_parts(tools, version)
    print(f"Wrote {bill.name}: CycloneDX {sbom.SPEC}, valid by its schema, with all that was installed")
    print(verdict(audit.audit(tools, ROOT / "constraints.txt"), is_tagged=bool(tags)))


def _build(version: str) -> tuple[Path, Path]:
    """The wheel, made of the sdist as an installer would make it, and the sdist."""
    for old in DIST.glob("artifactd-*"):
        old.unlink()
    with (ROOT / "pyproject.toml").open("rb") as stream:
        tools = tomllib.load(stream)["build-system"]["requires"]
    python = _environment("release-build")
    _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *tools])
    _run([python, "-m", "hatchling", "build", "-t", "sdist", "-d", str(DIST)], here=ROOT)
    sdist = DIST / f"artifactd-{version}.tar.gz"
    quiet = ["-q", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    _run([python, "-m", "pip", "wheel", *quiet, "-w", str(DIST), str(sdist)])
    return DIST / f"artifactd-{version}-py3-none-any.whl", sdist


def _try(wheel: Path, version: str) -> None:
    python = _environment("release-try")
    constraints = ["-c", str(ROOT / "constraints.txt")]
    _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel), *constraints])
    artifactd = str(Path(python).with_name("artifactd"))
    said = _run([artifactd, "--version"]).strip()
    if said != f"artifactd {version}":
        raise NotReadyError(f"artifactd --version says {said!r}, and the package is {version}")
    if "Usage" not in _run([artifactd, "--help"]):
        raise NotReadyError("artifactd --help does not help")
    if not _run([artifactd, "explain", "AD301"]).startswith("# AD301: "):
        raise NotReadyError("artifactd explain AD301 does not print its page")


def verdict(audited: Audit, *, is_tagged: bool) -> str:
    """What to say of an audit.

    Raises:
        NotReadyError: Something is known against a package; or a commit with a tag is not audited in whole.
    """
    if audited.found:
        raise NotReadyError("known against what is pinned:\n  " + "\n  ".join(audited.found))
    if audited.why_not and is_tagged:
        raise NotReadyError(f"a release is audited, and this one is not: {audited.why_not}")
    if audited.why_not:
        return f"NOT RUN: the audit of the pinned packages ({audited.why_not}). A tagged commit does not pass so"
    return f"Audited: nothing is known against the {audited.asked} pinned packages"


def _list_parts(tools: str, version: str) -> Path:
    """The bill of materials of the environment that the wheel was installed into."""
    bill = DIST / f"artifactd-{version}.cdx.json"
    python = str(VENV / "release-try" / "bin" / "python")
    _run(sbom.command(tools, python, str(ROOT / "pyproject.toml"), str(bill)))
    listed = json.loads(_run([python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]))
    _refuse(bill, sbom.wrong_in(bill.read_text(encoding="utf-8"), {p["name"]: p["version"] for p in listed}))
    return bill


def _environment(name: str) -> str:
    """The interpreter of a fresh virtual environment."""
    place = VENV / name
    _run([sys.executable, "-m", "venv", "--clear", str(place)])
    return str(place / "bin" / "python")


def _refuse(package: Path, wrong: Sequence[str]) -> None:
    if wrong:
        raise NotReadyError(f"{package.name}: {'; '.join(wrong)}")


def _git(*args: str) -> str:
    """What git says; nothing where this is no repository."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return ""
    return _run([git, "-C", str(ROOT), *args])


def _run(command: Sequence[str], here: Path | None = None) -> str:
    """What a command says; without `here`, it runs where nothing of this repository can be imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            command, cwd=here or elsewhere, env=environment, capture_output=True, text=True, check=False
        )  # fmt: skip
    if done.returncode:
        raise NotReadyError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    try:
        main()
    except NotReadyError as exc:
        sys.exit(f"Not ready: {exc}")
