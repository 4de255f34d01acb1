"""A server on 127.0.0.1 as it is from afar: a relay that passes everything on later, and as fast.

    python distance.py PORT SECONDS       (prints the port to use instead; ends with its standard input)

Only the way is longer: what is sent while something is under way does not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def away(port: int, seconds: float) -> Iterator[int]:
    """A port at which a local one can be had, so many seconds away (there and back)."""
    command = [sys.executable, __file__, str(port), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        yield int(relay.stdout.readline())
        relay.communicate()


class _Side(asyncio.Protocol):
    """One end of a connection, whose words go to the other end."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.other: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._later(lambda there: there.write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(lambda there: there.close())

    def _later(self, act: Callable[[asyncio.Transport], None]) -> None:
        def pass_on() -> None:
            self.other.add_done_callback(lambda there: act(there.result()))

        asyncio.get_running_loop().call_later(self._delay, pass_on)


async def _serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()

    async def connect(near: _Side) -> None:
        transport, far = await loop.create_connection(lambda: _Side(delay), "127.0.0.1", port)
        assert isinstance(far, _Side)
        assert near.transport is not None
        far.other.set_result(near.transport)
        near.other.set_result(transport)

    def accepted() -> _Side:
        near = _Side(delay)
        tasks.add(task := loop.create_task(connect(near)))
        task.add_done_callback(tasks.discard)
        return near

    server = await loop.create_server(accepted, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 2))
