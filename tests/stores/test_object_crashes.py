"""The service killed in the middle of an upload, and started again: what is stored then, and what else is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stores import seaweed as s3
from stores.objects import ObjectStore
from stores.relay import Relay
from support import Oracle, Program, wait_for

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

MIB = 2**20


def test_an_upload_that_was_killed_is_sent_again_and_nothing_is_left_open(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(24 * MIB)
    location = f"{object_store.artifact_location}/{tmp_path.name}"
    program = Program(
        tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", more=f'artifact_location = "{location}"'
    )
    run = program.drop / "e" / "r"
    run.mkdir(parents=True)
    with Relay(int(object_store.endpoint.rpartition(":")[2])) as relay:
        there = f"http://127.0.0.1:{relay.port}"
        environ = {k: v.replace(object_store.endpoint, there) for k, v in object_store.environ.items()}
        relay.rate = 2 * MIB
        with program.running(**environ) as service:
            (run / "weights.bin").write_bytes(content)
            wait_for(lambda: relay.sent > 10 * MIB, f"half of it is sent; log:\n{program.text()}", 90)
            os.killpg(service.pid, signal.SIGKILL)
            service.wait(10)
        relay.rate = 0
        left = _open_uploads(object_store)
        assert len(left) == (1 if location.startswith("s3:") else 0)
        program.state.joinpath("unfinished").mkdir(exist_ok=True)
        with program.running(**environ):
            program.wait_idle(90)
    assert _open_uploads(object_store) == []
    assert list((program.state / "unfinished").iterdir()) == []
    for name, value in object_store.environ.items():
        monkeypatch.setenv(name, value)
    oracle = Oracle(f"sqlite:///{tmp_path}/mlflow.db")
    held = oracle.files(oracle.run("e", "r").info.run_id, tmp_path / "back")
    assert held == {b"weights.bin": content}


def _open_uploads(store: ObjectStore) -> list[str]:
    if urlsplit(store.artifact_location).scheme != "s3":
        return []
    client = s3.client(store.endpoint)
    try:
        return [u["Key"] for u in client.list_multipart_uploads(Bucket=s3.BUCKET).get("Uploads", [])]
    finally:
        client.close()
