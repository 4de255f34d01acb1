"""Those that artifactd is compared with, in a process of their own, since SDKs read the environment once.

    python by_hand.py TRACKING_URI        (a request on each line of standard input, an answer on each of its output)

``{"do": "run", "experiment": NAME, "location": URI or null}`` makes a run, and answers with its id. The others answer
with the seconds that they took: ``log`` calls ``MlflowClient.log_artifact`` for one file after the other, ``log_all``
calls ``log_artifacts`` once for a folder, ``put`` sends files to the server by bare ``requests`` in some threads,
``s3`` by bare boto3. None of them asks artifactd.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local
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

    def ready(self) -> None:
        """Wait until it is, and a new SQLite store has its tables: MLflow makes them badly when several do it."""
        self._ask(do="ready")

    def run(self, experiment: str, location: str | None) -> str:
        """Make a run; its id."""
        return str(self._ask(do="run", experiment=experiment, location=location))

    def log(self, run: str, files: Sequence[str], folder: str) -> float:
        """Log the files, one after the other; seconds."""
        return float(self._ask(do="log", run=run, files=list(files), folder=folder))

    def log_tree(self, run: str, tree: str, folder: str) -> float:
        """Log a tree's files, one after the other, each into its own folder; seconds."""
        files = sorted(os.path.join(here, name) for here, _, names in os.walk(tree) for name in names)
        return float(self._ask(do="log", run=run, files=files, folder=folder, below=tree))

    def log_all(self, run: str, source: str, folder: str) -> float:
        """Log a folder by one call; seconds."""
        return float(self._ask(do="log_all", run=run, source=source, folder=folder))

    def put(self, files: Sequence[str], folder: str, threads: int) -> float:
        """Send the files by bare requests; seconds."""
        return float(self._ask(do="put", files=list(files), folder=folder, threads=threads))

    def s3(self, files: Sequence[str], folder: str, bucket: str, threads: int) -> float:
        """Send the files by bare boto3; seconds."""
        return float(self._ask(do="s3", files=list(files), folder=folder, bucket=bucket, threads=threads))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

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
            raise SystemExit("the other side failed: its words are above")
        return json.loads(answer)


def main() -> None:
    """Serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MLflow prints
    side = _Side(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(side, request.pop("do"))(**request)), file=answers, flush=True)


class _Side:
    """What is asked of it."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 (after the output was moved)

        self._uri = uri
        self._client = MlflowClient(uri, registry_uri=uri)
        self._own = local()
        self._s3: Any = None

    def ready(self) -> bool:
        return True

    def run(self, experiment: str, location: str | None) -> str:
        found = self._client.get_experiment_by_name(experiment)
        ident = found.experiment_id if found else self._client.create_experiment(experiment, location)
        return str(self._client.create_run(ident, run_name="by hand").info.run_id)

    def log(self, run: str, files: list[str], folder: str, below: str = "") -> float:
        begun = time.perf_counter()
        for path in files:
            where = os.path.normpath(f"{folder}/{os.path.relpath(os.path.dirname(path), below)}") if below else folder
            self._client.log_artifact(run, path, where)
        return time.perf_counter() - begun

    def log_all(self, run: str, source: str, folder: str) -> float:
        begun = time.perf_counter()
        self._client.log_artifacts(run, source, folder)
        return time.perf_counter() - begun

    def put(self, files: list[str], folder: str, threads: int) -> float:
        where = f"{self._uri}/api/2.0/mlflow-artifacts/artifacts/raw/{folder}"
        return _by_threads(lambda path: self._put(path, where), files, threads)

    def _put(self, path: str, where: str) -> None:
        import requests  # noqa: PLC0415

        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        with open(path, "rb") as body:
            self._own.session.put(f"{where}/{os.path.basename(path)}", data=body, timeout=600).raise_for_status()

    def s3(self, files: list[str], folder: str, bucket: str, threads: int) -> float:
        import boto3  # noqa: PLC0415
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        if self._s3 is None:
            endpoint = os.environ["MLFLOW_S3_ENDPOINT_URL"]
            self._s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=threads))
        if len(files) == 1:
            config = TransferConfig(max_concurrency=threads)
            return _by_threads(
                lambda path: self._s3.upload_file(
                    path, bucket, f"raw/{folder}/{os.path.basename(path)}", Config=config
                ), files, 1,
            )  # fmt: skip

        def send(path: str) -> None:
            with open(path, "rb") as body:
                self._s3.put_object(Bucket=bucket, Key=f"raw/{folder}/{os.path.basename(path)}", Body=body)

        return _by_threads(send, files, threads)


def _by_threads(send: Callable[[str], None], files: list[str], threads: int) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, files))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
