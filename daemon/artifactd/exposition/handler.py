"""Who is answered, and how an answer looks on the line: a request as bytes, to an answer as bytes.

On this machine alone whoever calls it by a name of this machine is answered: a page in a browser that has its own name
led to 127.0.0.1 (DNS rebinding) is refused. On any other address, and wherever a token file is named, the token is
wanted, which is read at each request, so that it can be rotated: as ``Authorization: Bearer``, or as the password that
a browser asks its user for. No address ever holds it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from artifactd import log
from artifactd.exposition.asked import Answer, Asked, Page, plain

_MOST_ASKED = 4096
"""Characters of a query."""


@dataclass(frozen=True, slots=True)
class Door:
    """What is there, and for whom.

    Attributes:
        pages: By path.
        token_file: Holds what is to be shown; None: nothing.
        own_names: What this machine may be called by; None: anything.
        stream: The path of what goes on for ever; None: there is no such thing.
    """

    pages: Mapping[str, Page]
    token_file: Path | None = None
    own_names: frozenset[str] | None = None
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes on the line.

    Attributes:
        said: As bytes.
        goes_on: The line stays open for what there will be to say.
    """

    said: bytes
    goes_on: bool = False


def reply(head: bytes, door: Door, *, room: bool = True) -> Reply:
    """Answer a request.

    Args:
        head: The request with all its headers.
        door: What is there, and for whom.
        room: Whether one more may listen to what goes on.
    """
    handler = _Handler(head, door, room=room)
    return Reply(handler.said, handler.goes_on)


class _Handler(BaseHTTPRequestHandler):
    server_version = "artifactd"
    sys_version = ""

    def __init__(self, head: bytes, door: Door, *, room: bool) -> None:
        self._head, self._door, self._room = head, door, room
        self.said, self.goes_on = b"", False
        super().__init__(cast("Any", None), ("", 0), cast("Any", None))  # bytes come in and go out: no line is touched

    def setup(self) -> None:
        """Read what was said already."""
        self.rfile = io.BufferedReader(io.BytesIO(self._head))
        self.wfile = self._out = io.BytesIO()

    def finish(self) -> None:
        """Keep what is to be said."""
        self.said = self._out.getvalue()

    def do_GET(self) -> None:
        """Answer."""
        answer = self._answer()
        self.send_response(answer.status)
        headers = [
            ("Content-Type", answer.kind), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", answer.policy), ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"),
        ]  # fmt: skip
        self.goes_on = self.goes_on and self.command != "HEAD"
        if not self.goes_on:
            headers.append(("Content-Length", str(len(answer.content))))
        if answer.status == HTTPStatus.UNAUTHORIZED:
            headers += [
                ("WWW-Authenticate", 'Basic realm="artifactd", charset="UTF-8"'),
                ("WWW-Authenticate", "Bearer"),
            ]
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    do_HEAD = do_GET  # noqa: N815 (a name that the base class looks for)

    def _answer(self) -> Answer:
        door = self._door
        if door.own_names is not None and _host(self.headers.get("Host", "")) not in door.own_names:
            return plain(HTTPStatus.MISDIRECTED_REQUEST, "this is not the name of this machine")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not self._is_followed_link():
            return plain(HTTPStatus.FORBIDDEN, "this is for no other page")
        if door.token_file is not None:
            refusal = _refusal(door.token_file, self.headers.get("Authorization", ""))
            if refusal:
                return refusal
        try:
            url = urlsplit(self.path)
        except ValueError:  # an address such as http://[
            return plain(HTTPStatus.BAD_REQUEST, "that is no address")
        if url.path == door.stream:
            if not self._room:
                return plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many listen already")
            self.goes_on = True
            return Answer(HTTPStatus.OK, "text/event-stream; charset=utf-8", b"")
        page = door.pages.get(url.path)
        if page is None:
            there = sorted([*door.pages, *([door.stream] if door.stream else [])])
            return plain(HTTPStatus.NOT_FOUND, "there is " + ", ".join(there))
        if len(url.query) > _MOST_ASKED:
            return plain(HTTPStatus.REQUEST_URI_TOO_LONG, "that is too long a question")
        return page(Asked(self.headers.get("Accept", ""), dict(parse_qsl(url.query))))

    def _is_followed_link(self) -> bool:
        return self.headers.get("Sec-Fetch-Mode") == "navigate" and self.headers.get("Sec-Fetch-Dest") == "document"

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
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, "the token cannot be read")
    if token and hmac.compare_digest(_shown(given), token.encode()):
        return None
    return plain(
        HTTPStatus.UNAUTHORIZED, "a token is wanted: as the password, or by Authorization: Bearer ..."
    )  # fmt: skip


def _shown(authorization: str) -> bytes:
    """The token in an Authorization header; nothing where there is none."""
    scheme, _, said = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return said.strip().encode()
        case "basic":
            with suppress(binascii.Error, ValueError):
                return base64.b64decode(said.strip(), validate=True).partition(b":")[2]
    return b""


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    with suppress(ValueError):
        return urlsplit(f"//{header}").hostname or ""
    return ""
