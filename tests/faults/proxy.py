"""An HTTP proxy on 127.0.0.1 that can be told to misbehave, and counts what goes through it.

It stands between the service and a real server, so what it counts is what really went over the wire, and the
requests it lets through are answered by MLflow itself.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

_BLOCK = 64 * 1024
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}
LOGIN = b"<!DOCTYPE html><html><body><form action='/login'>Sign in</form></body></html>"


def _all(_method: str, _path: str) -> bool:
    return True


def _none(_headers: Mapping[str, str]) -> bool:
    return False


def uploads(method: str, _path: str) -> bool:
    """Requests that carry a file."""
    return method == "PUT"


def creations(_method: str, path: str) -> bool:
    """Requests that create a run."""
    return path.endswith("/runs/create")


@dataclass(frozen=True)
class Fault:
    """How the proxy misbehaves.

    Attributes:
        kind: ``refuse``, ``black_hole`` and ``hang`` (headers, then nothing) take what comes; ``cut`` closes in the
            middle of the body; ``throttle`` reads slowly; ``answer`` answers itself; ``drop`` lets the server do it and
            loses the answer.
        where: Which requests it concerns.
        status: Of ``answer``.
        headers: Of ``answer``.
        body: Of ``answer``.
        rate: Bytes per second at which a body is read: of ``throttle``, and before an ``answer``; 0 for all there is.
        times: So many requests, then none; 0 for all.
        spares: Requests with such headers do not meet it.
        beyond: So many requests at a time do not meet it.
        takes: Seconds that a request which does not meet it takes at least.
    """

    kind: Literal["refuse", "black_hole", "hang", "cut", "throttle", "answer", "drop"]
    where: Callable[[str, str], bool] = _all
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    rate: float = 0.0
    times: int = 0
    spares: Callable[[Mapping[str, str]], bool] = _none
    beyond: int = 0
    takes: float = 0.0


@dataclass
class Counts:
    """What went through.

    Attributes:
        requests: By method and path.
        bytes: Body bytes by method and path, of requests that were cut, too.
        repeats: Uploads, complete ones, of the content that went to the same path the time before.
        unique: Bytes of the other complete uploads.
        wrong: Requests that met the fault.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeats: int = 0
    unique: int = 0
    wrong: int = 0

    def sent(self) -> int:
        """Body bytes of all uploads; while some are under way, too, in threads that put new ones in."""
        return sum(n for (method, _), n in list(self.bytes.items()) if method == "PUT")

    def total(self) -> int:
        """All requests."""
        return sum(list(self.requests.values()))


class Proxy:
    """A proxy for the server at `upstream`; always on one port, also when it refuses."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.counts = Counts()
        self.lock = threading.Lock()
        self._last: dict[str, bytes] = {}
        self._fault: Fault | None = None
        self._met = 0
        self._passing = 0
        self._healed = threading.Event()
        self._server = self._open(0)
        self.port = int(self._server.server_address[1])
        self.uri = f"http://127.0.0.1:{self.port}"

    def _open(self, port: int) -> _Server:
        server = _Server(self, port)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    @contextmanager
    def misbehaving(self, fault: Fault) -> Iterator[None]:
        """Misbehave for a while."""
        self.start(fault)
        try:
            yield
        finally:
            self.heal()

    def start(self, fault: Fault) -> None:
        """Misbehave from now on."""
        with self.lock:
            self._fault, self._met = fault, 0
            self._healed.clear()
        self._server.drop_connections()
        if fault.kind == "refuse":
            self._server.end()

    def heal(self) -> None:
        """Behave again; whoever hangs is let go."""
        with self.lock:
            fault, self._fault = self._fault, None
            self._healed.set()
        if fault is not None:
            self._server.drop_connections()
            if fault.kind == "refuse":
                self._server = self._open(self.port)

    def close(self) -> None:
        """End it."""
        self._healed.set()
        self._server.end()

    def meet(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Fault | None:
        """Note a request; the fault that it meets."""
        with self.lock:
            self.counts.requests[method, path] += 1
            fault = self._fault
            if fault is None or not fault.where(method, path) or fault.spares(headers or {}):
                return None
            if fault.times and self._met >= fault.times:
                return None
            if fault.beyond and self._passing < fault.beyond:
                return None
            self._met += 1
            self.counts.wrong += 1
            return fault

    @contextmanager
    def passing(self, method: str, path: str) -> Iterator[None]:
        """A request is passed on, and not answered yet."""
        with self.lock:
            self._passing += 1
            fault = self._fault
        try:
            if fault is not None and fault.where(method, path):
                time.sleep(fault.takes)
            yield
        finally:
            with self.lock:
                self._passing -= 1

    def wait_until_healed(self) -> None:
        """What a request does that shall hang."""
        self._healed.wait(300)

    def note_upload(self, path: str, digest: bytes, size: int) -> None:
        """A whole upload was acknowledged by the server."""
        with self.lock:
            if self._last.get(path) == digest:
                self.counts.repeats += 1
            else:
                self.counts.unique += size
            self._last[path] = digest


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)
        with self.proxy.lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        assert isinstance(request, socket.socket)
        with self.proxy.lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what the tests are about."""

    def drop_connections(self) -> None:
        with self.proxy.lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.drop_connections()


class _CutError(Exception):
    """The client went away, or shall think that we did."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        pass

    def _any(self) -> None:
        proxy = self.server.proxy
        path = urlsplit(self.path).path
        fault = proxy.meet(self.command, path, dict(self.headers.items()))
        kind = fault.kind if fault is not None else ""
        try:
            if fault is not None and kind in ("black_hole", "refuse"):
                proxy.wait_until_healed()
                raise _CutError
            body = self._body(path, fault)
            if fault is not None and kind == "hang":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
                proxy.wait_until_healed()
                raise _CutError
            if fault is not None and kind == "answer":
                self._answer(fault.status, fault.headers, fault.body)
                return
            if path == "/login":
                self._answer(200, (("Content-Type", "text/html"),), LOGIN)
                return
            with proxy.passing(self.command, path):
                self._forward(path, body, fault)
        except (_CutError, OSError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any  # noqa: N815  (names that the base class looks for)

    def _body(self, path: str, fault: Fault | None) -> bytes:
        """Read the request's body, counting; cut or slowly where the fault says so."""
        body = bytearray()
        length = int(self.headers.get("Content-Length") or 0)
        blocks = (
            self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._blocks(length, fault)
        )
        for block in blocks:
            body += block
            with self.server.proxy.lock:
                self.server.proxy.counts.bytes[self.command, path] += len(block)
            if fault is not None and fault.kind == "cut" and length and len(body) >= length / 2:
                raise _CutError
        return bytes(body)

    def _blocks(self, length: int, fault: Fault | None) -> Iterator[bytes]:
        begun, done = time.monotonic(), 0
        step = min(_BLOCK, max(1, length // 2)) if fault is not None else _BLOCK
        while done < length:
            block = self.rfile.read(min(step, length - done))
            if not block:
                raise _CutError
            done += len(block)
            if fault is not None and fault.rate:
                time.sleep(max(0.0, begun + done / fault.rate - time.monotonic()))
            yield block

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _forward(self, path: str, body: bytes, fault: Fault | None) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        with closing(http.client.HTTPConnection(*self.server.proxy.upstream, timeout=60)) as upstream:
            upstream.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
            answer = upstream.getresponse()
            data = answer.read()
        if self.command == "PUT" and answer.status == 200:
            self.server.proxy.note_upload(path, hashlib.sha256(body).digest(), len(body))
        if fault is not None and fault.kind == "drop":
            raise _CutError
        said = tuple((k, v) for k, v in answer.getheaders() if k.lower() not in _HOP)
        self._answer(answer.status, said, data, cut=fault is not None and fault.kind == "cut")

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            raise _CutError
