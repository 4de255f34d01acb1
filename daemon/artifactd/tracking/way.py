"""The way that files take, in words: through the server or straight to the store, why, and what to mind on it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from artifactd.secrets import mask
from artifactd.tracking import limits

_HTTP = ("http://", "https://")
RAISE_LIMIT = (
    "Raise its limit: nginx: client_max_body_size 0; Apache: LimitRequestBody 0; Kubernetes ingress-nginx: the "
    'annotation nginx.ingress.kubernetes.io/proxy-body-size: "0"'
)
"""What to do about what stands before a server and takes no big body."""


class Caution(NamedTuple):
    """What works now and will not always, and what is to be done about it."""

    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what}. {self.cure}"


_SHARED = Caution(
    "it is a folder of this host: the server shows what is in it only if it sees the same folder",
    "Mount it on the server's host at the same path, or start the server with --serve-artifacts and deliver into an "
    "experiment that was made since",
)


def cautions(told: Iterable[Iterable[str]]) -> tuple[Caution, ...]:
    """What another process told of, from JSON."""
    return tuple(Caution(*one) for one in told)


def way_to(artifact_uri: str, tracking_uri: str) -> tuple[str, list[Caution]]:
    """How files get to where a run keeps its artifacts.

    Args:
        artifact_uri: As the server gave it.
        tracking_uri: The server, or a database.

    Returns:
        One line, and what to mind.
    """
    scheme = urlsplit(artifact_uri).scheme
    if not tracking_uri.startswith(_HTTP):
        return "directly, there is no server between", []
    if scheme in ("mlflow-artifacts", "http", "https"):
        return f"through the server, since it gives {scheme}: as the location", list(_minding(tracking_uri))
    if scheme in ("", "file"):
        return "directly, past the server, since it gives a folder as the location", [_SHARED]
    return f"directly, past the server, since it gives {scheme}: as the location", []


def _minding(tracking_uri: str) -> Iterator[Caution]:
    limit = limits.largest_body(tracking_uri)
    if limit is not None:
        yield Caution(
            f"files over {limit / 2**20:,.1f} MiB ({limit:,} bytes) will fail: what stands before the server answers "
            "413 to them",
            RAISE_LIMIT,
        )
    big = parts_from(tracking_uri)
    if big is not None:
        yield Caution(
            f"files of {big / 2**20:,.0f} MiB and more go in parts straight to the store behind the server, "
            "which this host must reach; a part that fails begins the file anew",
            "See that it reaches it. If not: MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false in the service's environment, "
            "and a restart, has them go through the server",
        )


def parts_from(tracking_uri: str) -> int | None:
    """Bytes from which on MLflow sends a file in parts to addresses that the server signs; None where it does not."""
    from mlflow.environment_variables import (  # noqa: PLC0415  (MLflow is slow to import)
        MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD,
        MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE,
    )

    wanted = MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD.get()
    if not MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD.is_set():
        from mlflow.utils.credentials import get_default_host_creds as creds  # noqa: PLC0415
        from mlflow.utils.server_info import ServerInfoRequestError, fetch_server_info  # noqa: PLC0415

        try:
            wanted = bool((fetch_server_info(creds(tracking_uri)).data or {}).get("multipart_uploads_enabled"))
        except ServerInfoRequestError:
            wanted = False
    return int(MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE.get()) if wanted else None


def warnings_of(tracking_uri: str) -> Iterator[Caution]:
    """What to mind of the connection itself."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        yield Caution(
            "the server's certificate is not looked at (MLFLOW_TRACKING_INSECURE_TLS): whoever stands between may read "
            "and change everything",
            "Name the file of its CA instead: MLFLOW_TRACKING_SERVER_CERT_PATH=/path/ca.pem in the service's "
            "environment, then restart",
        )
    parts = urlsplit(tracking_uri)
    sent = any(os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("PASSWORD", "TOKEN")) or parts.password
    if parts.scheme == "http" and sent and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        yield Caution(
            f"credentials go to {mask(tracking_uri)} unencrypted",
            "Set mlflow.tracking_uri to an https:// address, which the server or a gateway before it must have",
        )
