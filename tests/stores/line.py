"""A line to a server that is slow: a TCP relay on 127.0.0.1."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_STEP = 0.05
_BUFFER = 4096


@contextlib.contextmanager
def slow_line(port: int, rate: float) -> Iterator[int]:
    """Relay connections to a local port, `rate` bytes a second towards it, and freely back; yields the line's port."""
    over = threading.Event()
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def start(source: socket.socket, target: socket.socket, most: float | None) -> None:
        thread = threading.Thread(target=_relay, args=(source, target, most, over), daemon=True)
        thread.start()
        threads.append(thread)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", port))
                open_sockets.extend((here, there))
                start(here, there, rate)
                start(there, here, None)

    with socket.socket() as listener:
        # Small, and so inherited: what waits in the line's buffers is no progress.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            over.set()
            accepting.join()
            for each in open_sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in open_sockets:
                each.close()


def _relay(source: socket.socket, target: socket.socket, rate: float | None, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not over.is_set() and (data := source.recv(max(1, int(rate * _STEP)) if rate else 65536)):
            target.sendall(data)
            if rate:
                time.sleep(len(data) / rate)
        target.shutdown(socket.SHUT_WR)
