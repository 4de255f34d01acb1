"""Virtual environments for frameworks not needed otherwise: made once, in the user's cache, to be thrown away."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from made_store import cache as kept
from stores.running import NotThereError

_INSTALL_SECONDS = 1500
"""torch is 200 MB where pip finds the wheel for processors alone, and 3 GB with what graphics cards need."""


def environment(name: str, packages: Sequence[str]) -> str:
    """Give the interpreter of an environment with these packages, in the newest versions that pip finds.

    Args:
        name: Of its folder.
        packages: As pip knows them; none: the environment of the tests themselves has all.

    Raises:
        NotThereError: They cannot be installed.
    """
    if not packages:
        return sys.executable
    cache = kept() / "presets"
    cache.mkdir(parents=True, exist_ok=True)
    folder, wanted = cache / name, " ".join(packages)
    stamp = folder / "installed"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(folder, packages)
            stamp.write_text(wanted)
    return str(folder / "bin" / "python")


def _install(folder: Path, packages: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *packages]):
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=_INSTALL_SECONDS, env=own)
        except subprocess.SubprocessError as exc:
            said = exc.stderr if isinstance(exc, subprocess.CalledProcessError) else str(exc)
            shutil.rmtree(folder, ignore_errors=True)
            raise NotThereError(f"pip cannot install {' '.join(packages)}: {said[-300:]}") from exc
