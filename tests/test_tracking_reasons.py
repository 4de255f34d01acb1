"""Why an MLflow server refuses: the setting that is meant, by what was said alone."""

from __future__ import annotations

import pytest

from artifactd.errors import Kind, Scope
from artifactd.tracking.reasons import of_server

URI = "https://ada:hunter2@mlflow.example"


@pytest.mark.parametrize(
    ("text", "says", "cure"),
    [
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer", "is not trusted", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "is not trusted", "Renew"),
        ("CERTIFICATE_VERIFY_FAILED: IP address mismatch", "is not trusted", "mlflow.tracking_uri"),
        ("CERTIFICATE_VERIFY_FAILED: not valid for 'mlflow.example'", "is not trusted", "mlflow.tracking_uri"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "no TLS connection", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
    ],
)
def test_tls(text: str, says: str, cure: str) -> None:
    failure = of_server(URI, ["ConnectionError", "SSLError"], [], None, text, Scope.RUN)
    assert failure is not None
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
    assert says in failure.error
    assert cure in failure.cure
    assert "hunter2" not in failure.error + failure.cure


@pytest.mark.parametrize(
    ("status", "text", "scope", "says"),
    [
        (403, "Invalid Host header - possible DNS rebinding attack detected", Scope.TARGET, "Invalid Host header"),
        (503, "Artifact serving is disabled: --no-serve-artifacts", Scope.FILE, "serves no artifacts"),
        (403, "Permission denied", Scope.RUN, "no permission there"),
        (403, "Forbidden by the gateway", Scope.FILE, "answered 403"),
        (401, "You are not authenticated", Scope.TARGET, "does not accept the credentials of 'ada'"),
    ],
)
def test_a_refusal_holds_back_what_it_concerns_and_no_more(status: int, text: str, scope: Scope, says: str) -> None:
    failure = of_server(URI, [], [], status, text, Scope.FILE)
    assert failure is not None
    assert (failure.kind, failure.scope) == (Kind.PAUSED, scope)
    assert says in failure.error
    assert "hunter2" not in failure.error


def test_a_401_without_credentials_says_which_to_set() -> None:
    failure = of_server("https://mlflow.example", [], ["UNAUTHENTICATED"], None, "", Scope.RUN)
    assert failure is not None
    assert "no credentials are set" in failure.error
    assert "MLFLOW_TRACKING_USERNAME" in failure.cure


@pytest.mark.parametrize(
    ("uri", "status", "text"),
    [("s3://bucket", 403, "Permission denied"), ("sqlite:///m.db", None, "x"), (URI, 500, "boom"), (URI, None, "away")],
)
def test_what_is_no_server_or_no_such_reason_is_left_to_others(uri: str, status: int | None, text: str) -> None:
    assert of_server(uri, [], [], status, text, Scope.RUN) is None
