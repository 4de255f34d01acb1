"""Azurite: Microsoft's own emulator of Azure Blob, an npm package."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from made_store import cache
from stores.objects import ObjectStore
from stores.running import NotThereError, answers, running
from stores.tls import Certificate
from support import free_port

ACCOUNT = "devstoreaccount1"
SECOND = "secondaccount"
"""Another account of the same server, with the same key and a container of the same name."""
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's account and key, the same everywhere, and published with it."""
CONTAINER = "artifacts"
_VERSION = "3"


def program() -> str:
    """The command `azurite-blob`, installed into the user's cache if need be."""
    found = shutil.which("azurite-blob")
    if found is not None:
        return found
    folder = cache() / "azurite"
    command = folder / "node_modules" / ".bin" / "azurite-blob"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not command.exists():
            _install(folder)
    return str(command)


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotThereError("Azurite needs node 18 and npm: apt-get install nodejs npm")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", f"azurite@{_VERSION}"]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    except subprocess.SubprocessError as exc:
        said = exc.stderr if isinstance(exc, subprocess.CalledProcessError) else str(exc)
        raise NotThereError(f"Azurite is missing, and npm install azurite failed: {said[-500:]}") from exc


def connection_string(endpoint: str, key: str = KEY, account: str = ACCOUNT) -> str:
    return (
        f"DefaultEndpointsProtocol={endpoint.partition(':')[0]};AccountName={account};AccountKey={key};"
        f"BlobEndpoint={endpoint}/{account};"
    )


def location(container: str = CONTAINER, account: str = ACCOUNT) -> str:
    return f"wasbs://{container}@{account}.blob.core.windows.net/mlflow"


@contextlib.contextmanager
def azurite(folder: Path, certificate: Certificate | None = None) -> Iterator[ObjectStore]:
    """A server with one container, the account's owner, and somebody with a signature to read.

    Args:
        folder: Takes all that it stores.
        certificate: Speak TLS by it, and take tokens as well; it is for 127.0.0.1 too.

    Raises:
        NotThereError: It is not installed and cannot be.
    """
    port = free_port()
    endpoint = f"http{'s' if certificate else ''}://127.0.0.1:{port}"
    secure = (
        ["--oauth", "basic", "--cert", str(certificate.chain), "--key", str(certificate.key)] if certificate else []
    )
    command = [
        program(), "--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(folder),
        "--blobHost", "127.0.0.1", "--blobPort", str(port), *secure,
    ]  # fmt: skip
    environ = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY};{SECOND}:{KEY}"}
    with running(command, folder / "azurite.log", lambda: answers(port), env=environ):
        for name in (ACCOUNT, SECOND):
            _make_container(connection_string(endpoint, account=name), str(certificate.ca) if certificate else True)
        yield ObjectStore(
            location(), {"AZURE_STORAGE_CONNECTION_STRING": connection_string(endpoint)}, endpoint,
            {"AZURE_STORAGE_CONNECTION_STRING": _reading(endpoint)}, location("no-such-container"),
        )  # fmt: skip


def _make_container(known: str, verify: str | bool) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(known, connection_verify=verify) as client:
        client.create_container(CONTAINER)


def _reading(endpoint: str) -> str:
    """A connection string with a shared access signature that lets read and list."""
    from datetime import UTC, datetime, timedelta

    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    signature = generate_account_sas(
        ACCOUNT, KEY, resource_types=ResourceTypes(service=True, container=True, object=True),
        permission=AccountSasPermissions(read=True, list=True), expiry=datetime.now(UTC) + timedelta(hours=6),
    )  # fmt: skip
    return f"BlobEndpoint={endpoint}/{ACCOUNT};SharedAccessSignature={signature};"
