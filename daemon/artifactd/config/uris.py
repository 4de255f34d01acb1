"""Which tracking URIs and artifact locations can be used: pure rules on their form."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from artifactd.config.problems import Mistake, shown

_SERVERS = {"http", "https"}
# MLflow's DATABASE_ENGINES.
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_REGISTRIES = {"uc", "databricks-uc"}
_NAMES = _REGISTRIES | {"databricks"}  # stand alone too
# The schemes of MLflow's artifact repositories, and what people write for them.
_STORES = {
    "s3",
    "s3a",
    "s3n",
    "r2",
    "b2",
    "gs",
    "gcs",
    "wasb",
    "wasbs",
    "abfs",
    "abfss",
    "adl",
    "az",
    "azure",
    "sftp",
    "ftp",
}
_STORES |= {"hdfs", "viewfs", "dbfs", "mlflow-artifacts"}

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_HOST_PORT = re.compile(r"[\w.-]+:\d+(?:/.*)?")

_LEAVE_OUT = 'leave tracking_uri out for the embedded store in state_dir, or write a server, as "http://mlflow:5000"'


def is_loopback(host: str) -> bool:
    """Whether what is said to this host stays on this machine; other names than localhost are not looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_tracking_uri(uri: str) -> str:
    """Accept a tracking URI that MLflow's client can work with.

    Returns:
        The URI itself.

    Raises:
        Mistake: For a store's URL (an artifact location), MLflow's retired file store, and what is no URI.
    """
    scheme = _scheme(uri) or (uri if uri in _NAMES else "")
    engine = scheme.partition("+")[0]
    if not uri.strip():
        raise Mistake("it is empty", _LEAVE_OUT)
    if _HOST_PORT.fullmatch(uri):
        raise Mistake(
            f"{shown(uri)} has no scheme", f"write {shown('http://' + uri)}, or https where the server speaks it"
        )
    if scheme in _STORES:
        raise Mistake(
            f"{shown(uri)} is a place for artifacts, not a tracking server",
            f"write artifact_location = {shown(uri)} in [mlflow], and {_LEAVE_OUT}",
        )
    if scheme in {"", "file"}:
        raise Mistake(f"{shown(uri)} is a file store, which MLflow 3 has retired", _LEAVE_OUT)
    if scheme in _REGISTRIES:
        # MLflow 3.17 raises for both: _get_databricks_uc_rest_store in mlflow/tracking/_tracking_service/utils.py.
        raise Mistake(f"{shown(uri)} is a model registry, not a tracking server", 'write "databricks"')
    if scheme == "databricks":
        return uri
    if scheme in _SERVERS:
        return _check_server(uri)
    if engine in _DATABASES:
        return _check_database(uri, engine)
    if engine == "postgres":
        raise Mistake(f"{shown(uri)} has a scheme that SQLAlchemy does not know", 'write it with "postgresql://"')
    raise Mistake(
        f"{shown(uri)} is no tracking URI",
        'write a server ("http://mlflow:5000"), a database ("sqlite:////srv/mlflow.db", "postgresql://…", "mysql://…", '
        '"mssql://…") or "databricks"',
    )


def check_artifact_location(location: str) -> str:
    """Accept a URL or an absolute path.

    Returns:
        The location itself.

    Raises:
        Mistake: For anything else.
    """
    scheme = _scheme(location)
    example = 'write a URL or an absolute path, as "s3://bucket/path" or "/srv/artifacts"'
    if scheme.partition("+")[0] in _DATABASES:
        raise Mistake(f"{shown(location)} is a tracking database", f"write tracking_uri = {shown(location)} instead")
    if scheme in {"runs", "models"}:
        raise Mistake(f"{shown(location)} names a run or a model, not a place", example)
    if location.startswith("/"):
        return location
    _, _, path = location.partition(":")
    if not scheme or not path.startswith("/") or not path.strip("/"):
        # MLflow knows these two with nothing after the scheme: the server's or the workspace's own root.
        if location not in {"mlflow-artifacts:/", "mlflow-artifacts://", "dbfs:/"}:
            raise Mistake(f"{shown(location)} is neither a URL nor an absolute path", example)
    elif scheme == "file" and urlsplit(location).netloc not in {"", "localhost"}:
        raise Mistake(f"{shown(location)} is no file on this host", f"write {shown('file:///' + path.lstrip('/'))}")
    return location


def sqlite_file(uri: str) -> str | None:
    """The file of a SQLite tracking URI; relative ones are seen from the current folder, as SQLite sees them."""
    if _scheme(uri).partition("+")[0] != "sqlite":
        return None
    return os.path.abspath(uri.partition(":///")[2].partition("?")[0])


def local_folder(location: str) -> str | None:
    """The folder that an artifact location names on this host, if it does."""
    if location.startswith("/"):
        return location
    return unquote(urlsplit(location).path) if _scheme(location) == "file" else None


def _scheme(uri: str) -> str:
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def _check_server(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, brackets that do not close
        is_whole = False
    if not is_whole or any(character.isspace() for character in uri):
        raise Mistake(f"{shown(uri)} is no URL of a server", 'write it with host and port, as "http://mlflow:5000"')
    return uri


def _check_database(uri: str, engine: str) -> str:
    _, slashes, rest = uri.partition("://")
    if engine == "sqlite":
        path = rest.partition("?")[0]
        if not path.startswith("/") or path.strip("/") in {"", ":memory:"}:
            raise Mistake(
                f"{shown(uri)} names no file, so nothing would be kept",
                'write three slashes and the path, as "sqlite:////srv/mlflow/mlflow.db"',
            )
    elif not slashes or not rest.strip("/"):
        raise Mistake(f"{shown(uri)} names no database", f'write it as "{engine}://user@host/database"')
    return uri


def embedded_uri(state_dir: Path) -> str:
    """The embedded store's tracking URI."""
    return f"sqlite:///{state_dir}/mlflow.db"
