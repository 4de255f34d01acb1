"""Who hands out credentials: a small web service on 127.0.0.1, as the clouds' machines and token endpoints are."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stores.tls import Certificate

Answer = tuple[int, object]
"""Status, and a body: text as it is, anything else as JSON."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: `headers` by names in lower case, `path` with its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str


@dataclass(slots=True)
class Issuer:
    """A running service.

    Attributes:
        uri: Its address.
        asked: What it was asked, in order.
    """

    uri: str
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def issuer(
    answer: Callable[[Asked], Answer], certificate: Certificate | None = None, **headers: str
) -> Iterator[Issuer]:
    """Run it while the block lasts.

    Args:
        answer: Called for each request.
        certificate: Speak TLS by it.
        headers: Of each answer; underscores stand for hyphens.
    """
    said: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            said.append(asked)
            status, content = answer(asked)
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

        do_GET = do_PUT = do_POST = do_HEAD = _serve  # noqa: N815 (the names are those of http.server)

        def log_message(self, *_: Any) -> None:
            """Nothing: the test reads `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.chain, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Issuer(f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}", said)
        finally:
            server.shutdown()


def aws_keys(key: tuple[str, str], seconds: float = 6 * 3600, **more: object) -> dict[str, object]:
    """A pair of keys as Amazon's services hand it out, good for so many seconds from now."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "AccessKeyId": key[0], "SecretAccessKey": key[1], "Token": "", "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **more,
    }  # fmt: skip
