"""Does it work? Reaches the server, and writes, lists, reads back and removes one small object in each store.

It works in a process of its own, which is ended when the time is up: a server or a store that swallows requests
would otherwise hold the answer back for minutes, whatever timeouts are set. What is written goes into runs of the
probe's own, in experiments of its own, never into a user's.

    python -m artifactd.tracking.probe      (reads a ``Question`` as JSON, writes ``Step``s as JSON lines)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import posixpath
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import environment, sdks, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "artifactd-check"
OBJECT = "artifactd-check.bin"

WITHIN = 30.0
"""Seconds for all of it; MLflow's import takes some of them."""

_OBJECT_BYTES = 64
_MOST_STORES = 5
_REACH = "See that it runs, that the address is right, and that this host may reach it"
_NOTE = "Made by `artifactd check`, which writes one small object here, reads it back and removes it."


@dataclass(frozen=True, slots=True)
class Question:
    """What to look at.

    Attributes:
        tracking_uri: The server.
        embedded_artifacts: As for ``server.connect``, as text.
        artifact_location: What is configured for new experiments; None leaves it to the server.
        experiments: Experiments that are delivered to: their stores are looked at too.
    """

    tracking_uri: str
    embedded_artifacts: str | None
    artifact_location: str | None
    experiments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at.

    Attributes:
        what: ``server`` or ``store``.
        subject: Its address, secrets masked.
        ok: Whether it is in order.
        seconds: How long it took.
        detail: What was found.
        cure: What to do when it is not in order.
    """

    what: str
    subject: str
    ok: bool
    seconds: float
    detail: str
    cure: str = ""


def probe(question: Question, within: float = WITHIN) -> Iterator[Step]:
    """Look at the server and its stores.

    Args:
        question: What to look at.
        within: Seconds after which what is still under way counts as not in order.

    Yields:
        One step after the other, as they are done.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with subprocess.Popen(
        [sys.executable, "-m", "artifactd.tracking.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # MLflow's own words; what matters is in the steps
        text=True,
        cwd="/",  # as the service's workers, so that what depends on it shows
    ) as process:
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            # Over a pipe: a tracking URI may hold a password, and a command line is for all to see.
            _write(process.stdin, json.dumps(dataclasses.asdict(question)))
            yield from _steps(lines, mask(question.tracking_uri), time.monotonic() + within, within)
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


def _steps(lines: queue.SimpleQueue[str], target: str, deadline: float, within: float) -> Iterator[Step]:
    under_way, since = ("server", target), time.monotonic()
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield Step(
                *under_way, False, time.monotonic() - since, f"no answer within {within:.0f} s",
                "Something on the way swallows requests: look at firewalls, proxies and the address",
            )  # fmt: skip
            return
        if not line:
            yield Step(
                *under_way, False, time.monotonic() - since, "the process that asks ended without a word",
                "Run the same with the service stopped; see the kernel's log (dmesg) for memory",
            )  # fmt: skip
            return
        message = json.loads(line)
        if message is None:
            return
        if "ok" in message:
            yield Step(**message)
        else:
            under_way, since = (message["what"], message["subject"]), time.monotonic()


# -- in the process of its own -----------------------------------------------------------------------------------


def main() -> None:
    """Answer the question on stdin."""
    data = json.load(sys.stdin)
    question = Question(**{**data, "experiments": tuple(data["experiments"])})
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MLflow prints
    logging.disable(logging.CRITICAL)
    for step in ask(question):
        out.write(json.dumps(step if isinstance(step, dict) else dataclasses.asdict(step)) + "\n")
        out.flush()
    out.write("null\n")
    out.flush()
    os._exit(0)  # whatever threads an SDK has left


def ask(question: Question) -> Iterator[Step | dict[str, str]]:
    """Carry it out here and now.

    Yields:
        Before each step what is looked at (``what``, ``subject``), then the step.
    """
    target = mask(question.tracking_uri)
    yield {"what": "server", "subject": target}
    environment.prepare(question.tracking_uri)
    import mlflow  # noqa: F401, PLC0415  (its seconds are not the server's)

    begun = time.monotonic()
    try:
        embedded = Path(question.embedded_artifacts) if question.embedded_artifacts else None
        client = server.connect(question.tracking_uri, embedded_artifacts=embedded)
        version = _version(question.tracking_uri)
        client.search_experiments(max_results=1)
        stores = _stores(client, question)
    except Exception as exc:  # noqa: BLE001 (told as a step)
        yield _not_in_order("server", target, begun, classify(exc, target=target, scope=Scope.TARGET))
        return
    yield Step("server", target, True, time.monotonic() - begun, version)
    for name, location in stores:
        subject = mask(location or "the server's default artifact root")
        yield {"what": "store", "subject": subject}
        begun = time.monotonic()
        try:
            where, detail = _round_trip(client, question.tracking_uri, name, location)
        except Exception as exc:  # noqa: BLE001 (told as a step)
            failure = classify(exc, target=subject, scope=Scope.TARGET)
            yield _not_in_order("store", subject, begun, failure)
        else:
            yield Step("store", mask(where), True, time.monotonic() - begun, detail)


def _not_in_order(what: str, subject: str, begun: float, failure: Failure) -> Step:
    # "Tried again by itself" holds for deliveries; here somebody looks for the reason.
    cure = _REACH if failure.kind is Kind.TRANSIENT else failure.cure
    return Step(what, subject, False, time.monotonic() - begun, failure.error, cure)


def _version(tracking_uri: str) -> str:
    import mlflow  # noqa: PLC0415  (costs 80 MiB and seconds)

    if not tracking_uri.startswith(("http://", "https://")):
        return f"MLflow {mlflow.__version__} of this environment"
    from mlflow.utils.credentials import get_default_host_creds as creds  # noqa: PLC0415
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415

    answer = http_request(creds(tracking_uri), "/version", "GET")
    said = answer.text.strip() if answer.status_code == 200 else ""
    return f"MLflow {said}" if 0 < len(said) <= 40 and said.isprintable() else "it does not tell its version"


def _stores(client: MlflowClient, question: Question) -> list[tuple[str, str | None]]:
    """The probe's experiments, one a store: that of new experiments, and those that known experiments lie in."""
    own = question.artifact_location
    if own is None and question.embedded_artifacts:
        own = (Path(question.embedded_artifacts) / EXPERIMENT).as_uri()
    locations: list[str | None] = [own]
    known = [client.get_experiment_by_name(name) for name in question.experiments[:50]]
    default = client.get_experiment_by_name("Default")
    covered = {_store(own or (default.artifact_location if default is not None else ""))}
    for experiment in known:
        if experiment is not None and _store(experiment.artifact_location) not in covered:
            covered.add(_store(experiment.artifact_location))
            locations.append(posixpath.join(posixpath.dirname(experiment.artifact_location.rstrip("/")), EXPERIMENT))
    names: list[tuple[str, str | None]] = []
    for location in locations[:_MOST_STORES]:
        taken = any(name == EXPERIMENT for name, _ in names)
        names.append((_experiment_name(client, location, taken=taken), location))
    return names


def _store(location: str) -> tuple[str, str]:
    parts = urlsplit(location)
    return parts.scheme or "file", parts.netloc.rpartition("@")[2]


def _experiment_name(client: MlflowClient, location: str | None, *, taken: bool) -> str:
    """The probe's experiment for this location; the plain name unless it stands, or is to stand, for another one."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if location is None or (found is None and not taken):
        return EXPERIMENT
    if found is not None and found.artifact_location.rstrip("/") == location.rstrip("/"):
        return EXPERIMENT
    return f"{EXPERIMENT} {mask(location)}"[:200]


def _round_trip(client: MlflowClient, tracking_uri: str, name: str, location: str | None) -> tuple[str, str]:
    found = client.get_experiment_by_name(name)
    if found is None:
        tags = {"mlflow.note.content": _NOTE}
        experiment = client.create_experiment(name, artifact_location=location, tags=tags)
    else:
        experiment = found.experiment_id
        if found.lifecycle_stage != "active":
            client.restore_experiment(experiment)
    run = client.create_run(experiment, run_name=f"check from {socket.gethostname()}")
    where = run.info.artifact_uri
    try:
        artifacts = RunArtifacts(where, tracking_uri)
        content = os.urandom(_OBJECT_BYTES)
        with tempfile.TemporaryDirectory(prefix="artifactd-") as folder:
            _write_and_read(artifacts, content, Path(folder))
        removed = _remove(where, tracking_uri)
    finally:
        with contextlib.suppress(Exception):  # its trouble is told by what failed before it
            client.delete_run(run.info.run_id)
    done = "one object written, listed and read back"
    detail = f"{done}, and removed" if removed else f"{done}; it stays there, in a deleted run: {OBJECT}"
    return posixpath.dirname(posixpath.dirname(where)), detail + _sharing(where, tracking_uri)


def _write_and_read(artifacts: RunArtifacts, content: bytes, folder: Path) -> None:
    source = folder / "source"
    source.write_bytes(content)
    with source.open("rb") as stream:
        artifacts.upload(stream.fileno(), len(content), "", OBJECT)
    listed = artifacts.sizes("").get(OBJECT)
    if listed != len(content):
        found = "does not list it" if listed is None else f"lists it with {listed} bytes instead of {len(content)}"
        raise _wrong(
            f"it took an object, but {found}", "A gateway or login page before it may answer in its place; see its log"
        )
    artifacts.download(OBJECT, folder / "back")
    if (folder / "back").read_bytes() != content:
        raise _wrong("what comes back is not what was written", "See the store's log, and what stands before it")


def _wrong(error: str, cure: str) -> DeliveryError:
    return DeliveryError(Failure(Kind.PERMANENT, Scope.TARGET, error, cure))


def _remove(artifact_uri: str, tracking_uri: str) -> bool:
    environment.expect_bytes(0)
    try:
        repository = sdks.repository(artifact_uri, tracking_uri)
        repository.delete_artifacts(OBJECT)
        return all(info.path != OBJECT for info in repository.list_artifacts(None))
    except Exception:  # noqa: BLE001 (a store that lets nothing be deleted is in order, and said so)
        return False


def _sharing(artifact_uri: str, tracking_uri: str) -> str:
    is_local = urlsplit(artifact_uri).scheme in ("", "file")
    if not is_local or not tracking_uri.startswith(("http://", "https://")):
        return ""
    return (
        ". It is a folder of this host: the server shows what is in it only if it sees the same folder"
        " (or start the server with --serve-artifacts)"
    )


if __name__ == "__main__":
    main()
