"""First contact with a tracking URI: is it there, is it MLflow, does it send us elsewhere?

Asked before anything is sent, since MLflow takes a redirect (to a login page, from http to https) for a success and
stores nothing, or an empty file over the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import environment, waits
from artifactd.tracking.classify import classify

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

Client: TypeAlias = "MlflowClient"
"""An ``MlflowClient``, for those who may not import MLflow."""


def connect(tracking_uri: str, *, embedded_artifacts: Path | None) -> Client:
    """A client of this server whose first contact went well.

    Args:
        tracking_uri: http(s) server or database URI.
        embedded_artifacts: Folder for the artifacts of the embedded store, which is made if it is not there.

    Raises:
        DeliveryError: With the failure that says whether and when to try again.
    """
    environment.prepare(tracking_uri)
    waits.note_retry_after()
    try:
        if tracking_uri.startswith(("http://", "https://")):
            _greet(tracking_uri)
        elif embedded_artifacts is not None:
            _make_embedded(tracking_uri, embedded_artifacts)
        from mlflow import MlflowClient  # noqa: PLC0415  (costs 80 MiB and seconds)

        return MlflowClient(tracking_uri, registry_uri=tracking_uri)
    except Exception as exc:
        raise DeliveryError(classify(exc, target=tracking_uri, scope=Scope.TARGET)) from exc


def _greet(tracking_uri: str) -> None:
    import requests  # noqa: PLC0415  (comes with MLflow, as slow as it)
    from mlflow.utils.credentials import get_default_host_creds as creds  # noqa: PLC0415
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415

    answer = http_request(creds(tracking_uri), "/version", "GET", allow_redirects=False)
    where = mask(tracking_uri)
    if answer.is_redirect:
        to = str(answer.headers.get("Location", ""))
        base = to.removesuffix("/version")
        moved = urlsplit(base)._replace(query="", fragment="").geturl()
        raise DeliveryError(
            Failure(
                Kind.PAUSED,
                Scope.TARGET,
                f"{where} redirects to {mask(to)}, where uploads would be lost",
                f'Set mlflow.tracking_uri = "{mask(moved)}" if that is the server, or give it credentials '
                "(MLFLOW_TRACKING_USERNAME and others) if that is a login page",
            )
        )
    if answer.status_code == requests.codes.not_found:
        return  # servers before 2.x of the path, and gateways that hide it: the REST calls will tell
    if answer.status_code != requests.codes.ok:
        answer.raise_for_status()
    if "<html" in answer.text[:2000].lower():
        raise DeliveryError(
            Failure(
                Kind.PAUSED,
                Scope.TARGET,
                f"{where} answers with a web page, not as an MLflow server",
                "Check mlflow.tracking_uri (host, port, path prefix) and whether a login page stands before it",
            )
        )


def _make_embedded(tracking_uri: str, artifacts: Path) -> None:
    """Make the database with its artifact root: MLflow's own default would be ./mlruns of whatever folder we are in."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
    SqlAlchemyStore(tracking_uri, artifacts.as_uri())
