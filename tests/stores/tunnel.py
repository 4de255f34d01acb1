"""A forward proxy on 127.0.0.1 that brings whatever is asked for to a local port: a cloud's name to our server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_BLOCK = 64 * 1024


@dataclass(slots=True)
class Tunnel:
    """A running proxy.

    Attributes:
        uri: For HTTPS_PROXY.
        ports: By ``host:port``, where a tunnel ends that does not end where the others do.
        asked: ``host:port`` of each CONNECT, in order.
    """

    uri: str
    ports: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def tunnel(port: int) -> Iterator[Tunnel]:
    """Run it while the block lasts.

    Args:
        port: On 127.0.0.1, where tunnels end.
    """
    open_sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        proxy = Tunnel(f"http://127.0.0.1:{listening.getsockname()[1]}")

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    open_sockets.append(client)
                    threading.Thread(target=serve, args=(client,), daemon=True).start()

        def serve(client: socket.socket) -> None:
            with contextlib.suppress(OSError, IndexError):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1) or b"\r\n\r\n"
                wanted = head.split()[1].decode()
                proxy.asked.append(wanted)
                server = socket.create_connection(("127.0.0.1", proxy.ports.get(wanted, port)), timeout=10)
                server.settimeout(None)
                open_sockets.append(server)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
                _pass_on(client, server)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield proxy
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for each in open_sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK):
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
