"""MLflow's own client at work in a process of its own, since SDKs read the environment once; it never asks artifactd.

    python by_hand.py TRACKING_URI        (a request on each line of standard input, an answer on each of its output)

``{"do": "run", "experiment": NAME, "location": URI or null}`` makes a run, and answers with its id;
``{"do": "log", "run": ID, "files": [PATH, …], "folder": NAME}`` logs the files one by one, and answers with the
seconds that it took; ``{"do": "remove", "run": ID, "folder": NAME}`` removes what was logged there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any


class ByHand:
    """The process, as the one that measures sees it.

    Args:
        uri: The tracking server's.
        environ: Its whole environment.
    """

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environ),
            start_new_session=True,  # as the service: Linux shares a busy machine out by sessions
        )

    def run(self, experiment: str, location: str | None) -> str:
        """Make a run; its id."""
        return str(self._ask(do="run", experiment=experiment, location=location))

    def log(self, run: str, files: Sequence[str], folder: str) -> float:
        """Log the files, one after the other; seconds."""
        return float(self._ask(do="log", run=run, files=list(files), folder=folder))

    def remove(self, run: str, folder: str) -> None:
        """Remove a folder of a run's artifacts."""
        self._ask(do="remove", run=run, folder=folder)

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("MLflow's own client failed: its words are above")
        return json.loads(answer)


def main() -> None:
    """Serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MLflow prints
    from mlflow import MlflowClient  # noqa: PLC0415 (after that)

    client = MlflowClient(sys.argv[1], registry_uri=sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(answer(client, json.loads(line))), file=answers, flush=True)


def answer(client: Any, request: dict[str, Any]) -> Any:
    """Do what is asked."""
    if request["do"] == "run":
        found = client.get_experiment_by_name(request["experiment"])
        ident = found.experiment_id if found else client.create_experiment(request["experiment"], request["location"])
        return client.create_run(ident, run_name="by hand").info.run_id
    if request["do"] == "log":
        begun = time.perf_counter()
        for path in request["files"]:
            client.log_artifact(request["run"], path, request["folder"])
        return time.perf_counter() - begun
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

    uri = client.get_run(request["run"]).info.artifact_uri
    get_artifact_repository(uri, tracking_uri=client.tracking_uri).delete_artifacts(request["folder"])
    return None


if __name__ == "__main__":
    main()
