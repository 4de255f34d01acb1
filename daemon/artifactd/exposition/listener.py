"""The one thread that answers over HTTP: ``/metrics``, ``/healthz``, ``/readyz``. Read-only, and one request at a time.

On this machine alone it answers whoever calls it by a name of this machine: a page in a browser that has its own name
led to 127.0.0.1 (DNS rebinding) is refused. On any other address, and wherever a token file is named, it wants the
token, which is read at each request, so that it can be rotated.
"""

from __future__ import annotations

import hmac
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from artifactd import log
from artifactd.aside import Aside, begin
from artifactd.config.uris import is_loopback
from artifactd.errors import ArtifactdError

PATIENCE = 5.0
"""Seconds that one who asks may take for it: nobody else is answered meanwhile."""

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


Answer = tuple[int, str, bytes]
"""Status, content type and content."""

Page = Callable[[str], Answer]
"""Makes an answer of the request's Accept header."""


class Listener:
    """Answers from its making until it is closed.

    Args:
        listen: Host and port.
        pages: By path; each is called in the listener's thread.
        ended: Called in the listener's thread, as its last act.
        token_file: Holds what ``Authorization: Bearer`` must say; None: nothing is asked for.

    Raises:
        ArtifactdError: The address cannot be had.
    """

    def __init__(
        self, listen: str, pages: dict[str, Page], ended: Callable[[], None], token_file: Path | None = None
    ) -> None:
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        try:
            self._server = _server(host, int(port), pages, token_file)
        except OSError as exc:
            raise ArtifactdError(
                f'metrics.listen = "{listen}" cannot be had: {exc.strerror or exc}',
                "Free the address or name another one, then reload the service; files are delivered all the same",
            ) from exc
        self.port = int(self._server.server_address[1])
        self.failure: BaseException | None = None
        self._ended = ended
        thread = begin(self._serve)
        if thread is None:
            self._server.server_close()
            raise ArtifactdError("there is no memory for the thread that serves metrics", "Reload the service for it")
        self._thread: Aside = thread

    def close(self) -> None:
        """Answer nobody any more."""
        if not self._thread.over:
            self._server.shutdown()
            self._thread.wait(2 * PATIENCE)
        self._server.server_close()

    def _serve(self) -> None:
        try:
            self._server.serve_forever(poll_interval=1.0)
        except BaseException as exc:  # noqa: BLE001 (the loop ends the process for it)
            self.failure = exc
        finally:
            self._ended()


class _Server(HTTPServer):
    allow_reuse_address = True
    request_queue_size = 16

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One who went away, or was too slow, is no event; what a page raises is told, and the next one is answered."""
        exc = sys.exc_info()[1]
        if not isinstance(exc, OSError):
            log.get().error("a request for metrics failed", error=f"{type(exc).__name__}: {exc}")


def _server(host: str, port: int, pages: dict[str, Page], token_file: Path | None) -> HTTPServer:
    class Handler(_Handler):
        pass

    Handler.pages, Handler.token_file = pages, token_file
    Handler.own_names = _OWN_NAMES | {host} if is_loopback(host) else None
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    made = type("Server", (_Server,), {"address_family": family})
    return made((host, port), Handler)  # type: ignore[no-any-return]


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE
    server_version = "artifactd"
    sys_version = ""
    pages: dict[str, Page]
    token_file: Path | None
    own_names: frozenset[str] | None

    def do_GET(self) -> None:
        """Answer."""
        status, kind, content = self._answer()
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(content))), ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"), ("Content-Security-Policy", "default-src 'none'"),
        ):  # fmt: skip
            self.send_header(name, value)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 (a name that the base class looks for)

    def _answer(self) -> Answer:
        if self.own_names is not None and _host(self.headers.get("Host", "")) not in self.own_names:
            return _plain(HTTPStatus.MISDIRECTED_REQUEST, "this is not the name of this machine")
        if self.token_file is not None:
            refusal = _refusal(self.token_file, self.headers.get("Authorization", ""))
            if refusal:
                return refusal
        page = self.pages.get(urlsplit(self.path).path)
        if page is None:
            return _plain(HTTPStatus.NOT_FOUND, "there is " + ", ".join(sorted(self.pages)))
        return page(self.headers.get("Accept", ""))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Who asks is nobody's business."""


def _refusal(token_file: Path, given: str) -> Answer | None:
    try:
        token = token_file.read_text().strip()
    except (OSError, ValueError) as exc:
        log.get().error(
            "the token for metrics cannot be read", path=str(token_file),
            error=exc.strerror if isinstance(exc, OSError) else "it is no text",
            next_step="Nobody is answered until it can be read",
        )  # fmt: skip
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, "the token cannot be read")
    scheme, _, said = given.partition(" ")
    if token and scheme.lower() == "bearer" and hmac.compare_digest(said.strip().encode(), token.encode()):
        return None
    return _plain(HTTPStatus.UNAUTHORIZED, "a token is wanted: Authorization: Bearer ...")


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    with suppress(ValueError):
        return urlsplit(f"//{header}").hostname or ""
    return ""


def _plain(status: HTTPStatus, text: str) -> Answer:
    return status, "text/plain; charset=utf-8", text.encode() + b"\n"
