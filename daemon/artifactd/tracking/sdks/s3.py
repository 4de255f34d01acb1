"""S3: MLflow's repository with a client of boto3 that tries once.

The client is made by MLflow's own function, so that each of its variables works, from a session of ours: that session's
settings are what botocore falls back to, for S3 and for the roles and tokens on the way there. MLflow (3.17) keeps
clients for 300 s, and boto3's default session keeps credentials for ever: both are passed by.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import lru_cache, partial
from io import BytesIO
from typing import Any

from artifactd.tracking import tether
from artifactd.tracking.content import content_type
from artifactd.tracking.sdks import again, unfinished
from artifactd.tracking.sdks.checksums import Checksum, note
from artifactd.tracking.sdks.listing import Entry, page
from artifactd.tracking.sdks.patience import CONNECT, SILENCE, install
from artifactd.tracking.sdks.shared import Shared


def _files(environ: Mapping[str, str]) -> Iterator[str]:
    yield environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    yield environ.get("AWS_CONFIG_FILE", "~/.aws/config")


shared = Shared(("AWS_", "MLFLOW_S3_", "MLFLOW_BOTO_", "MLFLOW_EXPERIMENTAL_S3_"), _files)


_PART = 8 * 2**20
"""Bytes from which an object is sent in parts, and of each part: boto3's own defaults; ETags rest on them."""


_BLOCK = 2**18
"""Bytes that are read at a time."""

_CHOICE = "request_checksum_calculation"
"""What a user may have set, also as AWS_REQUEST_CHECKSUM_CALCULATION: then checksums are left to botocore."""

_WITHOUT_MD5 = ("--x-s3", "--xa-s3")
"""How names of directory buckets and of their access points end: these take no MD5, but botocore's CRC-32."""


class NotAStoreError(Exception):
    """What was answered is well-formed, and yet no answer of an S3 server."""


def repository(artifact_uri: str, tracking_uri: str) -> Any:
    """MLflow's repository for an s3:// URI."""
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository  # noqa: PLC0415 (MLflow is slow)

    repo: Any = S3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri)
    repo._get_s3_client = partial(shared.get, "", _client)
    return repo


def summing(size: int) -> Checksum:
    """What becomes the ETag of a content of so many bytes."""
    if size < _PART:
        return Checksum()
    from s3transfer.utils import ChunksizeAdjuster  # noqa: PLC0415  (comes with boto3)

    return Checksum(ChunksizeAdjuster().adjust_chunksize(_PART, size))


def _upload(client: Any, in_parts: Callable[..., None], **call: Any) -> None:
    """Send a small object by the one request that it is: boto3's transfers start three threads for each."""
    call["ExtraArgs"] = _labelled(call["Bucket"], call["Filename"], call["ExtraArgs"] or {})
    if os.path.getsize(call["Filename"]) >= _PART:
        in_parts(**call, Callback=tether.sent)
        return
    with open(call["Filename"], "rb") as body:
        client.put_object(Bucket=call["Bucket"], Key=call["Key"], Body=body, **call["ExtraArgs"])


def put(repo: Any, content: bytes, _like: int, folder: str, leaf: str) -> bool:
    """Store a small content as MLflow's own ``log_artifact`` does; always True.

    Args:
        repo: Of ``repository``.
        content: All of it.
        folder: Artifact path of the folder.
        leaf: The artifact's name.
    """
    bucket, top = repo.parse_s3_compliant_uri(repo.artifact_uri)
    call = {"Bucket": bucket, "Key": posixpath.join(top, folder, leaf), "Body": content}
    repo._get_s3_client().put_object(**call, **_labelled(bucket, leaf, repo._bucket_owner_params))
    return True


def few(repo: Any, folder: str, names: Collection[str]) -> Iterator[Entry]:
    """As ``sdks.few``."""
    bucket, top = repo.parse_s3_compliant_uri(repo.artifact_uri)
    if bucket.endswith(_WITHOUT_MD5):
        return  # lists in no order
    prefix = posixpath.join(top, folder, "")
    first = min(names)
    # S3 begins after a name. The one right before is not to be had; with a smaller end it is near enough.
    end = chr(ord(first[-1]) - 1) if "!" <= first[-1] <= "~" else ""
    before = prefix + first[:-1] + end
    where = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", **({"StartAfter": before} if before else {})}
    answer = repo._get_s3_client().list_objects_v2(**where, MaxKeys=page(names), **repo._bucket_owner_params)
    for item in answer.get("Contents", ()):
        yield item["Key"][len(prefix) :], item["Size"], False


def _labelled(bucket: str, path: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with an object: of type and encoding what the user has set, or else what its name says."""
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository  # noqa: PLC0415 (MLflow is slow)

    kept = {name: value for name, value in extra.items() if name not in ("ContentType", "ContentEncoding")}
    theirs = S3ArtifactRepository.get_s3_file_upload_extra_args() or {}
    summed = {"ChecksumAlgorithm": "CRC32"} if bucket.endswith(_WITHOUT_MD5) else {}
    return {**kept, **summed, "ContentType": content_type(os.path.basename(path)), **theirs}


def _time(value: Any) -> datetime:
    """A time, as botocore has it: its own parser, which takes any format, is half the work of a listing."""
    from botocore.utils import parse_timestamp  # noqa: PLC0415  (an extra)

    if isinstance(value, str) and value.endswith("Z"):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def _listed(parsed: dict[str, Any], **_: Any) -> None:
    if parsed.get("ResponseMetadata", {}).get("HTTPStatusCode") == 200 and "IsTruncated" not in parsed:
        raise NotAStoreError("the listing is a web page")  # which botocore takes for a bucket without objects
    for item in parsed.get("Contents", ()):
        note(item["Key"], item.get("ETag", "").strip('"'))


def _asks_once(context: dict[str, Any], **_: Any) -> None:
    """Have a bucket's region asked for once: botocore asks anew where that is redirected itself, without end."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _at_once(request: Any, **_: Any) -> None:
    """Have a small content go out with its headers: to ask first whether it is wanted takes longer than to send it."""
    if isinstance(request.body, bytes | BytesIO) and "Expect" in request.headers:  # no file is given as bytes
        del request.headers["Expect"]


def _md5(params: dict[str, Any], **_: Any) -> None:
    """Name a body's MD5, which S3 makes of it anyway, for its ETag, and refuses the body if it is another."""
    if not params["Bucket"].endswith(_WITHOUT_MD5):
        made = tether.made(params["PartNumber"]) if "PartNumber" in params else None
        params["ContentMD5"] = b64encode(made or _md5_of(params["Body"])).decode()


def _md5_of(body: Any) -> bytes:
    if isinstance(body, bytes):
        return hashlib.md5(body, usedforsecurity=False).digest()
    md5 = hashlib.md5(usedforsecurity=False)
    while block := body.read(_BLOCK):
        md5.update(block)
    body.seek(0)
    return md5.digest()


def _by_md5(request: Any, **_: Any) -> None:
    """Sign the MD5, and the body by it; over plain HTTP, botocore would have a SHA-256 of the body as well."""
    if "Content-MD5" in request.headers:
        request.context["client_config"] = _body_unsigned(request.context["client_config"])


@lru_cache(maxsize=4)
def _body_unsigned(config: Any) -> Any:
    said = config.s3 or {}
    return config.merge(type(config)(s3={"payload_signing_enabled": False, **said}))


def _again(response: tuple[Any, Any] | None, attempts: int, **_: Any) -> float | None:
    """Seconds after which a part is sent again; None where it is not."""
    if response is None or attempts > again.TRIES or not again.passes(response[0].status_code):
        return None
    return again.wait(attempts)


_loader: Any = None
"""Gives botocore its descriptions of services; kept, those of S3 are read once for all processes forked from this."""


def preload() -> None:
    """Import the SDK, and read what it knows of S3: half of what a process would need for itself; nobody is asked."""
    import boto3.s3.transfer  # noqa: F401, PLC0415  (an extra)
    import mlflow.store.artifact.s3_artifact_repo  # noqa: F401, PLC0415
    from botocore.session import Session  # noqa: PLC0415

    global _loader  # noqa: PLW0603
    session = Session()
    nobody = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    session.create_client("s3", region_name="us-east-1", **nobody).close()
    _loader = session.get_component("data_loader")


def _client() -> Any:
    import boto3  # noqa: PLC0415  (an extra)
    from boto3.s3.transfer import TransferConfig  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415
    from mlflow.store.artifact import s3_artifact_repo as theirs  # noqa: PLC0415

    install()
    session = Session()
    if _loader is not None:
        session.register_component("data_loader", _loader)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    choice = os.environ.get("AWS_REQUEST_CHECKSUM_CALCULATION") or session.get_scoped_config().get(_CHOICE)
    session.set_default_client_config(
        Config(
            connect_timeout=CONNECT,
            read_timeout=SILENCE,
            retries={"total_max_attempts": 1, "mode": "standard"},
            tcp_keepalive=True,
            request_checksum_calculation=choice or "when_required",
        )
    )
    boto3.setup_default_session(botocore_session=session)
    theirs._cached_get_s3_client.cache_clear()
    client = theirs._get_s3_client()
    # Amazon's other engine (awscrt) is taken by itself on some machines, and has a policy of its own.
    once = TransferConfig(
        multipart_threshold=_PART,
        multipart_chunksize=_PART,
        num_download_attempts=1,
        preferred_transfer_client="classic",
    )
    client.meta.events.register("after-call.s3.ListObjectsV2", _listed)
    client.meta.events.register("before-call.s3.HeadBucket", _asks_once)
    client.meta.events.register("before-send.s3.PutObject", _at_once)
    client.meta.events.register("needs-retry.s3.UploadPart", _again)
    if choice is None:
        for sending in ("PutObject", "UploadPart"):
            client.meta.events.register(f"before-parameter-build.s3.{sending}", _md5)
            client.meta.events.register(f"before-sign.s3.{sending}", _by_md5)
    unfinished.watch(client)
    client.upload_file = partial(_upload, client, partial(client.upload_file, Config=once))
    client.download_file = partial(client.download_file, Config=once)
    return client
