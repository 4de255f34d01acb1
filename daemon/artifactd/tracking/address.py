"""A tracking URI that is nearly right: the other of http and https, or a path prefix forgotten or too much.

Asked after first contact failed alone; what is found is named in the message, never used.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from artifactd.secrets import mask

_SECONDS = 2.0
"""For each further look: the reason is known without it."""
_PREFIXES = ("/mlflow",)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
_CUT_OFF = re.compile(r"closed connection|connection aborted|reset by peer|BadStatusLine|malformed", re.IGNORECASE)
"""What a server that speaks TLS does to one who does not, unless it is nginx, which says so."""
_WANTS_TLS = "plain HTTP request was sent to HTTPS port"
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


_told: dict[str, str] = {}
"""Versions of servers, by tracking URI, as they told them at first contact."""


def note_version(tracking_uri: str, text: str) -> None:
    """Keep what a server answered to ``/version``, for the case that it and the client do not understand each other."""
    _told[mask(tracking_uri)] = version_in(text) or ""


def version_told(tracking_uri: str) -> str | None:
    """The version that it told last; None if it told none."""
    return _told.get(mask(tracking_uri)) or None


def version_in(text: str) -> str | None:
    """The version that an MLflow server's ``/version`` answers; None for the answer of something else."""
    said = text.strip()
    return said if len(said) <= 40 and _VERSION.fullmatch(said) else None


def other_scheme(tracking_uri: str, said: str) -> str | None:
    """The same address with the scheme that it speaks; None where that is not what is wrong.

    Args:
        tracking_uri: As it was used.
        said: What went wrong, in the words of whoever noticed.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme == "https":
        plain = any(word in said.upper().replace(" ", "_") for word in _NO_TLS)
        return parts._replace(scheme="http").geturl() if plain else None
    wants = _WANTS_TLS in said or (_CUT_OFF.search(said) and _speaks_tls(parts.hostname or "", parts.port or 80))
    return parts._replace(scheme="https").geturl() if wants else None


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), timeout=_SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=host),
    ):
        return True
    return False


def other_prefix(tracking_uri: str) -> str | None:
    """An MLflow server's address with another path on the same host: without the prefix, or with the usual one."""
    # MLflow's own way, for its credentials and certificates.
    from mlflow.utils.credentials import get_default_host_creds as creds  # noqa: PLC0415
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415

    for candidate in _candidates(tracking_uri):
        with contextlib.suppress(Exception):  # whatever stands there, it is not what is looked for
            answer = http_request(creds(candidate), "/version", "GET", timeout=_SECONDS)
            if answer.status_code == 200 and version_in(answer.text):
                return candidate
    return None


def _candidates(tracking_uri: str) -> Iterator[str]:
    parts = urlsplit(tracking_uri.rstrip("/"))
    for prefix in ("", *_PREFIXES):
        if prefix != parts.path:
            yield parts._replace(path=prefix).geturl()
