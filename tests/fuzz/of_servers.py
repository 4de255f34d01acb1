"""What servers answer, over a real connection and through MLflow's client and the SDKs: any bytes end in words."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec

from artifactd.errors import DeliveryError, Scope
from artifactd.tracking import environment, limits, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify
from artifactd.tracking.sdks import s3
from fuzz.engine import Target

_SECONDS = 5.0
_TLS = b"\x16"
"""What a client that wants TLS says first."""


class Answering:
    """A server that gives `answer`, as it stands, to whatever it is asked, and ends the connection."""

    def __init__(self) -> None:
        self.answer = b""
        self.asked = 0
        self.rests = threading.Event()
        """No connection is open: a client that keeps them notices, and its next request is by a new one."""
        self.rests.set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.asked += 1
            self.rests.clear()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_SECONDS)
                asked = b""
                # Who tries TLS is answered at once, too, as by a server that speaks none.
                while b"\r\n\r\n" not in asked and asked[:1] != _TLS and (more := connection.recv(65536)):
                    asked += more
                connection.sendall(self.answer)
            self.rests.set()


@functools.cache
def _server() -> Answering:
    """One for all inputs; and what a service's process has done once before its first request."""
    for name in environment._OF_NOTEBOOKS:
        if name not in sys.modules and find_spec(name) is None:
            sys.modules[name] = None  # type: ignore[assignment]  # as `environment.preload`, which MLflow came before
    s3.preload()
    return Answering()


_client = functools.cache(s3._client)
"""The client of all inputs: after a refusal another one is asked for, and to make one takes as long as ten inputs."""


@contextlib.contextmanager
def _environment() -> Iterator[str]:
    made = _server()
    before = dict(os.environ)
    makes, s3._client = s3._client, _client
    try:
        uri = f"http://127.0.0.1:{made.port}"
        environment.prepare(uri)
        os.environ |= {
            "MLFLOW_S3_ENDPOINT_URL": uri, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        yield uri
    finally:
        s3._client = makes
        # The others stay as they are: to set them all takes as long as a request.
        for name, value in dict(os.environ).items():
            if name not in before:
                del os.environ[name]
            elif before[name] != value:
                os.environ[name] = before[name]


def _asked(data: bytes, ask: Callable[[str], object]) -> None:
    with _environment() as uri:
        made = _server()
        assert made.rests.wait(2 * _SECONDS)
        made.answer, before = data, made.asked
        try:
            ask(uri)
        except DeliveryError as error:
            assert made.asked > before, f"it was not asked: {error}: {error.__cause__!r}"
            assert error.failure.error
            str(error).encode("utf-8", "backslashreplace")
        else:
            assert made.asked > before


def _are_names(names: Iterable[str]) -> None:
    """What a listing names lies directly in the folder that was asked for."""
    for name in names:
        assert name not in ("", ".", "..")
        assert "/" not in name


_artifacts = functools.cache(RunArtifacts)


def _listing(data: bytes) -> None:
    def ask(uri: str) -> None:
        of_run = _artifacts(f"{uri}/api/2.0/mlflow-artifacts/artifacts/1/2/artifacts", uri)
        entries = of_run._entries("plots")
        _are_names(name for name, _, _ in entries)
        assert all(isinstance(size, int) for _, size, _ in entries)

    _asked(data, ask)


def _objects(data: bytes) -> None:
    _asked(data, lambda uri: _are_names(_artifacts("s3://bucket/top", uri).sizes("plots")))


def _contact(data: bytes) -> None:
    def ask(uri: str) -> None:
        assert server.connect(uri, embedded_artifacts=None) is not None
        try:
            server.version(uri)
        except Exception as exc:  # noqa: BLE001 (as `check` does)
            assert classify(exc, target=uri, scope=Scope.TARGET).error

    _asked(data, ask)


def _limit(data: bytes) -> None:
    _asked(data, lambda uri: limits.refuses(uri, 2**20))


def _http(body: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: " + kind + b"\r\n" + more
    return head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


def _xml(inner: bytes) -> bytes:
    head = b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return _http(
        head + b"<Name>bucket</Name><Prefix>top/plots/</Prefix>" + inner + b"</ListBucketResult>",
        kind=b"application/xml",
    )


def _key(name: bytes, size: bytes = b"5") -> bytes:
    return (
        b"<Contents><Key>" + name + b"</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        b"<ETag>&quot;5d41402abc4b2a76b9719d911017c592&quot;</ETag><Size>" + size + b"</Size></Contents>"
    )


_LISTINGS = [
    _http(b'{"files": [{"path": "a.txt", "is_dir": false, "file_size": 5}, {"path": "b", "is_dir": true}]}'),
    _http(b'{"files": [{"path": "../../x", "is_dir": false, "file_size": "7"}, {"path": "..", "is_dir": true}]}'),
    _http(b"{}"), _http(b"[]"), _http(b"<html>", kind=b"text/html"), _http(b"", b"302 Found",
    more=b"Location: http://[x\r\n"),
    _http(b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}', b"404 Not Found"), _http(b"busy", b"503 Busy",
    more=b"Retry-After: 1\r\n"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + _http(b"{}"), b"SSH-2.0-x\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
]  # fmt: skip
_OBJECTS = [
    _xml(_key(b"top/plots/a.txt") + b"<CommonPrefixes><Prefix>top/plots/b/</Prefix></CommonPrefixes>"
         b"<IsTruncated>false</IsTruncated>"),
    _xml(_key(b"top/plots/../../x", b"-1") + _key(b"elsewhere", b"x") + _key(b"top/plots/")),
    _xml(b"<IsTruncated>maybe</IsTruncated>"),
    _http(b"<Error><Code>SlowDown</Code><Message>m</Message></Error>", b"503 Slow Down", b"application/xml"),
    _http(b"<Error><Code>NoSuchBucket</Code></Error>", b"404 Not Found", b"application/xml"), _http(b"{}"), _http(b"",
    b"301 Moved", more=b"Location: /\r\n"),
    *_LISTINGS[-3:],
]  # fmt: skip
_WORDS = [
    b"HTTP/1.1 ", b"Content-Length: ", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate\r\n", b"Location: ", b"Retry-After: 9\r\n",
    b"Content-Type: text/html; charset=utf-99\r\n",
    b"Set-Cookie: a=b\r\n", b"\r\n\r\n", b"\r\n", b"ffffffffffffffffff\r\n", b"0\r\n\r\n", b'"path": ', b'"is_dir": ',
    b'"file_size": ', b"null", b"[" * 3000,
    b"1e999", b"9" * 5000, b'"..\\\\.."', b"\\ud800", b"<!DOCTYPE a [<!ENTITY b \"c\">]>", b"&b;", b"<Key>", b"</Key>",
    b"<Contents>", b"<![CDATA[", b"&#0;",
    b"<NextContinuationToken>x</NextContinuationToken>", b"<Prefix>", b"401 No", b"413 Large", b"500 E", b"%00",
    b"top/plots/", b"<EncodingType>url</EncodingType>",
]  # fmt: skip

TARGETS = (
    Target("MLflow listings", _listing, _LISTINGS, _WORDS, share=6_000),
    Target("S3 listings", _objects, _OBJECTS, _WORDS, share=20_000),
    Target("first contact", _contact, [*_LISTINGS, _http(b"3.17.2", kind=b"text/html")], _WORDS, share=20_000),
    Target("body limit", _limit, _LISTINGS, _WORDS, share=20_000),
)
