"""What a tracking server says of itself, its clock and the way to its stores, and whether 5 MiB get through to these.

For the last, an object is written, read back and removed in a run of its own (see ``trial``); all else only asks.

Asked in a process of its own, as ``probe`` does: a server that swallows requests can't hold the answer back, and what
MLflow leaves in a process stays in that one.

    python -m artifactd.tracking.contact      (reads a ``Question`` as JSON, writes a ``Contact`` as JSON)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from artifactd.errors import Scope
from artifactd.secrets import mask
from artifactd.tracking import address, certificates, environment, limits, reasons, server
from artifactd.tracking.classify import classify
from artifactd.tracking.trial import Question, Step, next_step, send
from artifactd.tracking.way import Caution, cautions, parts_from, warnings_of, way_to

if TYPE_CHECKING:
    from mlflow import MlflowClient

WITHIN = 30.0
"""Seconds for all of it; MLflow's import takes some of them."""

PROBE = 5 * 2**20
"""Bytes of the body that is announced, and sent where that is not refused, to see whether a gateway takes it."""

THROUGH = ("mlflow-artifacts", "http", "https")
"""Schemes of locations that are reached through the server."""

_EXPERIMENTS = 50

_ENDLESS = f"it was not there and back within the {WITHIN:.0f} s that all of this has"
_SLOW = "Try one big file; where that is slow too, look at the line and at what stands before the server"


@dataclass(frozen=True, slots=True)
class Way:
    """How files get to one store.

    Attributes:
        where: The location, secrets masked.
        scheme: Its scheme; ``file`` for a folder.
        how: In one line.
        warnings: What to mind on it.
    """

    where: str
    scheme: str
    how: str
    warnings: tuple[Caution, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """What was learnt; what could not be is None or empty.

    Attributes:
        error: Why the server cannot be used, secrets masked; empty when it can.
        cure: What to do about that.
        client: Version of MLflow's client here.
        server: Version that the server tells.
        who: Whose credentials go out with a request, and where they are from.
        seconds: That first contact and a search took.
        ahead: Seconds that the server's clock is ahead of this host's; to half a second or so.
        certificate_end: Until when its certificate holds, unix seconds.
        refuses: Whether a body of ``PROBE`` bytes is refused for its size, as soon as it is announced.
        sent: What came of sending one; None where none was: it is refused, or nothing goes through the server.
        parts: Bytes from which on files go in parts past the server; None where they go whole.
        ways: To the stores that are known, one each.
        warnings: What to mind of the connection.
    """

    error: str = ""
    cure: str = ""
    client: str = ""
    server: str | None = None
    who: str | None = None
    seconds: float | None = None
    ahead: float | None = None
    certificate_end: float | None = None
    refuses: bool | None = None
    sent: Step | None = None
    parts: int | None = None
    ways: tuple[Way, ...] = ()
    warnings: tuple[Caution, ...] = ()

    @property
    def through(self) -> bool:
        """Whether files go through the server to any of its stores."""
        return any(way.scheme in THROUGH for way in self.ways)


def contact(question: Question, within: float = WITHIN) -> Contact:
    """Ask a server, in a process of its own.

    Args:
        question: The server (http or https), and the experiments that are delivered to.
        within: Seconds after which it counts as one that does not answer.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="artifactd-") as temporary:  # as `probe` has one
            done = subprocess.run(
                [sys.executable, "-m", "artifactd.tracking.contact"],
                # Over a pipe: a tracking URI may hold a password, and a command line is for all to see.
                input=json.dumps(dataclasses.asdict(question)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # MLflow's own words; what matters is in the answer
                text=True,
                env={**os.environ, "TMPDIR": temporary},
                cwd="/",
                timeout=within,
                check=False,
            )
    except subprocess.TimeoutExpired as exc:
        if exc.stdout and b"\n" in exc.stdout:  # what was learnt until then
            return _from_json(exc.stdout.decode().splitlines()[0])
        return Contact(
            f"{mask(question.tracking_uri)} did not answer within {within:.0f} s",
            "Something on the way swallows requests: look at firewalls, proxies and the address",
        )
    if not done.stdout:
        return Contact(
            "the process that asks ended without a word", "See the kernel's log (dmesg) for memory, and try it again"
        )
    return _from_json(done.stdout.splitlines()[-1])


def _from_json(line: str) -> Contact:
    data = json.loads(line)
    ways = tuple(Way(**{**way, "warnings": cautions(way["warnings"])}) for way in data["ways"])
    sent = data["sent"] and Step(**{**data["sent"], "warnings": cautions(data["sent"]["warnings"])})
    return Contact(**{**data, "ways": ways, "warnings": cautions(data["warnings"]), "sent": sent})


def ask(question: Question) -> Iterator[Contact]:
    """Ask a server here and now.

    Yields:
        What was learnt; where a body is sent, what is to be said if that never ends, and then what came of it.
    """
    uri = question.tracking_uri
    environment.prepare(uri)
    environment.preload()  # its seconds are not the server's
    from mlflow.version import VERSION  # noqa: PLC0415  (MLflow is slow to import)

    known = Contact(
        client=VERSION, who=reasons.who(uri), certificate_end=certificates.end_of_server(uri),
        warnings=tuple(warnings_of(uri)),
    )  # fmt: skip
    begun = time.monotonic()
    try:
        client = server.connect(uri, embedded_artifacts=None)
        client.search_experiments(max_results=1)  # its version it tells to everybody
        known = replace(known, seconds=time.monotonic() - begun, server=address.version_told(uri))
        known = replace(known, ahead=clock_ahead(uri), ways=tuple(_ways(client, question)))
    except Exception as exc:  # noqa: BLE001 (told as a finding)
        failure = classify(exc, target=uri, scope=Scope.TARGET)
        yield replace(known, error=failure.error, cure=next_step(failure))
        return
    if not known.through:
        yield known
        return
    known = replace(known, refuses=limits.refuses(uri, PROBE), parts=parts_from(uri))
    if known.refuses:
        yield known
        return
    yield replace(known, sent=Step("store", mask(uri), False, WITHIN, _ENDLESS, _SLOW))
    try:
        yield replace(known, sent=send(client, question, PROBE, THROUGH))
    except Exception as exc:  # noqa: BLE001 (told as a finding)
        failure = classify(exc, target=uri, scope=Scope.TARGET)
        yield replace(known, sent=Step("store", mask(uri), False, 0.0, failure.error, next_step(failure)))


def clock_ahead(uri: str) -> float | None:
    """Seconds that the clock of a server, or of the gateway before it, is ahead of this host's.

    None if it tells no time. Its answers tell whole seconds: the error is half of one, and half of what an answer took.
    """
    from mlflow.utils.credentials import get_default_host_creds as creds  # noqa: PLC0415  (MLflow is slow to import)
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415

    before = time.time()
    answer = http_request(creds(uri), "/version", "GET")
    after = time.time()
    with contextlib.suppress(TypeError, ValueError):
        told = parsedate_to_datetime(answer.headers.get("Date")).timestamp() + 0.5
        return told - (before + after) / 2
    return None


def _ways(client: MlflowClient, question: Question) -> Iterator[Way]:
    """The ways to the stores of new experiments, and of those that are known."""
    seen = set()
    for location in _locations(client, question):
        parts = urlsplit(location)
        store = (parts.scheme or "file", parts.netloc.rpartition("@")[2])
        if store not in seen:
            seen.add(store)
            how, warnings = way_to(location, question.tracking_uri)
            yield Way(mask(location), store[0], how, tuple(warnings))


def _locations(client: MlflowClient, question: Question) -> Iterator[str]:
    if question.artifact_location is not None:
        yield question.artifact_location
    names = question.experiments[:_EXPERIMENTS]
    for name in names if question.artifact_location is not None else ("Default", *names):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            yield experiment.artifact_location


def main() -> None:
    """Answer the question on stdin."""
    data = json.load(sys.stdin)
    question = Question(**{**data, "experiments": tuple(data["experiments"])})
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MLflow prints
    logging.disable(logging.CRITICAL)
    for found in ask(question):
        out.write(json.dumps(dataclasses.asdict(found)) + "\n")
        out.flush()
    os._exit(0)  # whatever threads an SDK has left


if __name__ == "__main__":
    main()
