"""What a redirect's answer says: which URL is to be set, and when there is none; no secret in it."""

from __future__ import annotations

import pytest

from artifactd.errors import Kind, Scope
from artifactd.tracking.answers import redirected, tracking_uri

PUT = "/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/a%20b"


@pytest.mark.parametrize("base", ["http://mlflow:5000", "https://mlflow.example.com/team/mlflow"])
@pytest.mark.parametrize("call", ["/version", PUT, "/api/3.0/mlflow/server-info?x=1"])
def test_the_tracking_uri_of_a_call(base: str, call: str) -> None:
    assert tracking_uri(base + call) == base


@pytest.mark.parametrize(
    ("location", "cure"),
    [
        (f"https://mlflow/m{PUT}", 'Set mlflow.tracking_uri = "https://mlflow/m"'),
        (f"//other{PUT}", 'Set mlflow.tracking_uri = "http://other"'),
        (f"/prefix{PUT}", 'Set mlflow.tracking_uri = "http://mlflow:5000/prefix"'),
        ("/oauth2/start?rd=x", "looks like a login page"),
        ("https://login.example.com/", "looks like a login page"),
        (PUT, "X-Forwarded-Proto"),
        (f"http://mlflow:5000{PUT}", "X-Forwarded-Proto"),
        ("https://elsewhere.example.com/welcome", "if that is the server"),
        ("http://[x/", "if that is the server"),
        ("http://[1]x/", "if that is the server"),
        ("ps:////http:x[://y", "if that is the server"),
    ],
)
def test_what_to_do_about_a_redirect(location: str, cure: str) -> None:
    failure = redirected(f"http://mlflow:5000{PUT}", location)
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
    assert cure in failure.cure


def test_no_secret_is_said() -> None:
    failure = redirected(
        f"http://ana:hunter2-secret@mlflow{PUT}", f"https://ana:hunter2-secret@mlflow{PUT}?token=abcdefgh"
    )
    assert "hunter2-secret" not in str(failure)
    assert "abcdefgh" not in str(failure)
