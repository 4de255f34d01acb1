"""What a store says of a content is what was made of it while it was read; and a store that lies is caught."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from artifactd.delivery.messages import (
    Deliver,
    Finished,
    NotDelivered,
    Outcomes,
    PrepareRun,
    Root,
    RunReady,
    Stored,
    Target,
)
from artifactd.delivery.worker import Worker
from artifactd.errors import Kind, Scope
from artifactd.ledger import DueFile, FileId
from artifactd.tracking import artifacts as room
from artifactd.tracking import tether
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.runs import RunSpec
from artifactd.tracking.sdks import s3
from artifactd.watching.signature import Signature
from stores import azurite, fakegcs, seaweed
from stores.objects import ObjectStore
from stores.site import write_sparsely

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

MIB = 2**20


class Bench:
    """A worker before an object store; the runs are in a database of its own."""

    def __init__(self, base: Path, store: ObjectStore) -> None:
        self.store = store
        self.drop = base / "drop"
        self.drop.mkdir()
        self.target = Target(f"sqlite:///{base}/mlflow.db", base / "unused")
        self.worker = Worker()
        self.location = f"{store.artifact_location}/{base.name}"
        spec = RunSpec(key="k" * 40, run_id=None, experiment="e", artifact_location=self.location, name="r")
        (ready,) = self.worker.do(PrepareRun(self.target, 1, spec))
        assert isinstance(ready, RunReady)
        self.run_id = ready.run_id

    def deliver(self, *names: str, folder: str = "") -> list[Any]:
        files = tuple(self._due(name, folder) for name in names)
        job = Deliver(self.target, 1, self.run_id, Root(os.fsencode(self.drop), None, leases=True), files)
        *parts, end = self.worker.do(job)
        assert isinstance(end, Finished), end
        return [r for part in parts if isinstance(part, Outcomes) for r in part.results]

    def _due(self, name: str, folder: str) -> DueFile:
        signature = Signature.of((self.drop / name).lstat())
        return DueFile(FileId(1, name.encode()), name.encode(), signature, folder, name, 1, None, 0, 0.0)

    def put(self, path: str, content: bytes, *, part: int = 0) -> None:
        """Overwrite an artifact behind artifactd's back, with the SDK alone."""
        url = urlsplit(self.location)
        key = f"{url.path.lstrip('/')}/{self.run_id}/artifacts/{path}"
        _PUT[url.scheme](self.store.endpoint, key, content, part)


def _put_s3(endpoint: str, key: str, content: bytes, part: int) -> None:
    client = seaweed.client(endpoint)
    try:
        if not part:
            client.put_object(Bucket=seaweed.BUCKET, Key=key, Body=content)
            return
        names = {"Bucket": seaweed.BUCKET, "Key": key}
        upload = client.create_multipart_upload(**names)["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(content), part), 1):
            done = client.upload_part(**names, UploadId=upload, PartNumber=number, Body=content[start : start + part])
            parts.append({"PartNumber": number, "ETag": done["ETag"]})
        client.complete_multipart_upload(**names, UploadId=upload, MultipartUpload={"Parts": parts})
    finally:
        client.close()


def _put_azure(endpoint: str, key: str, content: bytes, _: int) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(azurite.connection_string(endpoint)) as client:
        client.get_blob_client(azurite.CONTAINER, key).upload_blob(content, overwrite=True)


def _put_gcs(endpoint: str, key: str, content: bytes, _: int) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(project="test", credentials=AnonymousCredentials())
    client.bucket(fakegcs.BUCKET).blob(key).upload_from_string(content)
    client.close()


_PUT: dict[str, Callable[[str, str, bytes, int], None]] = {"s3": _put_s3, "wasbs": _put_azure, "gs": _put_gcs}


@pytest.fixture
def bench(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    yield from _bench(object_store, monkeypatch, tmp_path)


@pytest.fixture
def s3_bench(seaweed: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    yield from _bench(seaweed, monkeypatch, tmp_path)


def _bench(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, base: Path) -> Iterator[Bench]:
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    room._distrusted.clear()
    room._proven.clear()
    yield Bench(base, store)
    room._distrusted.clear()


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen after an upload, before it is verified."""
    upload = RunArtifacts.upload

    def and_then(self: RunArtifacts, *args: Any, **more: Any) -> None:
        upload(self, *args, **more)
        act()

    monkeypatch.setattr(RunArtifacts, "upload", and_then)


def not_read_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The artifacts that are read back from now on."""
    brought: list[str] = []
    digest = RunArtifacts.digest

    def noted(self: RunArtifacts, path: str, size: int) -> bytes | None:
        brought.append(path)
        return digest(self, path, size)

    monkeypatch.setattr(RunArtifacts, "digest", noted)
    return brought


def test_its_word_is_ours_at_every_size_and_nothing_is_read_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    brought = not_read_back(monkeypatch)
    sizes = (0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 17 * MIB, 65 * MIB)
    for size in sizes:
        (bench.drop / f"{size}.bin").write_bytes(os.urandom(size))
    results = bench.deliver(*(f"{size}.bin" for size in sizes), folder="a/b")
    assert all(isinstance(r, Stored) for r in results), results
    assert brought == []
    assert room._proven == {(urlsplit(bench.location).netloc, False), (urlsplit(bench.location).netloc, True)}


@pytest.mark.big
@pytest.mark.timeout(1800)
def test_its_word_is_ours_for_what_no_single_request_takes(s3_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """768 parts of 8 MiB, past S3's 5 GiB for one request."""
    brought = not_read_back(monkeypatch)
    write_sparsely(s3_bench.drop / "huge", 6 * 1024 * MIB)
    (result,) = s3_bench.deliver("huge")
    assert isinstance(result, Stored)
    assert brought == []
    assert room._proven == {(urlsplit(s3_bench.location).netloc, True)}


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_another_content_of_that_size_is_not_called_stored(
    size: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(size)
    (bench.drop / "f").write_bytes(content)
    (bench.drop / "other").write_bytes(b"right")
    with monkeypatch.context() as patch:
        between(patch, lambda: bench.put("a/f", bytes(size)))
        lie, right = bench.deliver("f", "other", folder="a")
        lie, right = (lie, right) if lie.file.leaf == "f" else (right, lie)
    assert isinstance(lie, NotDelivered)
    assert (lie.failure.kind, lie.failure.scope, lie.touched) == (Kind.TRANSIENT, Scope.FILE, True)
    assert "another content of that size" in lie.failure.error
    assert isinstance(right, Stored)
    (again,) = bench.deliver("f", folder="a")
    assert isinstance(again, Stored)


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_s3_refuses_what_arrives_as_something_else(size: int, s3_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (s3_bench.drop / "f").write_bytes(os.urandom(size))
    with monkeypatch.context() as patch:
        patch.setattr(tether, "made", lambda _: bytes(16))
        patch.setattr(s3, "_md5_of", lambda _: bytes(16))
        (refused,) = s3_bench.deliver("f")
    assert isinstance(refused, NotDelivered)
    assert (refused.failure.kind, refused.failure.scope) == (Kind.TRANSIENT, Scope.FILE)
    assert "got other bytes than were sent" in refused.failure.error
    (again,) = s3_bench.deliver("f")
    assert isinstance(again, Stored)


def test_a_checksum_of_another_kind_is_no_lie(s3_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same content in other parts has another ETag, as an encrypted object has: read back once, then left alone."""
    bench = s3_bench
    brought = not_read_back(monkeypatch)
    content = os.urandom(12 * MIB)
    (bench.drop / "f").write_bytes(content)
    (bench.drop / "g").write_bytes(content)
    with monkeypatch.context() as patch:
        between(patch, lambda: bench.put("f", content, part=6 * MIB))
        (first,) = bench.deliver("f")
    assert isinstance(first, Stored)
    assert brought == ["f"]
    with monkeypatch.context() as patch:
        between(patch, lambda: bench.put("g", content, part=6 * MIB))
        (second,) = bench.deliver("g")
    assert isinstance(second, Stored)
    assert brought == ["f"]


def test_blocks_of_azure_are_compared_as_they_come(
    azurite: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Above 64 MiB Azure keeps no checksum: there each block goes with its own, which the store holds against it."""
    from azure.storage.blob._generated.operations import BlockBlobOperations

    seen: list[object] = []
    stage = BlockBlobOperations.stage_block

    def noted(self: Any, *args: Any, **more: Any) -> Any:
        seen.append(more.get("validate_content"))
        return stage(self, *args, **more)

    monkeypatch.setattr(BlockBlobOperations, "stage_block", noted)
    for name, value in azurite.environ.items():
        monkeypatch.setenv(name, value)
    source = tmp_path / "f"
    source.write_bytes(bytes(65 * MIB))
    store = RunArtifacts(f"{azurite.artifact_location}/blocks", "sqlite:////nowhere.db")
    with source.open("rb") as stream:
        store.upload(stream.fileno(), 65 * MIB, "", "f")
    assert len(seen) == 17
    assert all(seen)
