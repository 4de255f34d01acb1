"""The one thread that answers over HTTP, read-only, and one request at a time.

It waits for all lines at once, and answers a request when the whole of it has come: one who says nothing, as browsers
do with the lines that they open ahead, holds nobody up, nor does one who takes the answer slowly. While nobody asks and
nobody listens it sleeps without a limit.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from artifactd import log
from artifactd.aside import Aside, begin
from artifactd.config.uris import is_loopback
from artifactd.errors import ArtifactdError
from artifactd.exposition.asked import Page
from artifactd.exposition.handler import Door, reply
from artifactd.exposition.streams import Stream, Streams

PATIENCE = 5.0
"""Seconds that one who asks may take to say it, and then to take the answer."""

_WAITING = 64
"""Lines that are waited for at a time; the oldest one gives way."""

_LONGEST = 64 * 1024
"""Bytes of a request."""

_NO_ROOM = 0.1
"""Seconds without a look at who else calls, where the process may open no more files: it would spin."""

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(slots=True)
class _Caller:
    line: socket.socket
    until: float
    head: bytes = b""
    left: memoryview | None = None
    """Of the answer, once there is one."""
    listens: bool = False
    """Whether the line stays open after the answer."""


class Listener:
    """Answers from its making until it is closed.

    Args:
        listen: Host and port.
        pages: By path; each is called in the listener's thread.
        ended: Called in the listener's thread, as its last act.
        token_file: Holds what callers must show; None: nothing is asked for.
        stream: What goes on, told in the listener's thread; None: there is nothing to listen to.

    Raises:
        ArtifactdError: The address cannot be had.
    """

    def __init__(
        self, listen: str, pages: Mapping[str, Page], ended: Callable[[], None], token_file: Path | None = None,
        stream: Stream | None = None,
    ) -> None:  # fmt: skip
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        try:
            self._socket = _bound(host, int(port))
        except OSError as exc:
            raise ArtifactdError(
                f'metrics.listen = "{listen}" cannot be had: {exc.strerror or exc}',
                "Free the address or name another one, then reload the service; files are delivered all the same",
            ) from exc
        names = _OWN_NAMES | {host} if is_loopback(host) else None
        self._door = Door(pages, token_file, names, None if stream is None else stream.path)
        self.port = int(self._socket.getsockname()[1])
        self.failure: BaseException | None = None
        self._ended = ended
        self._streams = Streams(stream, self._leave)
        self._callers: dict[socket.socket, _Caller] = {}
        self._wake, self._woken = socket.socketpair()
        self._lines = selectors.DefaultSelector()
        self._lines.register(self._socket, selectors.EVENT_READ)
        self._lines.register(self._woken, selectors.EVENT_READ)
        self._open = True
        thread = begin(self._serve)
        if thread is None:
            self._close()
            raise ArtifactdError("there is no memory for the thread that serves metrics", "Reload the service for it")
        self._thread: Aside = thread

    def close(self) -> None:
        """Answer nobody any more."""
        self._open = False
        with suppress(OSError):
            self._wake.send(b"x")
        if not self._thread.wait(2 * PATIENCE):
            self._socket.close()  # whatever it is at: the address is free for whoever comes after

    def _serve(self) -> None:
        try:
            while self._open:
                self._turn()
        except BaseException as exc:  # noqa: BLE001 (the loop ends the process for it)
            self.failure = exc
        finally:
            self._close()
            self._ended()

    def _close(self) -> None:
        self._streams.close()
        for line in [*self._callers, self._socket, self._wake, self._woken]:
            line.close()
        self._lines.close()

    def _turn(self) -> None:
        for key, _ in self._lines.select(self._wait()):
            line = key.fileobj
            if line is self._socket:
                self._accept()
            elif isinstance(line, socket.socket) and line is not self._woken:
                caller = self._callers.get(line)
                with _told():
                    if caller is not None:
                        self._go_on(caller)
                    elif line.fileno() >= 0:  # else it was left a moment ago
                        self._streams.heard(line)
        now = time.monotonic()
        for caller in [c for c in self._callers.values() if c.until <= now]:
            self._leave(caller.line)
        try:
            self._streams.turn()
        except Exception:
            self._streams.close()  # they come again
            with _told():
                raise

    def _wait(self) -> float | None:
        """Seconds until something is to be done though nobody says anything; None for never."""
        ends = [caller.until - time.monotonic() for caller in self._callers.values()]
        if (wait := self._streams.wait) is not None:
            ends.append(wait)
        return max(0.0, min(ends)) if ends else None

    def _accept(self) -> None:
        try:
            line, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(_NO_ROOM)
            return
        line.setblocking(False)
        if len(self._callers) >= _WAITING:
            self._leave(next(iter(self._callers)))
        self._callers[line] = _Caller(line, time.monotonic() + PATIENCE)
        self._lines.register(line, selectors.EVENT_READ)

    def _go_on(self, caller: _Caller) -> None:
        if caller.left is None:
            self._hear(caller)
        else:
            self._give(caller, caller.left)

    def _hear(self, caller: _Caller) -> None:
        try:
            said = caller.line.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        caller.head += said
        if not said or len(caller.head) > _LONGEST:
            self._leave(caller.line)
        elif b"\r\n\r\n" in caller.head or b"\n\n" in caller.head:
            self._answer(caller)

    def _answer(self, caller: _Caller) -> None:
        try:
            answer = reply(caller.head, self._door, room=self._streams.room)
        except BaseException:
            self._leave(caller.line)
            raise
        caller.left, caller.listens = memoryview(answer.said), answer.goes_on
        caller.until = time.monotonic() + PATIENCE
        self._lines.modify(caller.line, selectors.EVENT_WRITE)
        self._give(caller, caller.left)

    def _give(self, caller: _Caller, left: memoryview) -> None:
        line = caller.line
        try:
            caller.left = left = left[line.send(left) :]
            if left:
                return
            if not caller.listens:
                line.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            caller.listens = False
        if caller.listens:
            del self._callers[line]
            self._lines.modify(line, selectors.EVENT_READ)
            self._streams.add(line)
        else:
            self._leave(line)

    def _leave(self, line: socket.socket) -> None:
        self._callers.pop(line, None)
        self._lines.unregister(line)
        line.close()


@contextmanager
def _told() -> Iterator[None]:
    """One who went away, or was too slow, is no event; what a page raises is told, and the next one is answered."""
    try:
        yield
    except OSError:
        pass
    except Exception as exc:  # noqa: BLE001 (whatever a page raises)
        log.get().error("a request for metrics failed", error=f"{type(exc).__name__}: {exc}")


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind(address)
        made.listen(_WAITING)
    except BaseException:
        made.close()
        raise
    return made
