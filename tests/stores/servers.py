"""MLflow's server in every form: on SQLite or PostgreSQL, asking who one is, serving artifacts or not."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import mlflow_servers
from made_store import copy_store
from stores.postgres import Postgres, postgres
from stores.running import waited_for
from support import environment, free_port

ADMIN = ("ada", "a-long-admin-password")
_SECRET = "of-a-test"


@dataclass(frozen=True, slots=True)
class Server:
    """A running MLflow server.

    Attributes:
        uri: On 127.0.0.1.
        folder: Its working folder; ``server.log`` lies there, and ``artifacts`` where it serves a folder.
        database: PostgreSQL under it.
    """

    uri: str
    folder: Path
    database: Postgres | None = None

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "server.log").read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class AuthServer(Server):
    """One that asks who one is; everybody but the administrator may only read unless told otherwise."""

    def add_user(self, name: str, password: str) -> None:
        """A user with the default permission."""
        self._ask("POST", "users/create", {"username": name, "password": password})

    def allow(self, experiment_id: str, name: str, permission: str) -> None:
        """Give a user READ, EDIT or MANAGE of an experiment."""
        what = {"resource_type": "experiment", "resource_id": experiment_id, "username": name}
        self._ask("POST", "users/permissions/grant", {**what, "permission": permission}, version="3.0")

    def change_password(self, name: str, password: str) -> None:
        """The old one counts no more."""
        self._ask("PATCH", "users/update-password", {"username": name, "password": password})

    def _ask(self, method: str, call: str, data: Mapping[str, str], version: str = "2.0") -> None:
        request = urllib.request.Request(  # noqa: S310 (our own server)
            f"{self.uri}/api/{version}/mlflow/{call}", json.dumps(data).encode(), method=method,
            headers={"Content-Type": "application/json", "Authorization": _basic(*ADMIN)},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            pass


def _basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


@contextlib.contextmanager
def mlflow_form(
    folder: Path, *, backend: str | None = None, serve: bool = True, artifacts_destination: str | None = None,
    default_artifact_root: str | None = None, options: Sequence[str] = (), env: Mapping[str, str] | None = None,
) -> Iterator[Server]:  # fmt: skip
    """Run ``mlflow server`` while the block lasts.

    Args:
        folder: Its working folder; made if it is not there.
        backend: Database URI; None for SQLite in `folder`.
        serve: ``--serve-artifacts``.
        artifacts_destination: Where it keeps what it serves (a folder, s3://…); None for ``artifacts`` in `folder`.
        default_artifact_root: What it gives new experiments; None leaves it to the server.
        options: Further options.
        env: Further variables: the store's credentials and endpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = ["server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    command += [f"--backend-store-uri={backend or f'sqlite:///{folder}/mlflow.db'}"]
    if backend is None and not (folder / "mlflow.db").exists():
        copy_store(folder / "mlflow.db", default_artifact_root or "mlflow-artifacts:")
    if serve:
        (folder / "artifacts").mkdir(exist_ok=True)
        command += ["--serve-artifacts", f"--artifacts-destination={artifacts_destination or folder / 'artifacts'}"]
    else:
        command += ["--no-serve-artifacts"]
    if default_artifact_root is not None:
        command += [f"--default-artifact-root={default_artifact_root}"]
    variables = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **(env or {}))
    log = folder / "server.log"
    process = mlflow_servers.start([*command, *options], cwd=folder, env=variables, log=log)
    with waited_for(process, "mlflow server", log, lambda: _healthy(port)):
        yield Server(f"http://127.0.0.1:{port}", folder)


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        try:
            return connection.getresponse().status == http.HTTPStatus.OK
        except http.client.HTTPException:
            return False


@contextlib.contextmanager
def basic_auth(folder: Path) -> Iterator[AuthServer]:
    """A server with ``--app-name basic-auth``; its administrator is `ADMIN`."""
    folder.mkdir(parents=True, exist_ok=True)
    ini = folder / "auth.ini"
    ini.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {ADMIN[0]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"  # else each request hashes the password anew: 0.1 s and more
    )
    env = {
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _SECRET,
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_AUTH_CONFIG_PATH": str(ini),
    }
    with mlflow_form(folder, options=["--app-name=basic-auth"], env=env) as server:
        yield AuthServer(server.uri, server.folder)


@contextlib.contextmanager
def on_postgres(folder: Path) -> Iterator[Server]:
    """A server on PostgreSQL, which serves a folder."""
    with postgres() as database, mlflow_form(folder, backend=database.uri) as server:
        yield Server(server.uri, server.folder, database)


@pytest.fixture(scope="session")
def auth_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthServer]:
    """One for the session."""
    with basic_auth(tmp_path_factory.mktemp("basic-auth")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for the session; its database is running whenever a test begins."""
    with on_postgres(tmp_path_factory.mktemp("on-postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def direct_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that serves no artifacts: clients go to the folder ``store`` in its own, as a share that both see."""
    folder = tmp_path_factory.mktemp("direct")
    (folder / "store").mkdir()
    with mlflow_form(folder, serve=False, default_artifact_root=(folder / "store").as_uri()) as server:
        yield server
