"""First contact with a tracking URI: is it there, is it MLflow, does it send us elsewhere?

Asked before anything is sent, so that a wrong address is told with the right one; what changes later, ``answers``
notices.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import address, answers, environment, prompt, waits
from artifactd.tracking.answers import web_page
from artifactd.tracking.classify import classify
from artifactd.whose import make_file, make_folders

if TYPE_CHECKING:
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
    environment.preload()
    waits.note_answers()
    answers.check_answers()
    prompt.acknowledge_at_once()
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

    if creds(tracking_uri).ignore_tls_verification:
        import urllib3  # noqa: PLC0415  (comes with MLflow)

        # A user's own choice, which `check` warns of: not to be said again at each request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    try:
        answer = http_request(creds(tracking_uri), "/version", "GET")
        address.note_version(tracking_uri, answer.text if answer.ok else "")
    except Exception as exc:
        failure = classify(exc, target=tracking_uri, scope=Scope.TARGET)
        _suggest_scheme(tracking_uri, failure.error, exc)
        raise
    if answer.status_code == requests.codes.bad_request:
        _suggest_scheme(tracking_uri, answer.text, None)
    if answer.status_code == requests.codes.not_found:
        other = address.other_prefix(tracking_uri)
        if other is not None:
            raise _misaddressed(f"{mask(tracking_uri)} is not where the MLflow server of this host is", other)
        return  # a gateway may hide this page alone: the REST calls will tell
    if answer.status_code != requests.codes.ok:
        answer.raise_for_status()
    if "<html" in answer.text[:2000].lower():
        raise DeliveryError(web_page(tracking_uri))


def _suggest_scheme(tracking_uri: str, said: str, cause: Exception | None) -> None:
    other = address.other_scheme(tracking_uri, said)
    if other is not None:
        how = "speaks TLS, and was asked without" if other.startswith("https") else "does not speak TLS"
        raise _misaddressed(f"{mask(tracking_uri)} {how}", other) from cause


def _misaddressed(error: str, other: str) -> DeliveryError:
    return DeliveryError(Failure(Kind.PAUSED, Scope.TARGET, error, f'Set mlflow.tracking_uri = "{mask(other)}"'))


def version(tracking_uri: str) -> str:
    """Which MLflow answers there, in words; for a URI that was connected to."""
    import mlflow  # noqa: PLC0415  (costs 80 MiB and seconds)

    if not tracking_uri.startswith(("http://", "https://")):
        return f"MLflow {mlflow.__version__} of this environment"
    from mlflow.utils.credentials import get_default_host_creds as creds  # noqa: PLC0415
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415

    answer = http_request(creds(tracking_uri), "/version", "GET")
    said = address.version_in(answer.text) if answer.status_code == 200 else None
    return (
        f"MLflow {said}" if said else "it does not tell its version (servers of old do not, and gateways may hide it)"
    )


def _make_embedded(tracking_uri: str, artifacts: Path) -> None:
    """Make the database with its artifact root: MLflow's own default would be ./mlruns of whatever folder we are in."""
    with environment.lean():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415

    make_folders(artifacts, 0o700)
    file = tracking_uri.partition("sqlite:///")[2]
    if (tracking_uri, artifacts) in _made and os.path.exists(file) and os.path.getsize(file):
        return  # by the process that this one was forked from: to look through its tables again costs 11 MiB
    make_file(Path(file), 0o644)
    SqlAlchemyStore(tracking_uri, artifacts.as_uri())
    _made.add((tracking_uri, artifacts))


_made: set[tuple[str, Path]] = set()
