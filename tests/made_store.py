"""An empty database of MLflow, made once: its sixty steps take two seconds of a core each time.

Tests that are about the making itself begin with no file; the rest are given a copy.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

_MAKE = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("sqlite:///" + sys.argv[1], "file:///nowhere")
"""


def cache() -> Path:
    """Where what tests need is kept from one session to the next."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "artifactd-tests"
    base.mkdir(parents=True, exist_ok=True)
    return base


def copy_store(file: Path, artifacts: str) -> None:
    """Put an empty database of the installed MLflow at `file`, which keeps artifacts under the URI `artifacts`."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(_template(), file)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ? || '/0'", (artifacts,))


def _template() -> Path:
    made = cache() / f"mlflow-{version('mlflow')}.db"
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = made.with_suffix(".part")
            part.unlink(missing_ok=True)
            quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
            subprocess.run([sys.executable, "-c", _MAKE, str(part)], env=quiet, check=True, capture_output=True)
            part.rename(made)
    return made
