"""Until when certificates hold. Read from their own bytes: Python's ``ssl`` tells it of certificates it trusts alone.

A certificate is nested elements, each a tag, a length and a value (X.690, DER); where its end stands in them is said
by RFC 5280, 4.1.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import socket
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

_SECONDS = 3.0
_PEM = re.compile(r"-----BEGIN (?:TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END")

_VERSION = 0xA0
"""Tag of the first element, which may be left out."""
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_BEFORE_VALIDITY = 3
"""Serial number, algorithm and issuer."""


def end_of(der: bytes) -> float:
    """Until when a certificate holds, in unix seconds.

    Args:
        der: The certificate, as it goes over the line.

    Raises:
        ValueError: It is none.
    """
    try:
        _, at, _ = _element(der, 0)
        _, at, _ = _element(der, at)
        tag, _, after = _element(der, at)
        at = after if tag == _VERSION else at
        for _ in range(_BEFORE_VALIDITY):
            _, _, at = _element(der, at)
        _, at, _ = _element(der, at)
        _, _, at = _element(der, at)  # past its beginning
        tag, begin, after = _element(der, at)
    except IndexError:
        raise ValueError("it ends too early") from None
    return _time(tag, der[begin:after].decode("ascii"))


def ends_in(pem: str) -> list[float]:
    """Until when each certificate in a text holds, in unix seconds; none where the text holds none.

    Raises:
        ValueError: What stands there as a certificate is none.
    """
    try:
        return [end_of(base64.b64decode(found)) for found in _PEM.findall(pem)]
    except binascii.Error:
        raise ValueError("it is no PEM") from None


def end_of_server(uri: str) -> float | None:
    """Until when the certificate of a server holds, trusted or not, in unix seconds; None where none can be had."""
    parts = urlsplit(uri)
    if parts.scheme != "https":
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    with (
        contextlib.suppress(OSError, ValueError),
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=_SECONDS) as raw,
        context.wrap_socket(raw, server_hostname=parts.hostname) as line,
    ):
        return end_of(line.getpeercert(binary_form=True) or b"")
    return None


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag of the element that begins there, begin and end of its value."""
    tag, length, begin = data[at], data[at + 1], at + 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[at + 2 : begin])
    if begin + length > len(data):
        raise IndexError
    return tag, begin, begin + length


def _time(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time stands where its end should")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
