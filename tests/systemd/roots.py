"""Folders that a systemd is booted from, and the packages that are bound into them: each made once, then only read."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from made_store import cache

SOURCES = Path(__file__).parents[2]

_PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian's releases that a box can be, the oldest first whose systemd the unit is for, and the Python that each has."""

SUITE = os.environ.get("ARTIFACTD_TEST_DEBIAN") or next(iter(_PYTHONS))
PYTHON = _PYTHONS[SUITE]

_PACKAGES = "systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,mount,passwd,procps,python3"
_OF_CLEAN = f"{_PACKAGES},ca-certificates"
"""With what packages of ours depend on, so that they are installed without a network."""

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")

_USER = "useradd --system --home-dir /var/lib/artifactd --shell /usr/sbin/nologin artifactd"
"""As the README has it."""

_PROGRAM = """#!/opt/artifactd/bin/python3
import sys
sys.dont_write_bytecode = True
from artifactd.cli import main
sys.exit(main())
"""


def made_root() -> Path:
    """The folder that boxes are booted from; made when it is asked for first: a minute, 200 MB.

    Raises:
        RuntimeError: It could not be made; with what was said.
    """
    leave_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    options = ["--variant=essential", f"--include={_PACKAGES}", *leave_out, f'--customize-hook=chroot "$1" {_USER}']

    def make(root: Path) -> None:
        _bootstrap(root, [*options, SUITE])
        _install(root)

    return _kept("systemd", (options, SUITE, _PROGRAM), make)


def clean_root(suite: str) -> Path:
    """A folder with a Debian of that release, its systemd and nothing of ours, to be copied; made once: a minute.

    Raises:
        RuntimeError: It could not be made; with what was said.
    """
    options = ["--variant=apt", f"--include={_OF_CLEAN}", suite]
    return _kept("systemd", options, lambda root: _bootstrap(root, options))


def packages() -> Path:
    """What is bound into a box as its packages: those of the tests where its Python is theirs, else made once, 900 MB.

    Raises:
        RuntimeError: They could not be installed; with what was said.
    """
    if "{}.{}".format(*sys.version_info) == PYTHON:
        return Path(sysconfig.get_path("purelib"))
    pins = SOURCES / "constraints.txt"
    options = ["--python-version", PYTHON, "--only-binary=:all:", "-c", str(pins), f"{SOURCES}[all]"]
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *options, "--target"]
    of = PYTHON, (SOURCES / "pyproject.toml").read_text(), pins.read_text()
    return _kept("packages", of, lambda folder: _run([*command, str(folder)]))


def _kept(kind: str, of: object, make: Callable[[Path], None]) -> Path:
    """The folder that is made once, and kept under a name of what it is made of."""
    kept = cache() / f"{kind}-{hashlib.sha256(repr(of).encode()).hexdigest()[:12]}"
    with (cache() / "systemd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            part = kept.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            make(part)
            part.rename(kept)
    return kept


def _bootstrap(root: Path, options: Sequence[str]) -> None:
    command = ["mmdebstrap", "-q", "--dpkgopt=force-unsafe-io", *options, str(root)]
    try:
        _run(command)
    except RuntimeError:  # a mirror may fail once
        shutil.rmtree(root, ignore_errors=True)
        _run(command)


def _run(command: Sequence[str]) -> None:
    environment = {**os.environ, "TMPDIR": str(cache())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} could not make what a box needs:\n{done.stdout}{done.stderr}")


def _install(root: Path) -> None:
    """An environment as ``python3 -m venv /opt/artifactd`` makes it, whose packages are bound into it."""
    home = root / "opt" / "artifactd"
    packages = home / "lib" / f"python{PYTHON}" / "site-packages"
    packages.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (packages / "bound.pth").write_text("/opt/artifactd/sources\n/opt/artifactd/packages\n")
    for name in ("sources", "packages"):
        (home / name).mkdir()
    program = home / "bin" / "artifactd"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    (root / "etc" / "hostname").unlink(missing_ok=True)
