"""S3's own arithmetic, in which parts an object of a size is sent, and what its requests say of their bodies."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError

from artifactd.delivery.hashing import hashing
from artifactd.tracking.sdks import s3

MIB = 2**20
MOST_PARTS = 10_000
"""S3's own limit."""


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1])
def test_a_small_one_is_its_md5(size: int) -> None:
    summed = s3.summing(size)
    summed.update(bytes(size))
    assert summed.value() == hashlib.md5(bytes(size), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (8 * MIB, 8 * MIB),
        (5 * 1024 * MIB + 1, 8 * MIB),
        (6 * 1024 * MIB, 8 * MIB),
        (MOST_PARTS * 8 * MIB, 8 * MIB),
        (MOST_PARTS * 8 * MIB + 1, 16 * MIB),
        (5 * 2**40, 1024 * MIB),
    ],
)
def test_a_big_one_is_in_parts_of_which_there_are_never_too_many(size: int, part: int) -> None:
    assert s3.summing(size).part == part
    assert -(-size // part) <= MOST_PARTS


@dataclass
class Wire:
    """What goes out to S3, which takes everything."""

    sent: dict[int, tuple[Mapping[str, str], bytes]] = field(default_factory=dict)
    """Headers and body by the number of the part; 0 for the whole."""

    def take(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        query = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
        if request.method == "PUT":
            body: Any = request.body
            content = body if isinstance(body, bytes) else body.read()
            self.sent[int(query.get("partNumber", ["0"])[0])] = (_text(request.headers), content)
        answer = b"<I><UploadId>u</UploadId></I>" if "uploads" in query else b"<C><ETag>e</ETag></C>"
        return AWSResponse(request.url, 200, {"ETag": '"e"'}, _Raw(answer))

    def __iter__(self) -> Iterator[tuple[Mapping[str, str], bytes]]:
        return iter(self.sent.values())


class _Raw(BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _text(headers: Any) -> dict[str, str]:
    return {k.lower(): v.decode() if isinstance(v, bytes) else v for k, v in headers.items()}


Upload = Callable[[str, int], Wire]


@pytest.fixture
def upload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Upload]:
    """Sends a file of so many bytes to a bucket, as a worker does it with a new file."""
    for name in os.environ:
        if name.startswith(("AWS_", "MLFLOW_S3_")):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "MLFLOW_S3_ENDPOINT_URL": "http://store.test",
    }.items():
        monkeypatch.setenv(name, value)

    def send(bucket: str, size: int) -> Wire:
        repo = s3.repository(f"s3://{bucket}/top", "http://127.0.0.1:1")
        wire = Wire()
        client = repo._get_s3_client()
        client.meta.events.register("before-send.s3", wire.take)
        path = tmp_path / "f.bin"
        path.write_bytes(os.urandom(size))
        with path.open("rb") as stream, hashing(stream.fileno(), s3.summing(size), near=True):
            repo.log_artifact(str(path))
        assert b"".join(wire.sent[n][1] for n in sorted(wire.sent)) == path.read_bytes()
        return wire

    yield send
    s3.shared.forget()


SIZES = pytest.mark.parametrize("size", [0, 1000, 8 * MIB - 1, 8 * MIB, 17 * MIB])


@SIZES
def test_each_body_is_signed_by_its_md5_alone(size: int, upload: Upload) -> None:
    for headers, body in upload("bucket", size):
        assert headers["content-md5"] == b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        assert "content-md5" in headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert not [name for name in headers if name.startswith("x-amz-checksum")]


def test_a_content_in_memory_is_as_well(upload: Upload) -> None:
    wire = upload("bucket", 1)
    repo = s3.repository("s3://bucket/top", "http://127.0.0.1:1")
    assert s3.put(repo, b"content", 0, "folder", "leaf")
    headers, body = wire.sent[0]
    assert body == b"content"
    assert headers["content-md5"] == b64encode(hashlib.md5(b"content", usedforsecurity=False).digest()).decode()
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("where", ["variable", "file"])
@SIZES
def test_who_has_chosen_checksums_has_these(
    size: int, where: str, upload: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if where == "variable":
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    else:
        (tmp_path / "config").write_text("[default]\nrequest_checksum_calculation = when_supported\n")
    for headers, body in upload("bucket", size):
        assert headers["x-amz-checksum-crc32"]
        assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        assert "content-md5" not in headers


def test_who_wants_bodies_signed_has_them_signed(upload: Upload, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\ns3 =\n  payload_signing_enabled = true\n")
    for headers, body in upload("bucket", 1000):
        assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("size", [1000, 17 * MIB])
def test_a_directory_bucket_which_takes_no_md5_gets_a_crc(size: int, upload: Upload) -> None:
    for headers, _ in upload("models--use1-az4--x-s3", size):
        assert headers["x-amz-checksum-crc32"]
        assert "content-md5" not in headers


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_that_names_no_region_is_followed_by_one_question_for_it(status: int, upload: Upload) -> None:
    client = s3.repository("s3://bucket/top", "http://127.0.0.1:1")._get_s3_client()
    asked: list[str] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        asked.append(request.method)
        return AWSResponse(request.url, status, {"Location": "https://console.test/"}, _Raw(b""))

    client.meta.events.register("before-send.s3", answer)
    with pytest.raises(ClientError, match=str(status)):
        client.list_objects_v2(Bucket="bucket")
    assert asked == ["GET", "HEAD"]


def test_a_redirect_into_another_region_is_followed(upload: Upload) -> None:
    client = s3.repository("s3://bucket/top", "http://127.0.0.1:1")._get_s3_client()
    asked: list[str] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        asked.append(request.method)
        if "/eu-west-1/" in str(_text(request.headers)["authorization"]):
            return AWSResponse(request.url, 200, {}, _Raw(b"<L><IsTruncated>false</IsTruncated></L>"))
        region = {"x-amz-bucket-region": "eu-west-1"} if request.method == "HEAD" else {}
        return AWSResponse(request.url, 301, region, _Raw(b""))

    client.meta.events.register("before-send.s3", answer)
    client.list_objects_v2(Bucket="bucket")
    assert asked == ["GET", "HEAD", "GET"]
