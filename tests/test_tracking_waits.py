from __future__ import annotations

from pathlib import Path

import pytest

from artifactd.errors import DeliveryError
from artifactd.tracking import environment, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.waits import note_answers
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
