"""What servers answer: redirects, refusals, SFTP's packets; as bytes, without a network between."""

from __future__ import annotations

import contextlib
import io
import math
import struct
from typing import Any
from urllib.parse import urlsplit

import requests
from botocore.exceptions import ClientError
from urllib3 import HTTPHeaderDict

from artifactd.errors import Failure, Scope
from artifactd.tracking.answers import redirected, tracking_uri, web_page
from artifactd.tracking.classify import classify
from artifactd.tracking.known_hosts import parse
from artifactd.tracking.sftp_packets import ConnectionLostError, Fields, StatusError, expect, pairs, refuse
from artifactd.tracking.sftp_wire import FSYNC, STATVFS, Wire
from artifactd.tracking.waits import _read
from fuzz.engine import Target

# -- HTTP ------------------------------------------------------------------------------------------------------------


def _is_whole(failure: Failure) -> None:
    assert failure.error
    assert math.isfinite(failure.retry_after)
    assert failure.retry_after >= 0
    str(failure).encode("utf-8", "backslashreplace")


def _redirect(data: bytes) -> None:
    url, _, location = data.decode("latin-1").partition("\n")
    try:
        url = str(requests.Request("PUT", url).prepare().url)
        if urlsplit(url).scheme not in ("http", "https"):  # requests lets others through as they stand
            raise ValueError(url)
    except (requests.RequestException, ValueError):  # nobody has asked such a one
        url = "http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1/x"
    _is_whole(redirected(url, location))
    _is_whole(web_page(tracking_uri(url)))


def _answered(data: bytes) -> requests.Response:
    """An answer as requests has it: a status, headers and a body."""
    head, _, body = data.partition(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    answer = requests.Response()
    answer.status_code = int.from_bytes(line[:2]) % 600
    answer.reason = line[2:].decode("latin-1")
    for header in rest.split(b"\r\n"):
        name, _, value = header.decode("latin-1").partition(":")
        answer.headers[name.strip()] = value.strip()
    answer.raw = io.BytesIO(body)
    answer.url = "http://mlflow:5000/api/2.0/x"
    return answer


def _refused(data: bytes) -> None:
    from mlflow.exceptions import RestException

    answer = _answered(data)
    _is_whole(
        classify(requests.HTTPError("refused", response=answer), target="http://u:secretsecret@m", scope=Scope.TARGET)
    )
    body = answer.content

    class Body:
        def read(self, size: int, *, decode_content: bool) -> bytes:
            return body[:size]

    _read(Body())
    with contextlib.suppress(
        ValueError, TypeError, AttributeError, KeyError, RecursionError
    ):  # what MLflow itself makes nothing of
        found = RestException(answer.json())
        _is_whole(classify(found, target="http://m", scope=Scope.RUN))
    found_in = str(answer.text)
    error: dict[str, Any] = {
        "Error": {"Code": found_in[:40], "Message": found_in},
        "ResponseMetadata": {"HTTPStatusCode": answer.status_code, "HTTPHeaders": dict(HTTPHeaderDict(
            {k.lower(): v for k, v in answer.headers.items()}))},
    }  # fmt: skip
    _is_whole(classify(ClientError(error, "PutObject"), target="s3://b/p", scope=Scope.RUN))
    google = type("Forbidden", (Exception,), {"__module__": "google.api_core.exceptions"})(found_in)
    google.response = answer
    _is_whole(classify(google, target="gs://b/p", scope=Scope.RUN))


_REDIRECTS = [
    b"http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1/a\nhttps://mlflow/m/api/2.0/mlflow-artifacts/artifacts/1/a",
    b"http://u:pass@m/version\n//other/version", b"https://m/p/api/2.0/x?y=1#z\n/login?next=/",
    b"http://[::1]:5000/health\n../..",
]  # fmt: skip
_URL_WORDS = [
    b"http://", b"https://", b"[::1", b"]", b":99999", b"@", b"//", b"#", b"?", b"%00", b"%zz", b"\\", b"..",
    b"javascript:", b"data:,", b"\xff",
    b"xn--", "ﬀ℀".encode(), b"http://[v1.x]/", b":",
]  # fmt: skip
_ANSWERS = [
    b"\x01\xf7Busy\r\nRetry-After: 30\r\n\r\n" + b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "later"}',
    (b"\x01\x90Bad\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n\r\n"
     b'{"error_code": "INVALID_PARAMETER_VALUE", "message": ["a"]}'),
    b"\x01\x93No\r\nContent-Type: text/html\r\n\r\n<html>login</html>", b"\x01\xad\r\nretry-after: -1\r\n\r\nSlowDown",
    (b"\x01\x9dLarge\r\nRetry-After: 1e5\r\n\r\n"
     b'{"error": {"errors": [{"reason": "quotaExceeded"}], "message": "m"}}'),
    b"\x01\x94\r\n\r\n" + b'{"error": {"code": 404, "message": "x", "errors": []}}',
]  # fmt: skip
_ANSWER_WORDS = [
    b"Retry-After: ", b"nan", b"inf", b"1e999", b"-5", b"9" * 400, b"\r\n", b"\r\n\r\n", b"{", b"}", b"[]", b"null",
    b'"error_code": ', b'"message": ',
    b"AccessDenied", b"SlowDown", b"NoSuchBucket", b"error code 503", b"too many 429 error responses",
    b"password=hunter2", b"[" * 5000, b"\x1b[31m",
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>", "\u202e".encode(),
]  # fmt: skip

# -- SFTP ------------------------------------------------------------------------------------------------------------


class _Told:
    """A channel whose other end says what it was told to, whatever it is asked."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def settimeout(self, seconds: float | None) -> None:
        pass

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        return self._left.read(min(size, 4096))


class _Sink:
    def write(self, data: bytes) -> int:
        return len(data)


def _packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _session(data: bytes) -> None:
    """All that is asked of a server, in turn, of one that answers with these bytes."""
    asks = data[0] if data else 0
    try:
        wire = Wire(_Told(data[1:]), lambda: 0)  # type: ignore[arg-type]
        doing = (
            lambda: wire.listing(b"d"), lambda: wire.read(b"f", _Sink()), lambda: wire.stat(b"f"),
            lambda: wire.space(b"d"),
            lambda: wire.write(b"h", io.BytesIO(bytes(100_000))), lambda: wire.finish(b"h", b"f", 1.0),
            lambda: wire.mkdir(b"d"),
            lambda: wire.ping(1.0),
        )  # fmt: skip
        for n in range(len(doing)):
            with contextlib.suppress(StatusError):
                doing[(asks + n) % len(doing)]()
    except ConnectionLostError as error:
        assert str(error)


def _packets(data: bytes) -> None:
    kind, body = (data[0], data[1:]) if data else (0, b"")
    for read in (
        lambda: expect(105, kind, body).attributes(), lambda: list(pairs(Fields(body))), lambda: refuse(body),
        lambda: expect(104, kind, body).text(),
    ):  # fmt: skip
        try:
            read()
        except (ConnectionLostError, StatusError) as error:
            assert str(error)


def _hosts(data: bytes) -> None:
    for line in parse(data.decode("utf-8", "replace"), "f"):
        assert line.type
        assert line.blob


_ATTRIBUTES = struct.pack(">IQIIIII", 0xF, 7, 1000, 1000, 0o100644, 1, 1_700_000_000)
_VERSION = _packet(2, struct.pack(">I", 3) + b"".join(
    _text(name) + _text(value) for name, value in ((FSYNC.encode(), b"1"), (STATVFS.encode(), b"2"),
    (b"limits@openssh.com", b"1"))))  # fmt: skip
_LIMITS = _packet(201, struct.pack(">I4Q", 1, 262144, 261120, 261120, 100))
_HANDLE = [_packet(102, struct.pack(">I", n) + _text(b"h")) for n in range(1, 6)]
_NAMES = _packet(
    104,
    struct.pack(">II", 3, 2)
    + _text(b"a")
    + _text(b"-rw a")
    + _ATTRIBUTES
    + _text(b"..")
    + _text(b"")
    + struct.pack(">I", 0),
)
_DATA = _packet(103, struct.pack(">I", 3) + _text(b"content"))


def _status(number: int, code: int) -> bytes:
    return _packet(101, struct.pack(">II", number, code) + _text(b"said") + _text(b"en"))


_SESSIONS = [
    b"\0" + _VERSION + _LIMITS + _HANDLE[1] + _NAMES + _status(4, 1) + _status(5, 1) + _status(6, 0) + _HANDLE[4],
    b"\1" + _VERSION + _LIMITS + _HANDLE[1] + _DATA + _status(4, 1) + _status(5, 1) + _status(6, 0),
    b"\2" + _VERSION + _LIMITS + _packet(105, struct.pack(">I", 2) + _ATTRIBUTES),
    b"\3" + _VERSION + _LIMITS + _packet(201, struct.pack(">I11Q", 2, 4096, 4096, 9, 8, 7, 6, 5, 4, 3, 1, 255)),
    b"\4" + _VERSION + _LIMITS + _status(2, 0) + _status(3, 4), b"\5" + _VERSION + _LIMITS + _status(2, 0) + _status(3,
    8),
    b"\6" + _packet(2, struct.pack(">I", 3)) + _status(1, 4), b"\7" + _packet(2, struct.pack(">I", 3)) + _status(1, 0),
    b"\0" + _packet(2, struct.pack(">I", 3)) + _packet(102, struct.pack(">I", 1) + _text(b"h")) + _status(2,
    1) + _status(3, 0),
]  # fmt: skip
_WIRE_WORDS = [
    _text(b""),
    _text(b".."),
    _text(b"../x"),
    struct.pack(">I", 0x80000001),
    _status(2, 1),
    _status(3, 0),
    _status(4, 0),
    _NAMES,
    _DATA,
    _LIMITS,
]
_BODIES = [bytes([105]) + _ATTRIBUTES, bytes([101]) + struct.pack(">I", 4) + _text(b"Failure") + _text(b"en"),
bytes([104]) + _text(b"n"),
           bytes([105]) + struct.pack(">IQI", 0x80000001, 7, 1) + _text(b"a") + _text(b"b")]  # fmt: skip
_HOSTS = [
    b"host ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKtest\n@revoked *.x,!y ssh-rsa AAAAB3NzaC1yc2E=\n# c\n",
    (b"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-rsa AAAAB3NzaC1yc2E=\n"
     b"[h]:2222 ssh-rsa AAAAB3NzaC1yc2E=\n"),
]  # fmt: skip

TARGETS = (
    Target("redirects", _redirect, _REDIRECTS, _URL_WORDS, share=60_000),
    Target("refusals", _refused, _ANSWERS, _ANSWER_WORDS, share=20_000),
    Target("SFTP sessions", _session, _SESSIONS, _WIRE_WORDS, share=60_000),
    Target("SFTP packets", _packets, _BODIES, _WIRE_WORDS, share=80_000),
    Target("known hosts", _hosts, _HOSTS, [b"@cert-authority ", b"|1|", b"=", b"*", b"!", b",", b"["], share=30_000),
)
