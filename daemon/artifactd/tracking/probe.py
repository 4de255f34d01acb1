"""Does it work? Reaches the server, and writes, lists, reads back and removes one small object in each store.

It works in a process of its own, which is ended when the time is up: a server or a store that swallows requests
would otherwise hold the answer back for minutes, whatever timeouts are set. What that process does is in ``trial``.

    python -m artifactd.tracking.probe      (reads a ``Question`` as JSON, writes ``Begun`` and ``Ended`` as JSON lines)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO

from artifactd.secrets import mask
from artifactd.tracking.trial import Begun, Question, Step, ask
from artifactd.tracking.way import cautions

WITHIN = 30.0
"""Seconds for all of it; MLflow's import takes some of them."""


def probe(question: Question, within: float = WITHIN) -> Iterator[Step]:
    """Look at the server and its stores.

    Args:
        question: What to look at.
        within: Seconds after which what is still under way counts as not in order.

    Yields:
        One step after the other, as they are done; stores are looked at side by side.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with (
        tempfile.TemporaryDirectory(prefix="artifactd-") as temporary,  # it may be killed, and leaves then what it made
        subprocess.Popen(
            [sys.executable, "-m", "artifactd.tracking.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # MLflow's own words; what matters is in the steps
            text=True,
            env={**os.environ, "TMPDIR": temporary},
            cwd="/",  # as the service's workers, so that what depends on it shows
        ) as process,
    ):
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            # Over a pipe: a tracking URI may hold a password, and a command line is for all to see.
            _write(process.stdin, json.dumps(dataclasses.asdict(question)))
            yield from _steps(lines, mask(question.tracking_uri), within)
        finally:
            process.kill()
            reader.join()


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is not None:
        with contextlib.suppress(BrokenPipeError), stream:
            stream.write(text)


def _read(stream: IO[str] | None, lines: queue.SimpleQueue[str]) -> None:
    for line in stream or ():
        lines.put(line)
    lines.put("")


def _steps(lines: queue.SimpleQueue[str], target: str, within: float) -> Iterator[Step]:
    start = time.monotonic()
    under_way = {0: (Begun(0, "server", target, "be reached"), start)}
    while True:
        try:
            line = lines.get(timeout=max(0.0, start + within - time.monotonic()))
        except queue.Empty:
            for begun, since in under_way.values():
                yield Step(
                    begun.what, begun.subject, False, time.monotonic() - since,
                    f"it could not {begun.doing} within {within:.0f} s",
                    "Something on the way swallows requests: look at firewalls, proxies and the address",
                )  # fmt: skip
            return
        if not line:
            for begun, since in under_way.values():
                yield Step(
                    begun.what, begun.subject, False, time.monotonic() - since,
                    "the process that asks ended without a word",
                    "Run the same with the service stopped; see the kernel's log (dmesg) for memory",
                )  # fmt: skip
            return
        message = json.loads(line)
        if message is None:
            return
        if "step" in message:
            under_way.pop(message["key"], None)
            found = message["step"]
            yield Step(**{**found, "warnings": cautions(found["warnings"])})
        else:
            begun = Begun(**message)
            _, since = under_way.get(begun.key, (begun, time.monotonic()))
            under_way[begun.key] = (begun, since)


# -- in the process of its own -----------------------------------------------------------------------------------


def main() -> None:
    """Answer the question on stdin."""
    data = json.load(sys.stdin)
    question = Question(**{**data, "experiments": tuple(data["experiments"])})
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MLflow prints
    logging.disable(logging.CRITICAL)
    for event in ask(question):
        out.write(json.dumps(dataclasses.asdict(event)) + "\n")
        out.flush()
    out.write("null\n")
    out.flush()
    os._exit(0)  # whatever threads an SDK has left


if __name__ == "__main__":
    main()
