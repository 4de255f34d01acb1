"""Stores to measure with, each a real server in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from stores.azurite import azurite
from stores.fakegcs import fakegcs
from stores.form import Form
from stores.seaweed import seaweed
from stores.servers import mlflow_form
from stores.sshd import sshd

Start = Callable[[Path, ExitStack], Form]
STORES: dict[str, Start] = {}


def _store(start: Start) -> Start:
    STORES[start.__name__.strip("_")] = start
    return start


@_store
def _local(folder: Path, _ends: ExitStack) -> Form:
    (folder / "artifacts").mkdir()
    return Form("local folder", f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri())


@_store
def _server(folder: Path, ends: ExitStack) -> Form:
    server = mlflow_form(folder, options=["--workers=4"])  # its own default; tests do with one
    return Form("MLflow server, a folder", ends.enter_context(server).uri)


@_store
def _s3(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(seaweed(folder, volumes=50))
    return Form("S3", _tracking(folder, ends), store.artifact_location, store.environ)


@_store
def _azure(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(azurite(folder))
    return Form("Azure Blob", _tracking(folder, ends), store.artifact_location, store.environ)


@_store
def _gcs(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(fakegcs(folder))
    return Form("Google Cloud Storage", _tracking(folder, ends), store.artifact_location, store.environ)


@_store
def _sftp(folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(sshd(folder / "ssh"))
    return Form("SFTP", _tracking(folder, ends), store.uri, {"HOME": str(store.home)})


def _tracking(folder: Path, ends: ExitStack) -> str:
    env = {"MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "sftp"}
    return ends.enter_context(mlflow_form(folder / "mlflow", env=env)).uri
