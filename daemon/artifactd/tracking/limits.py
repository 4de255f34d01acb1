"""The largest body that what stands before a server takes, asked without sending one.

nginx (``client_max_body_size``) and its like compare the announced length before anything else and answer 413; so a
request that announces N bytes and waits to be told to go on (``Expect: 100-continue``, RFC 9110 10.1.1) is answered as
an upload of N bytes would be. It is a GET of something that is not there: nothing is stored, whoever answers.

An upload that is refused in its middle does not always show the 413: nginx reads on for a while, then closes, and that
looks like a broken network.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
from urllib.parse import urlsplit

LARGEST = 2**43
"""Bytes (8 TiB) that no upload has; who takes an announcement of them has no limit."""

_SECONDS = 2.0
_ABSENT = "/api/2.0/mlflow-artifacts/artifacts/artifactd-check-of-the-largest-body"
_INSECURE = "MLFLOW_TRACKING_INSECURE_TLS"


def refuses(tracking_uri: str, size: int) -> bool | None:
    """Whether a body of so many bytes would be refused with 413; None where nothing can be learnt.

    Args:
        tracking_uri: The server's, http or https. Credentials are not needed: the limit is looked at first.
        size: Bytes.
    """
    parts = urlsplit(tracking_uri)
    try:
        with contextlib.closing(_connect(parts.scheme, parts.hostname or "", parts.port)) as connection:
            connection.putrequest("GET", parts.path.rstrip("/") + _ABSENT)
            connection.putheader("Content-Length", str(size))
            connection.putheader("Expect", "100-continue")
            connection.endheaders()
            assert connection.sock is not None  # noqa: S101 (it is connected)
            line = connection.sock.recv(64)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    status = line.split(b" ", 2)[1:2] if line.startswith(b"HTTP/1.") else []
    return status == [b"413"] if status else None


def largest_body(tracking_uri: str) -> int | None:
    """Bytes of the largest body that is taken; None where there is no limit, or it cannot be learnt."""
    if not refuses(tracking_uri, LARGEST):
        return None
    low, high = 0, LARGEST
    while high - low > 1:
        middle = (low + high) // 2
        refused = refuses(tracking_uri, middle)
        if refused is None:
            return None
        low, high = (low, middle) if refused else (middle, high)
    return low


def _connect(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if _goes_through_a_proxy(scheme, host):
        raise OSError("the limit of a proxy on the way would be asked for")
    if scheme == "http":
        connection: http.client.HTTPConnection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=_context())
    connection.connect()
    if connection.sock is not None:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _context() -> ssl.SSLContext:
    """TLS as MLflow's client would have it."""
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None)
    if os.environ.get(_INSECURE, "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert := os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(cert)
    return context


def _goes_through_a_proxy(scheme: str, host: str) -> bool:
    from requests.utils import get_environ_proxies  # noqa: PLC0415  (slow to import)

    return scheme in get_environ_proxies(f"{scheme}://{host}")
