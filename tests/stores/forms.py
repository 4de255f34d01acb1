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
from stores.serving import gateway
from stores.sshd import sshd
from stores.tls import make_certificate

MIB = 2**20

Make = Callable[[pytest.FixtureRequest, Path, ExitStack], Form]

FORMS: dict[str, Make] = {}

SAME_WAY = frozenset(
    {
        "server_on_postgresql", "server_with_basic_auth", "server_behind_nginx", "share_past_the_server",
        "s3_past_the_server", "s3_through_the_server", "azure_through_the_server", "gcs_through_the_server",
    }
)  # fmt: skip
"""Forms whose files go as those of another one do: through MLflow's server, into a folder, or to S3."""

_AS_THE_SERVER = "as on SQLite"
_IN_MEMORY = "the test's server keeps it in memory"


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
    return Form("server, PostgreSQL, a folder", server.uri, no_6_gib=_AS_THE_SERVER)


@_form
def _server_with_basic_auth(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    server: AuthServer = request.getfixturevalue("auth_server")
    environ = {"MLFLOW_TRACKING_USERNAME": ADMIN[0], "MLFLOW_TRACKING_PASSWORD": ADMIN[1]}
    return Form("server with basic-auth", server.uri, environ=environ, no_6_gib=_AS_THE_SERVER)


@_form
def _server_behind_nginx(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    certificate = make_certificate(folder)
    limit = "client_max_body_size 1g;"
    front = ends.enter_context(gateway(folder, server.uri, tls=certificate, prefix="/mlflow/", location=limit))
    environ = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate.ca)}
    return Form(
        "server behind nginx: own TLS, prefix, 1 GiB limit", f"https://127.0.0.1:{front.port}/mlflow",
        environ=environ, no_6_gib="over its limit",
    )  # fmt: skip


@_form
def _share_past_the_server(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    server: Server = request.getfixturevalue("direct_server")
    return Form("folder past the server", server.uri, no_6_gib="as in a local folder")


@_form
def _s3(request: pytest.FixtureRequest, _folder: Path, _ends: ExitStack) -> Form:
    """Named by the service's own settings."""
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    store: ObjectStore = request.getfixturevalue("seaweed")
    parts = (8 * MIB, 16 * MIB)
    return Form("S3", server.uri, store.artifact_location, store.environ, parts, checksum="MD5")


@_form
def _s3_past_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _past(request, "S3 past the server", "seaweed", folder, ends, (8 * MIB,), "MD5", "as to S3")


@_form
def _azure_past_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    parts = (4 * MIB, 64 * MIB)
    return _past(request, "Azure Blob past the server", "azurite", folder, ends, parts, "MD5 up to 64 MiB")


@_form
def _gcs_past_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    name = "Google Cloud Storage past the server"
    return _past(request, name, "fakegcs", folder, ends, (8 * MIB,), "MD5", _IN_MEMORY)


def _past(
    request: pytest.FixtureRequest, name: str, fixture: str, folder: Path, ends: ExitStack, parts: tuple[int, ...],
    checksum: str, no_6_gib: str = "",
) -> Form:  # fmt: skip
    """The server names the store, and has neither its SDK's credentials nor the artifacts."""
    store: ObjectStore = request.getfixturevalue(fixture)
    root = f"{store.artifact_location}/past"
    server = ends.enter_context(mlflow_form(folder, serve=False, default_artifact_root=root))
    return Form(name, server.uri, None, store.environ, parts, checksum, no_6_gib)


@_form
def _s3_through_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _proxied(request, "S3 through the server", "seaweed", folder, ends)


@_form
def _azure_through_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _proxied(request, "Azure Blob through the server", "azurite", folder, ends)


@_form
def _gcs_through_the_server(request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    return _proxied(request, "Google Cloud Storage through the server", "fakegcs", folder, ends, _IN_MEMORY)


def _proxied(
    request: pytest.FixtureRequest, name: str, fixture: str, folder: Path, ends: ExitStack, no_6_gib: str = ""
) -> Form:
    store: ObjectStore = request.getfixturevalue(fixture)
    location = f"{store.artifact_location}/proxied"
    server = ends.enter_context(mlflow_form(folder, artifacts_destination=location, env=store.environ))
    return Form(name, server.uri, no_6_gib=no_6_gib)


@_form
def _sftp(_request: pytest.FixtureRequest, folder: Path, ends: ExitStack) -> Form:
    store = ends.enter_context(sshd(folder / "ssh"))
    environ = {"MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "sftp"}
    server = ends.enter_context(mlflow_form(folder / "mlflow", env=environ))
    return Form("SFTP", server.uri, store.uri, {"HOME": str(store.home)}, on_disk=True)
