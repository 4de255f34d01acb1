from __future__ import annotations

import io
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError

from artifactd.errors import DeliveryError, Scope
from artifactd.tracking import environment, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify
from artifactd.tracking.waits import note_answers, retry_after
from test_tracking_classify import answering


@pytest.mark.parametrize(("asked", "wait"), [("7", 7.0), ("0", 0.0), ("Wed, 21 Oct 2065 07:28:00 GMT", 0.0)])
@pytest.mark.parametrize("status", [429, 503])
def test_first_contact_tells_how_long_to_wait(status: int, asked: str, wait: float) -> None:
    with (
        answering(status, headers={"Retry-After": asked}) as uri,
        pytest.raises(DeliveryError) as caught,
    ):
        server.connect(uri, embedded_artifacts=None)
    assert caught.value.failure.retry_after == pytest.approx(wait, abs=1) or asked.startswith("Wed")


@pytest.mark.parametrize("status", [429, 503])
def test_a_refused_upload_tells_how_long_to_wait(status: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with answering(status, headers={"Retry-After": "7"}) as uri, (tmp_path / "f").open("rb") as f:
        environment.prepare(uri)
        note_answers()
        store = RunArtifacts(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1/2/artifacts", uri)
        with pytest.raises(DeliveryError) as caught:
            store.upload(f.fileno(), 1, "", "f")
    assert caught.value.failure.retry_after == 7.0


def test_a_refusal_without_the_header_asks_for_nothing() -> None:
    with answering(503) as uri, pytest.raises(DeliveryError) as caught:
        server.connect(uri, embedded_artifacts=None)
    assert caught.value.failure.retry_after == 0.0


def test_a_refusal_whose_words_are_nested_without_end_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with answering(503, body=b"[" * 100_000) as uri, pytest.raises(DeliveryError, match="503") as caught:
        server.connect(uri, embedded_artifacts=None)
    assert caught.value.failure.crowded
    answer = requests.Response()
    answer.status_code, answer.raw = 503, io.BytesIO(b"[" * 100_000)
    refused = type("ServiceUnavailable", (Exception,), {"__module__": "google.api_core.exceptions", "response": answer})
    assert classify(refused("busy"), target="gs://b", scope=Scope.RUN).crowded


@pytest.mark.parametrize("asked", ["-1", "nan", "inf", "1e999", "9" * 400, "soon", ""])
def test_a_wait_that_makes_no_sense_is_none(asked: str) -> None:
    answer = requests.Response()
    answer.headers["Retry-After"] = asked
    assert retry_after(requests.HTTPError(response=answer)) is None
    headers = {"ResponseMetadata": {"HTTPHeaders": {"retry-after": asked}}}
    assert retry_after(ClientError(headers, "PutObject")) is None
    noted = ValueError()
    noted.artifactd_retry_after = 10**400  # type: ignore[attr-defined]
    assert retry_after(noted) is None
