"""What is imported before delivery processes are forked: what the store at hand needs, and nothing for models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import environment

_ASK = """
import json, os, sys
from artifactd.tracking import environment, warm
environment.prepare(sys.argv[1])
with environment.lean():
    environment.preload()
    warm.import_stores(sys.argv[1], sys.argv[2])
loaded = sorted(name for name, module in sys.modules.items() if module is not None)
import pandas  # may be had again
links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
open_files = [os.readlink(link) for link in links if os.path.exists(link)]
print(json.dumps([loaded, open_files]))
"""


def warmed(uri: str, artifacts: str = "", **env: str) -> tuple[set[str], list[str]]:
    """The modules that are loaded, and the files that are open, in a process that is ready to be forked."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK, uri, artifacts], env=environment(**env), capture_output=True, text=True, check=True
    )
    loaded, files = json.loads(done.stdout)
    return set(loaded), files


@pytest.mark.parametrize(
    ("uri", "artifacts", "env", "there"),
    [
        ("http://127.0.0.1:1", "", {}, {"mlflow.store.tracking.rest_store"}),
        ("http://127.0.0.1:1", "s3", {}, {"boto3", "s3transfer"}),
        ("http://127.0.0.1:1", "", {"AWS_ACCESS_KEY_ID": "x"}, {"boto3", "s3transfer"}),
    ],
)
def test_what_the_store_at_hand_needs_is_there(uri: str, artifacts: str, env: dict[str, str], there: set[str]) -> None:
    loaded, _ = warmed(uri, artifacts, **env)
    assert there <= loaded
    assert not {"numpy", "pandas", "sqlalchemy", "azure.storage.blob"} & loaded
    assert ("boto3" in loaded) == ("boto3" in there)


def test_a_database_is_made_ready_and_let_go_of(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    loaded, files = warmed(uri)
    assert "mlflow.store.tracking.sqlalchemy_store" in loaded
    assert not [path for path in files if "mlflow.db" in path]
    assert (tmp_path / "mlflow.db").stat().st_size


def test_a_database_that_cannot_be_had_is_the_workers_to_tell_of(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    loaded, _ = warmed(f"sqlite:///{tmp_path}/mlflow.db")
    assert "mlflow.store.tracking.sqlalchemy_store" in loaded
