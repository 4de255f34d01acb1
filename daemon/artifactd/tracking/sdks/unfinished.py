"""Uploads in parts that a killed process left open in an S3 bucket, where nobody sees them and everybody pays for them.

Each is written down while it is under way, by its own number, in a folder that outlives the process; the next process
that talks to S3 has those of dead ones aborted. So nothing is touched that another host, or a person, has open under
the same name, and nothing needs to be listed. Azure drops blocks that were never committed after a week, or when the
blob is written anew; Google ends a session after a week.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from artifactd.tracking.environment import UNFINISHED
from artifactd.whose import make_file, make_folders

_MOST = 100
"""Uploads that are aborted at a time."""


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
    return place / f"{os.getpid()}-{hashlib.sha256(upload.encode()).hexdigest()[:32]}.json"


def _begun(place: Path, parsed: dict[str, Any]) -> None:
    if "UploadId" not in parsed:
        return
    upload = {name: parsed[name] for name in ("Bucket", "Key", "UploadId")}
    with contextlib.suppress(OSError):  # a full disk is no reason not to deliver
        make_folders(place, 0o700)
        record = _record(place, upload["UploadId"])
        make_file(record)
        record.write_text(json.dumps(upload))


def _over(place: Path, upload: str, parsed: dict[str, Any]) -> None:
    if parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) < 300:
        _record(place, upload).unlink(missing_ok=True)


def _abort_left(client: Any, place: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  (an extra)

    for record in sorted(place.glob("*.json"))[:_MOST]:
        pid = record.name.partition("-")[0]
        if pid != str(os.getpid()) and Path("/proc", pid).exists():
            continue
        try:
            client.abort_multipart_upload(**json.loads(record.read_text()))
        except ClientError:
            pass  # it is over, or we may not: the bucket's lifecycle rule is for that
        except (BotoCoreError, OSError):
            return  # another time
        except (ValueError, TypeError):
            pass  # cut off by a crash
        record.unlink(missing_ok=True)
