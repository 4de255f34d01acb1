"""The forms in which teams keep their artifacts: a row of the conformance table each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import MlflowServer
from stores.form import Form
from stores.objects import ObjectStore
from stores.servers import ADMIN, AuthServer, Server, mlflow_form
from stores.sshd import sshd

MIB = 2**20

Make = Callable[[pytest.FixtureRequest, Path, ExitStack], Form]

FORMS: dict[str, Make] = {}


def _form(make: Make) -> Make:
    FORMS[make.__name__.strip("_")] = make
    return make


@_form
def _local(_request: pytest.FixtureRequest, folder: Path, _ends: ExitStack) -> Form:
    (folder / "artifacts").mkdir()
    return Form("local folder", f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri())


@_form
def _server(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    return Form("server, SQLite, a folder", server.uri)


@_form
def _server_on_postgresql(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    server: Server = request.getfixturevalue("postgres_server")
    return Form("server, PostgreSQL, a folder", server.uri)


@_form
def _server_with_basic_auth(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    server: AuthServer = request.getfixturevalue("auth_server")
    environ = {"MLFLOW_TRACKING_USERNAME": ADMIN[0], "MLFLOW_TRACKING_PASSWORD": ADMIN[1]}
    return Form("server with basic-auth", server.uri, environ=environ)


@_form
def _share_past_the_server(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    server: Server = request.getfixturevalue("direct_server")
    return Form("folder past the server", server.uri)


@_form
def _s3(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    return _direct(request, "S3", "seaweed", parts=(8 * MIB, 16 * MIB), checksum="MD5")


@_form
def _azure(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    return _direct(request, "Azure Blob", "azurite", parts=(4 * MIB, 64 * MIB), checksum="MD5 up to 64 MiB")


@_form
def _gcs(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    return _direct(request, "Google Cloud Storage", "fakegcs", parts=(8 * MIB,), checksum="MD5")


def _direct(request: pytest.FixtureRequest, name: str, fixture: str, parts: tuple[int, ...], checksum: str) -> Form:
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    store: ObjectStore = request.getfixturevalue(fixture)
    return Form(name, server.uri, store.artifact_location, store.environ, parts, checksum=checksum)


@_form
def _s3_through_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _proxied(request, "S3 through the server", "seaweed", folder, ends)


@_form
def _azure_through_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _proxied(request, "Azure Blob through the server", "azurite", folder, ends)


@_form
def _gcs_through_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _proxied(request, "Google Cloud Storage through the server", "fakegcs", folder, ends)


def _proxied(request: pytest.FixtureRequest, name: str, fixture: str, folder: Path, ends: ExitStack) -> Form:
    store: ObjectStore = request.getfixturevalue(fixture)
    location = f"{store.artifact_location}/proxied"
    server = ends.enter_context(mlflow_form(folder, artifacts_destination=location, env=store.environ))
    return Form(name, server.uri)


@_form
def _sftp(_request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(sshd(folder / "ssh"))
    environ = {"MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "sftp"}
    server = ends.enter_context(mlflow_form(folder / "mlflow", env=environ))
    return Form("SFTP", server.uri, store.uri, {"HOME": str(store.home)}, on_disk=True)
