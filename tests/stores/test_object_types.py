"""The content type that each object store keeps of what was uploaded: what a browser is told that opens the object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from artifactd.names import encode_component
from artifactd.tracking import environment
from artifactd.tracking.artifacts import RunArtifacts
from stores.objects import ObjectStore

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

TYPES = {
    b"plot.png": "image/png",
    b"drawing.svg": "image/svg+xml",
    b"picture.webp": "image/webp",
    b"table.csv": "text/csv",
    b"table.tsv": "text/tab-separated-values",
    b"table.parquet": "application/vnd.apache.parquet",
    b"lines.jsonl": "application/x-ndjson",
    b"params.yaml": "application/yaml",
    b"pyproject.toml": "application/toml",
    b"README.md": "text/markdown",
    b"train.log": "text/plain",
    b"MLmodel": "application/yaml",
    b"notebook.ipynb": "application/x-ipynb+json",
    b"weights.npz": "application/zip",
    b"model.safetensors": "application/octet-stream",
    b"no suffix": "application/octet-stream",
    b"table.csv.gz": "application/gzip",
    b"all.tar.xz": "application/x-xz",
    b"loss#1 50%.PNG": "image/png",
}


@pytest.fixture
def artifacts(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunArtifacts:
    environment.prepare(f"sqlite:///{tmp_path}/mlflow.db")
    for name, value in object_store.environ.items():
        monkeypatch.setenv(name, value)
    return RunArtifacts(f"{object_store.artifact_location}/{tmp_path.name}", f"sqlite:///{tmp_path}/mlflow.db")


def put(artifacts: RunArtifacts, path: Path, leaf: str, size: int = 3) -> None:
    path.write_bytes(b"abc" * (size // 3))
    with path.open("rb") as stream:
        artifacts.upload(stream.fileno(), path.stat().st_size, "", leaf)


def kept(store: ObjectStore, folder: str) -> dict[str, tuple[str, str]]:
    """Content type and encoding of each object, by its name, as the store's own client has them."""
    scheme, _, rest = store.artifact_location.partition("://")
    bucket, _, top = rest.partition("/")
    prefix = f"{top}/{folder}/".lstrip("/")
    found: dict[str, tuple[Any, Any]]
    if scheme == "s3":
        import boto3

        s3: Any = boto3.session.Session().client("s3", endpoint_url=store.environ["MLFLOW_S3_ENDPOINT_URL"])
        names = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
        heads = {name: s3.head_object(Bucket=bucket, Key=name) for name in names}
        found = {name: (head["ContentType"], head.get("ContentEncoding")) for name, head in heads.items()}
    elif scheme == "gs":
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        client: Any = storage.Client(project="p", credentials=AnonymousCredentials())
        found = {b.name: (b.content_type, b.content_encoding) for b in client.list_blobs(bucket, prefix=prefix)}
    else:
        from azure.storage.blob import BlobServiceClient

        service: Any = BlobServiceClient.from_connection_string(store.environ["AZURE_STORAGE_CONNECTION_STRING"])
        with service:
            blobs = service.get_container_client(bucket.partition("@")[0]).list_blobs(name_starts_with=prefix)
            found = {b.name: (b.content_settings.content_type, b.content_settings.content_encoding) for b in blobs}
    return {name.removeprefix(prefix): (kind, encoding or "") for name, (kind, encoding) in found.items()}


def test_each_object_has_the_type_of_its_name(
    artifacts: RunArtifacts, object_store: ObjectStore, tmp_path: Path
) -> None:
    for name in TYPES:
        put(artifacts, tmp_path / os.fsdecode(name), encode_component(name))
    assert kept(object_store, tmp_path.name) == {encode_component(name): (kind, "") for name, kind in TYPES.items()}


def test_so_has_a_big_one_which_goes_in_parts(
    artifacts: RunArtifacts, object_store: ObjectStore, tmp_path: Path
) -> None:
    size = (70 if "wasbs" in object_store.artifact_location else 9) * 2**20
    put(artifacts, tmp_path / "big", "table.csv.gz", size)
    assert kept(object_store, tmp_path.name) == {"table.csv.gz": ("application/gzip", "")}


def test_what_the_user_set_for_s3_wins(seaweed: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.prepare(f"sqlite:///{tmp_path}/mlflow.db")
    for name, value in seaweed.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_S3_UPLOAD_EXTRA_ARGS", '{"ContentType": "text/mine", "ContentEncoding": "gzip"}')
    artifacts = RunArtifacts(f"{seaweed.artifact_location}/{tmp_path.name}", f"sqlite:///{tmp_path}/mlflow.db")
    put(artifacts, tmp_path / "a", "table.csv.gz")
    assert kept(seaweed, tmp_path.name) == {"table.csv.gz": ("text/mine", "gzip")}
