"""Uploads in parts that a killed process left open in an S3 bucket, where nobody sees them and everybody pays for them.

Each is written down while it is under way, by its own number, in a folder that outlives the process, and the process
holds a lock on what it wrote; the next one that talks to S3 has those aborted that nobody holds. (Numbers of processes
would not do: they are given again, in a container at each start.) So nothing is touched that another host, or a person,
has open under the same name, and nothing needs to be listed. Azure drops blocks that were never committed after a
week, or when the blob is written anew; Google ends a session after a week.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from artifactd.tracking.environment import UNFINISHED
from artifactd.whose import make_file, make_folders

_MOST = 100
"""Uploads that are aborted at a time."""

_BUSY = 429
"""As each status from 500 on, the store's word for "another time"."""

_held: dict[str, int] = {}
"""The descriptors that hold the locks, by upload; one that was not ended well is held until the process ends."""


def watch(client: Any) -> None:
    """Have an S3 client write down its uploads in parts, and abort those that dead processes left."""
    folder = os.environ.get(UNFINISHED)
    if not folder:
        return
    place = Path(folder)
    _abort_left(client, place)
    events = client.meta.events
    events.register("after-call.s3.CreateMultipartUpload", lambda parsed, **_: _begun(place, parsed))
    for ended in ("CompleteMultipartUpload", "AbortMultipartUpload"):
        events.register(f"before-parameter-build.s3.{ended}", _remember)
        events.register(
            f"after-call.s3.{ended}",
            lambda parsed, context, **_: _over(place, context[_UPLOAD], parsed),
        )


_UPLOAD = "artifactd_upload"


def _remember(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context[_UPLOAD] = params["UploadId"]


def _record(place: Path, upload: str) -> Path:
    return place / f"{hashlib.sha256(upload.encode()).hexdigest()[:32]}.json"


def _begun(place: Path, parsed: dict[str, Any]) -> None:
    if "UploadId" not in parsed:
        return
    upload = {name: parsed[name] for name in ("Bucket", "Key", "UploadId")}
    with contextlib.suppress(OSError):  # a full disk is no reason not to deliver
        make_folders(place, 0o700)
        record = _record(place, upload["UploadId"])
        make_file(record)
        fd = os.open(record, os.O_WRONLY | os.O_CLOEXEC)
        _held[upload["UploadId"]] = fd
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, json.dumps(upload).encode())


def _over(place: Path, upload: str, parsed: dict[str, Any]) -> None:
    if parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) < 300:
        _record(place, upload).unlink(missing_ok=True)
        if (fd := _held.pop(upload, None)) is not None:
            os.close(fd)


def _abort_left(client: Any, place: Path) -> None:
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  (an extra)

    for record in sorted(place.glob("*.json"))[:_MOST]:
        with contextlib.suppress(OSError), record.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused by who has it under way
            try:
                if not _aborted(client, stream.read()):
                    continue
            except BotoCoreError:
                return  # the store is away
            record.unlink()


def _aborted(client: Any, record: bytes) -> bool:
    """Whether nothing is left to do about an upload."""
    from botocore.exceptions import ClientError  # noqa: PLC0415  (an extra)

    try:
        client.abort_multipart_upload(**json.loads(record))
    except ClientError as exc:
        # It is over, or we may not: the bucket's lifecycle rule is for that.
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        return bool(status < 500 and status != _BUSY)
    except (ValueError, TypeError):
        return True  # cut off by a crash
    return True
