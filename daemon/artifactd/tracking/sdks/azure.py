"""Azure Blob: MLflow's repository with a client that tries once.

The ways to name oneself are MLflow's, in its order: a connection string, the account's key, then what
``DefaultAzureCredential`` finds.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from artifactd.tracking import tether
from artifactd.tracking.content import content_type
from artifactd.tracking.sdks import again
from artifactd.tracking.sdks.checksums import Checksum, note
from artifactd.tracking.sdks.listing import Entry, page
from artifactd.tracking.sdks.patience import CONNECT, SILENCE, install
from artifactd.tracking.sdks.shared import Shared

_PROGRAM_SECONDS = 4
"""For a program that is asked for a token (az, azd, pwsh), where one is installed."""


_ONE_REQUEST = 64 * 2**20
"""Bytes up to which a blob comes in one request, and has an MD5: the SDK's own default."""


_BLOCKS_AT_A_TIME = 3


def _files(environ: Mapping[str, str]) -> Iterator[str]:
    yield environ.get("AZURE_FEDERATED_TOKEN_FILE", "")
    yield environ.get("AZURE_CLIENT_CERTIFICATE_PATH", "")


shared = Shared(("AZURE_", "MLFLOW_TRACKING_"), _files)


def repository(artifact_uri: str, tracking_uri: str) -> Any:
    """MLflow's repository for a wasbs:// URI."""
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository as Theirs  # noqa: PLC0415

    _, account, _, suffix = Theirs.parse_wasbs_uri(artifact_uri)
    url = f"https://{account}.{suffix}"
    current = partial(shared.get, url, partial(_client, url, artifact_uri))
    repo: Any = Theirs(artifact_uri, client=current(), tracking_uri=tracking_uri)
    repo.client = _Current(current)
    return repo


def summing(size: int) -> Checksum | None:
    """What becomes the Content-MD5 of a content of so many bytes; None for blobs of blocks, which have none."""
    return Checksum() if size <= _ONE_REQUEST else None


def few(repo: Any, folder: str, names: Collection[str]) -> Iterator[Entry]:
    """As ``sdks.few``: Azure has no place to begin at, but what the names begin with."""
    container, _, top, _ = repo.parse_wasbs_uri(repo.artifact_uri)
    prefix = posixpath.join(top, folder, "")
    alike = os.path.commonprefix(list(names))  # noqa: RUF071 (as strings: nothing is a path to Azure)
    most = page(names)
    listing = repo.client.get_container_client(container).walk_blobs(
        name_starts_with=prefix + alike, results_per_page=most
    )
    for item in islice(listing, most):
        if not item.name.endswith("/"):
            yield item.name[len(prefix) :], item.size, False


class _Current:
    """The client that is right at the moment of a call, for what MLflow asks of it."""

    def __init__(self, current: Any) -> None:
        self._current = current

    def get_container_client(self, container: str) -> Any:
        client = self._current().get_container_client(container)
        client.walk_blobs = partial(_noted, client.walk_blobs)
        client.upload_blob = partial(_upload, client.upload_blob)
        return client


def _noted(walk: Any, **options: Any) -> Iterator[Any]:
    for item in walk(**options):
        settings = getattr(item, "content_settings", None)  # a folder has none
        if settings is not None:
            note(item.name, settings.content_md5)
        yield item


def _upload(upload: Any, name: str, data: Any, **options: Any) -> Any:
    from azure.storage.blob import ContentSettings  # noqa: PLC0415  (an extra)

    options["content_settings"] = ContentSettings(content_type=content_type(name.rpartition("/")[2]))
    if os.fstat(data.fileno()).st_size <= _ONE_REQUEST:
        tether.let_go()
        return upload(name, data, **options)
    # Nothing is kept of blocks to be compared afterwards, so the store compares each as it comes; to make that no
    # slower, one is summed up while another is on its way.
    blocks: dict[str, Any] = {"validate_content": True, "max_concurrency": _BLOCKS_AT_A_TIME}
    done = 0

    def sent(now: int, _: int | None) -> None:
        nonlocal done
        before, done = done, now
        tether.sent(now - before)

    blocks["progress_hook"] = sent
    return upload(name, data, **options, **blocks, retry_total=again.TRIES, retry_connect=0, retry_read=0)


def _refuse_other_account(named: str | None, url: str) -> None:
    """The connection string decides where things go, and MLflow does not look whether the location means that place."""
    account = (urlsplit(url).hostname or "").partition(".")[0]
    if named is not None and named.partition(".")[0].lower() != account:  # an endpoint of one's own may name none
        raise ValueError(f"the connection string is for the account {named}, and the location names {account}")


def _client(url: str, artifact_uri: str) -> Any:
    from azure.storage.blob import BlobServiceClient  # noqa: PLC0415  (an extra)
    from mlflow.utils.credentials import get_default_host_creds  # noqa: PLC0415

    install()
    once = {"retry_total": 0, "connection_timeout": CONNECT, "read_timeout": SILENCE}
    settings = {
        **once,
        # Of blocks alone, since they alone are tried again: after up to 1.5 s, and 1.5 to 3.5 s.
        "initial_backoff": 0.5,
        "increment_base": 2,
        "random_jitter_range": 1,
        "max_single_put_size": _ONE_REQUEST,
        "connection_verify": get_default_host_creds(artifact_uri).verify,
    }
    known = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if known is not None:
        client = BlobServiceClient.from_connection_string(known, **settings)
        _refuse_other_account(client.account_name, url)
        return client
    key: Any = os.environ.get("AZURE_STORAGE_ACCESS_KEY")
    if key is None:
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415  (an extra)

        key = DefaultAzureCredential(process_timeout=_PROGRAM_SECONDS, **once)
    return BlobServiceClient(url, credential=key, **settings)
