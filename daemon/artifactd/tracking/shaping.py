"""What a delivery process sends keeps to the limit, whichever client sends it.

MLflow's stores are reached by requests, botocore, two SDKs on urllib3 and paramiko; each reads and buffers files in its
own way (Azure 4 MiB at once, S3 ten parts of 8 MiB), so a limit on reading would let bursts out. What all of them do in
the end is to call ``send`` or ``sendall`` of Python's own sockets, plain or TLS. There, in a process that does nothing
but deliveries, bytes wait for their turn, in pieces so small that no connection falls silent.

The wait is before the call and outside of any socket's timeout.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from artifactd import throttle

_installed = False


def install(shared: throttle.Shared) -> None:
    """Have all that this process sends keep to these limits, from now on; connections that are open, too.

    Args:
        shared: The limits; also what reads by ``throttle.read`` keeps to.
    """
    global _installed  # noqa: PLW0603 (so are sockets: one for the process)
    throttle.here = shared
    if _installed:
        return
    _installed = True
    send, sendall, send_tls = socket.socket.send, socket.socket.sendall, ssl.SSLSocket.send

    def first(data: Any) -> memoryview | None:
        """The piece whose turn has come; None where there is no limit."""
        if not (shared.line.rate or shared.reading.rate):
            return None
        piece = memoryview(data).cast("B")[: shared.piece]
        shared.take(len(piece))
        return piece

    def shaped_send(self: socket.socket, data: Any, flags: int = 0) -> int:
        piece = first(data)
        return send(self, data if piece is None else piece, flags)

    def shaped_sendall(self: socket.socket, data: Any, flags: int = 0) -> None:
        rest = memoryview(data).cast("B")
        while (piece := first(rest)) is not None and len(piece) < len(rest):
            sendall(self, piece, flags)
            rest = rest[len(piece) :]
        sendall(self, rest, flags)

    def shaped_tls(self: ssl.SSLSocket, data: Any, flags: int = 0) -> int:
        if self._sslobj is None:  # type: ignore[attr-defined]  # it is plain yet, and goes the way of plain sockets
            return send_tls(self, data, flags)
        piece = first(data)
        return send_tls(self, data if piece is None else piece, flags)

    # The `sendall` of a TLS socket calls its `send` for what is left.
    socket.socket.send = shaped_send  # type: ignore[method-assign, assignment]
    socket.socket.sendall = shaped_sendall  # type: ignore[method-assign, assignment]
    ssl.SSLSocket.send = shaped_tls  # type: ignore[method-assign]
