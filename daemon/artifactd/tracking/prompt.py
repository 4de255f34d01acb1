"""Answers come whole at once: the kernel does not keep back the word that their first half has arrived.

Linux may wait 40 ms before it acknowledges what it received. A server that sends headers and body apart, and has not
turned Nagle's algorithm off (TCP_NODELAY), keeps the body back for as long: uvicorn with several workers, which is how
``mlflow server`` runs by itself, accepts from a socket of which asyncio does not know that it is TCP (0.51), so each
listing, and whatever else has a body, took 40 ms more. With TCP_QUICKACK (tcp(7)) the word is sent as soon as the
headers are read; it does not stay, so it is said for each answer.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

_NOTE = "_artifactd_prompt"


def acknowledge_at_once() -> None:
    """Have urllib3's connections acknowledge an answer's headers before its body is read; for this process, once."""
    from urllib3.connection import HTTPConnection  # noqa: PLC0415  (comes with MLflow, as slow as it)

    if hasattr(HTTPConnection, _NOTE):
        return
    getresponse = HTTPConnection.getresponse

    def prompt_getresponse(self: Any) -> Any:
        with contextlib.suppress(OSError, AttributeError):  # of what is no TCP socket itself
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return getresponse(self)

    setattr(HTTPConnection, _NOTE, True)
    HTTPConnection.getresponse = prompt_getresponse  # type: ignore[method-assign]
