"""A real webhook's server, and a real command, for what is told."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
WELL: Answer = (200, {}, b"ok")


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass
class Hook:
    """A server on 127.0.0.1 that gives one answer after the other, and the last one for ever.

    Attributes:
        url: Where it is told.
        requests: What it was sent.
        answers: None hangs, and is an answer only when the test is over.
        over: Set at the end.
    """

    url: str
    answers: Sequence[Answer | None]
    requests: list[Request] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def take(self, request: Request) -> Answer | None:
        self.requests.append(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Who was kept waiting is gone by now."""


@contextlib.contextmanager
def hook(*answers: Answer | None) -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = made.take(Request(self.path, dict(self.headers), body))
            if answer is None:
                made.over.wait(60)
                answer = WELL
            code, headers, content = answer
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        made = Hook(f"http://127.0.0.1:{server.server_port}/hooks/s3cret", answers or (WELL,))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            made.over.set()
            server.shutdown()
            thread.join()


def script(folder: Path, body: str) -> list[str]:
    """A command that is a Python program: `told` is where it may write, `said` what it was given."""
    file = folder / "page.py"
    file.write_text(f"import sys, time, os\ntold = {str(folder / 'told')!r}\nsaid = sys.stdin.buffer.read()\n{body}\n")
    return [sys.executable, "-S", str(file)]


def noting(folder: Path) -> list[str]:
    """A command that writes down what it is given, a line each time."""
    return script(folder, "open(told, 'ab').write(said + b'\\n')")


def noted(folder: Path) -> list[dict[str, Any]]:
    """What such a command was given."""
    file = folder / "told"
    return [json.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []
