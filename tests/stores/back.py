"""Reads and changes a store with MLflow's own client, in a process of its own with a user's environment.

    python back.py URI EXPERIMENT

takes a request a line, as JSON (``do``, ``run``, ``path``, ``source``), and answers each with one. ``files`` gives
artifact path to [size, SHA-256], ``where`` the run's artifact URI; ``put`` and ``remove`` change an artifact. It never
asks artifactd.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer until there are no more requests."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    from mlflow import MlflowClient

    uri, experiment = sys.argv[1:]
    client = MlflowClient(uri, registry_uri=uri)
    for line in sys.stdin:
        json.dump(_answer(client, uri, experiment, **json.loads(line)), answers)
        answers.write("\n")
        answers.flush()


def _answer(client: Any, uri: str, name: str, *, do: str, run: str, path: str = "", source: str = "") -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (found,) = (r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == run)
    repository = get_artifact_repository(found.info.artifact_uri, tracking_uri=uri)
    if do == "put":
        folder, _, leaf = path.rpartition("/")
        with tempfile.TemporaryDirectory() as staging:
            link = os.path.join(staging, leaf)
            os.symlink(Path(source).absolute(), link)
            repository.log_artifact(link, folder or None)
    elif do == "remove":
        repository.delete_artifacts(path)
    elif do == "files":
        return _files(client, found.info.run_id)
    return found.info.artifact_uri


def _files(client: Any, run_id: str) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    with tempfile.TemporaryDirectory() as to:
        if client.list_artifacts(run_id):
            copy = client.download_artifacts(run_id, "", to)
            for here, _, names in os.walk(copy):
                for name in names:
                    path = os.path.join(here, name)
                    with open(path, "rb") as f:
                        digest = hashlib.file_digest(f, "sha256").hexdigest()
                    found[os.path.relpath(path, copy)] = (os.path.getsize(path), digest)
    return found


if __name__ == "__main__":
    main()
