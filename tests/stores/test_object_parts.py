"""A part of a big object that is refused for a moment is sent again; the whole is not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError, Kind
from artifactd.tracking import environment
from artifactd.tracking.artifacts import RunArtifacts
from faults.proxy import Fault, Proxy, uploads
from stores.objects import ObjectStore, moved

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

MIB = 2**20
KNOWN_WITHIN = 15.0
SIZES = {"s3": 40 * MIB, "wasbs": 72 * MIB, "gs": 120 * MIB}
"""Several parts each: of 8, 4 and 100 MiB."""
PARTS = {"s3": 8 * MIB, "wasbs": 4 * MIB, "gs": 100 * MIB}


@pytest.fixture
def proxy(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    environment.prepare(f"sqlite:///{tmp_path}/mlflow.db")
    standing = Proxy(object_store.endpoint)
    for name, value in moved(object_store, standing.uri).items():
        monkeypatch.setenv(name, value)
    yield standing
    standing.close()


@pytest.fixture
def artifacts(proxy: Proxy, object_store: ObjectStore, tmp_path: Path) -> RunArtifacts:
    assert proxy.uri
    return RunArtifacts(f"{object_store.artifact_location}/{tmp_path.name}", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def scheme(object_store: ObjectStore) -> str:
    return object_store.artifact_location.partition(":")[0]


def put(artifacts: RunArtifacts, path: Path) -> None:
    with path.open("rb") as stream:
        artifacts.upload(stream.fileno(), path.stat().st_size, "", path.name)


@pytest.mark.parametrize(("status", "seconds"), [(503, 0.0), (500, 2.5)])
def test_it_is_sent_again_alone(
    status: int, seconds: float, artifacts: RunArtifacts, proxy: Proxy, scheme: str, tmp_path: Path
) -> None:
    """However long it takes to be sent."""
    big = tmp_path / "big"
    big.write_bytes(os.urandom(SIZES[scheme]))
    rate = PARTS[scheme] / seconds if seconds else 0.0
    with proxy.misbehaving(Fault("answer", where=uploads, status=status, times=2, rate=rate)):
        put(artifacts, big)
    assert proxy.counts.wrong == 2
    assert proxy.counts.sent() <= SIZES[scheme] + 2 * (PARTS[scheme] + MIB)
    assert artifacts.sizes("") == {"big": SIZES[scheme]}
    artifacts.download("big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()


def test_a_trouble_that_stays_is_known_in_time(
    artifacts: RunArtifacts, proxy: Proxy, scheme: str, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(SIZES[scheme]))
    begun = time.monotonic()
    with (
        proxy.misbehaving(Fault("answer", where=uploads, status=503)),
        pytest.raises(DeliveryError) as caught,
    ):
        put(artifacts, big)
    assert time.monotonic() - begun < KNOWN_WITHIN
    assert caught.value.failure.kind is Kind.TRANSIENT
    assert caught.value.failure.crowded
