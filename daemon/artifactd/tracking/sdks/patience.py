"""How long a request to an object store may take: as long as its bytes find a way, and no longer.

urllib3, which all three SDKs stand on, has one timeout for making a connection and for sending a body, and Python
counts a ``sendall`` as a whole: Azure's SDK sends 64 MiB in one, so that the 20 s which it gives to a connection cut
every upload below 3 MiB/s, and a shorter limit for dead hosts would cut more. So what is marked with ``Patience`` is
the limit for a connection, or for an answer to a small request; a body goes out in pieces, each with time of its own,
and the answer to it may take as long as those bytes that nobody can see any more need on a slow line.
"""

from __future__ import annotations

import contextlib
import socket
import weakref
from typing import Any

from artifactd.tracking import environment
from artifactd.tracking.environment import IN_FLIGHT, SLOWEST, SPOOL_RATE

_PIECE = 64 * 1024
"""Bytes that are given to the kernel at a time."""

_SMALL = 8 * 1024
"""Bytes that go out at once on any line: headers, and what is no content."""

_UNSENT = 256 * 1024
"""Bytes that the kernel keeps of a body before it has sent them: what it hides would look like silence."""

_SENT = "_artifactd_sent"

_sending: weakref.WeakSet[Any] = weakref.WeakSet()
"""Connections with a body on its way, or an answer to it."""


class Patience(float):
    """Seconds, of a timeout that urllib3 is to take as ours."""


CONNECT = Patience(5)
"""Seconds for a connection to one address; a name may have two, of which the first is dead."""

SILENCE = Patience(8)
"""Seconds without a byte of the answer, where little or nothing was sent."""


def install() -> None:
    """Have urllib3 know ``Patience``; for this process, once. Other timeouts work as ever."""
    from urllib3.connection import HTTPConnection  # noqa: PLC0415  (comes with MLflow, as slow as it)

    if hasattr(HTTPConnection, _SENT):
        return
    send, getresponse = HTTPConnection.send, HTTPConnection.getresponse

    def patient_send(self: Any, data: Any) -> None:
        if not isinstance(self.timeout, Patience) or not isinstance(data, bytes | bytearray | memoryview):
            send(self, data)
            return
        if self.sock is None:
            self.connect()
        if len(data) > _SMALL:
            _sending.add(self)
        with contextlib.suppress(OSError, AttributeError):  # of what is no TCP socket itself
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self.sock.settimeout(self.timeout + IN_FLIGHT / SLOWEST * max(1, len(_sending)))
        view = memoryview(data)
        try:
            for start in range(0, len(view), _PIECE):
                send(self, view[start : start + _PIECE])
        except BaseException:
            _sending.discard(self)
            setattr(self, _SENT, 0)
            raise
        setattr(self, _SENT, getattr(self, _SENT) + len(view))

    def patient_getresponse(self: Any) -> Any:
        if isinstance(self.timeout, Patience):
            sent = getattr(self, _SENT)
            # On one slow line, the bytes of all that go out at once are before ours.
            needed = min(sent, IN_FLIGHT) / SLOWEST * max(1, len(_sending)) + sent / SPOOL_RATE
            self.timeout = Patience(self.timeout + environment.slack + needed)
            setattr(self, _SENT, 0)
        try:
            return getresponse(self)
        finally:
            _sending.discard(self)

    setattr(HTTPConnection, _SENT, 0)
    HTTPConnection.send = patient_send  # type: ignore[method-assign]
    HTTPConnection.getresponse = patient_getresponse  # type: ignore[method-assign]
