"""Reads and changes a store with MLflow's own client, in a process of its own: SDKs keep what they saw first.

    python back.py files|where|put|remove --uri URI --experiment NAME --run NAME [--path PATH] [--source FILE]

``files`` prints a JSON object of artifact path to [size, SHA-256], ``where`` the run's artifact URI. It never asks
artifactd.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Do one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("do", choices=("files", "where", "put", "remove"))
    parser.add_argument("--uri", required=True)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--path", default="")
    parser.add_argument("--source", type=Path)
    args = parser.parse_args()

    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client = MlflowClient(args.uri, registry_uri=args.uri)
    experiment = client.get_experiment_by_name(args.experiment)
    assert experiment is not None
    (run,) = (r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == args.run)
    if args.do == "where":
        sys.stdout.write(run.info.artifact_uri)
        return
    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=args.uri)
    if args.do == "put":
        folder, _, leaf = args.path.rpartition("/")
        with tempfile.TemporaryDirectory() as staging:
            link = os.path.join(staging, leaf)
            os.symlink(args.source.absolute(), link)
            repository.log_artifact(link, folder or None)
    elif args.do == "remove":
        repository.delete_artifacts(args.path)
    else:
        with tempfile.TemporaryDirectory() as to:
            found = {}
            if client.list_artifacts(run.info.run_id):
                copy = client.download_artifacts(run.info.run_id, "", to)
                for here, _, names in os.walk(copy):
                    for name in names:
                        path = os.path.join(here, name)
                        with open(path, "rb") as f:
                            digest = hashlib.file_digest(f, "sha256").hexdigest()
                        found[os.path.relpath(path, copy)] = [os.path.getsize(path), digest]
            json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
