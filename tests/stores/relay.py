"""What may stand between a client and a store: nothing that answers, something else that does, a slow line."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 16 * 1024


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A URL where connections are taken, and nothing else ever happens."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def answering(answer: bytes, certificate: Path | None = None) -> Iterator[str]:
    """A URL where each request gets the same answer, a whole HTTP response.

    Args:
        answer: Status line, headers and body.
        certificate: Speak TLS with this file's key and certificate.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        threading.Thread(target=_serve, args=(listening, answer, context), daemon=True).start()
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, answer: bytes, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_answer, args=(connection, answer, context), daemon=True).start()


def _answer(connection: socket.socket, answer: bytes, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), connection:
        talking = connection if context is None else context.wrap_socket(connection, server_side=True)
        with talking, talking.makefile("rb") as stream:
            length = 0
            while (line := stream.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            stream.read(length)
            talking.sendall(answer)
            talking.shutdown(socket.SHUT_WR)
            stream.read()


def response(status: str, body: str = "", **headers: str) -> bytes:
    """An HTTP response; underscores in the names of headers stand for hyphens."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts, with its key, in one file."""
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
         str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


class Relay:
    """A line to a server on 127.0.0.1 that passes on so many bytes a second and direction, or none while it is stopped.

    Attributes:
        rate: Bytes per second of all that goes to the server; 0 for no limit.
        sent: Bytes that went to the server.
    """

    def __init__(self, port: int) -> None:
        self.rate = 0.0
        self.sent = 0
        self.flowing = threading.Event()
        self.flowing.set()
        self._upstream = port
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.flowing.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream), timeout=10)
                server.settimeout(None)
                with self._lock:
                    self._open |= {client, server}
                for args in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=args, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK):
                self.flowing.wait()
                if up:
                    self._take_time(len(block))
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if not up:  # an exchange ends with what the server says
            for one in (source, sink):
                with self._lock:
                    self._open.discard(one)
                one.close()

    def _take_time(self, size: int) -> None:
        with self._lock:
            self.sent += size
            if not self.rate:
                return
            self._free_at = max(self._free_at, time.monotonic()) + size / self.rate
            wait = self._free_at - time.monotonic()
        time.sleep(max(0.0, wait))
