"""A trial of a server and its stores, end to end: create, write, list, read back, compare, remove.

What is written goes into runs of its own, in experiments of its own, never into a user's; only what was written is
removed. ``probe`` carries it out in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import environment, sdks, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify
from artifactd.tracking.way import Caution, warnings_of, way_to

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "artifactd-check"
OBJECT = "artifactd-check.bin"

_OBJECT_BYTES = 64
_REACH = "See that it runs, that the address is right, and that this host may reach it"
_FIRST = "make a run for it"
_NOTE = "Made by `artifactd check` and `artifactd doctor`, which write an object here, read it back and remove it."


@dataclass(frozen=True, slots=True)
class Question:
    """What to look at.

    Attributes:
        tracking_uri: The server.
        embedded_artifacts: As for ``server.connect``, as text.
        artifact_location: What is configured for new experiments; None leaves it to the server.
        experiments: Experiments that are delivered to: their stores are looked at too.
        state_dir: The state folder, which no store may lie in; None where nothing is kept.
    """

    tracking_uri: str
    embedded_artifacts: str | None
    artifact_location: str | None
    experiments: tuple[str, ...] = ()
    state_dir: str | None = None


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
        warnings: What works now and will not always.
    """

    what: str
    subject: str
    ok: bool
    seconds: float
    detail: str
    cure: str = ""
    warnings: tuple[Caution, ...] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """What is under way: `doing` completes 'it could not …'; the step follows under the same `key`."""

    key: int
    what: str
    subject: str
    doing: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step is done."""

    key: int
    step: Step


def ask(question: Question) -> Iterator[Begun | Ended]:
    """Carry it out here and now.

    Yields:
        What is begun, and each step as it is done.
    """
    target = mask(question.tracking_uri)
    yield Begun(0, "server", target, "be reached")
    environment.prepare(question.tracking_uri)
    environment.preload()  # its seconds are not the server's
    os.environ[environment.STATE] = question.state_dir or ""
    os.environ[environment.EMBEDDED] = question.embedded_artifacts or ""

    begun = time.monotonic()
    try:
        embedded = Path(question.embedded_artifacts) if question.embedded_artifacts else None
        client = server.connect(question.tracking_uri, embedded_artifacts=embedded)
        version = server.version(question.tracking_uri)
        client.search_experiments(max_results=1)
        stores = _stores(client, question)
    except Exception as exc:  # noqa: BLE001 (told as a step)
        yield Ended(0, _not_in_order("server", target, begun, classify(exc, target=target, scope=Scope.TARGET)))
        return
    warnings = tuple(warnings_of(question.tracking_uri))
    yield Ended(0, Step("server", target, True, time.monotonic() - begun, version, "", warnings))
    yield from _side_by_side([_Store(client, question, *place) for place in stores])


def send(client: MlflowClient, question: Question, size: int, schemes: Collection[str]) -> Step | None:
    """Write, list, read back and remove an object of so many bytes, as `ask` does, in one store.

    Args:
        client: Of the server.
        question: Which stores there are.
        size: Bytes.
        schemes: The first store whose location has one of these is taken.

    Returns:
        What came of it; ``what`` is ``run`` where there was none to write it into. None where there is no such store.
    """
    for name, location in _stores(client, question):
        if location is None:
            default = client.get_experiment_by_name("Default")
            scheme = urlsplit(default.artifact_location if default is not None else "").scheme
        else:
            scheme = urlsplit(location).scheme
        if scheme in schemes:
            events: list[Begun | Ended] = []
            _Store(client, question, name, location, size).run(1, events.append)
            step = next(event.step for event in events if isinstance(event, Ended))
            doing = [event.doing for event in events if isinstance(event, Begun)][-1]
            return replace(step, what="run") if not step.ok and doing == _FIRST else step
    return None


def _side_by_side(trials: list[_Store]) -> Iterator[Begun | Ended]:
    events: queue.SimpleQueue[Begun | Ended] = queue.SimpleQueue()
    for key, trial in enumerate(trials, start=1):
        threading.Thread(target=trial.run, args=(key, events.put), daemon=True).start()
    left = len(trials)
    while left:
        event = events.get()
        left -= isinstance(event, Ended)
        yield event


def _not_in_order(what: str, subject: str, begun: float, failure: Failure, so_far: str = "") -> Step:
    return Step(what, subject, False, time.monotonic() - begun, so_far + failure.error, next_step(failure))


def next_step(failure: Failure) -> str:
    """What to do, for somebody who looks for the reason: that it is tried again by itself holds for deliveries."""
    return _REACH if failure.kind is Kind.TRANSIENT else failure.cure.removesuffix("; it is tried again by itself")


def _stores(client: MlflowClient, question: Question) -> list[tuple[str, str | None]]:
    """The trial's experiments, one a store: that of new experiments, and those that known experiments lie in."""
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
    for location in locations:
        taken = any(name == EXPERIMENT for name, _ in names)
        names.append((_experiment_name(client, location, taken=taken), location))
    return names


def _store(location: str) -> tuple[str, str]:
    parts = urlsplit(location)
    return parts.scheme or "file", parts.netloc.rpartition("@")[2]


def _experiment_name(client: MlflowClient, location: str | None, *, taken: bool) -> str:
    """The trial's experiment for this location; the plain name unless it stands, or is to stand, for another one."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if location is None or (found is None and not taken):
        return EXPERIMENT
    if found is not None and found.artifact_location.rstrip("/") == location.rstrip("/"):
        return EXPERIMENT
    return f"{EXPERIMENT} {mask(location)}"[:200]


@dataclass
class _Store:
    """The trial of one store, in the experiment of this name."""

    client: MlflowClient
    question: Question
    name: str
    location: str | None
    size: int = _OBJECT_BYTES
    done: tuple[str, ...] = ()
    removed: bool = False
    doing: str = ""

    def run(self, key: int, tell: Callable[[Begun | Ended], None]) -> None:
        """Carry it out and tell how it goes."""
        subject = mask(self.location or "the server's default artifact root")
        begun = time.monotonic()

        def begin(doing: str) -> None:
            self.doing = doing
            tell(Begun(key, "store", subject, doing))

        try:
            where, detail, warnings = self._round_trip(begin)
        except Exception as exc:  # noqa: BLE001 (told as a step)
            failure = classify(exc, target=subject, scope=Scope.TARGET)
            stays = "" if self.removed else f" (it may stay there: {OBJECT})"
            so_far = f"an object was {_and(self.done)}{stays}, but it could not {self.doing}: " if self.done else ""
            tell(Ended(key, _not_in_order("store", subject, begun, failure, so_far)))
        else:
            tell(Ended(key, Step("store", mask(where), True, time.monotonic() - begun, detail, "", warnings)))

    def _round_trip(self, begin: Callable[[str], None]) -> tuple[str, str, tuple[Caution, ...]]:
        begin(_FIRST)
        tracking_uri = self.question.tracking_uri
        run = self.client.create_run(self._experiment(), run_name=f"check from {socket.gethostname()}")
        where = run.info.artifact_uri
        try:
            artifacts = RunArtifacts(where, tracking_uri)
            try:
                self._write_and_read(artifacts, begin)
            finally:
                self.removed = bool(self.done) and _remove(where, tracking_uri)
        finally:
            with contextlib.suppress(Exception):  # its trouble is told by what failed before it
                self.client.delete_run(run.info.run_id)
        if self.removed:
            self.done += ("removed",)
        way, warnings = way_to(where, tracking_uri)
        stays = "" if self.removed else f"; it stays there, in a deleted run: {OBJECT}"
        detail = f"one object {_and(self.done)}, {way}{stays}"
        return posixpath.dirname(posixpath.dirname(where)), detail, tuple(warnings)

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.name)
        if found is None:
            tags = {"mlflow.note.content": _NOTE}
            return str(self.client.create_experiment(self.name, artifact_location=self.location, tags=tags))
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _write_and_read(self, artifacts: RunArtifacts, begin: Callable[[str], None]) -> None:
        content = os.urandom(self.size)
        with tempfile.TemporaryDirectory(prefix="artifactd-") as name:
            folder = Path(name)
            begin("be written")
            source = folder / "source"
            source.write_bytes(content)
            with source.open("rb") as stream:
                artifacts.upload(stream.fileno(), len(content), "", OBJECT)
            self.done += ("written",)
            begin("be listed")
            listed = artifacts.sizes("").get(OBJECT)
            if listed != len(content):
                found = "is not in the listing" if listed is None else f"has {listed} bytes there, not {len(content)}"
                raise _wrong(f"it {found}", "A gateway or login page before it may answer in its place; see its log")
            self.done += ("listed",)
            begin("be read back")
            artifacts.download(OBJECT, folder / "back")
            if (folder / "back").read_bytes() != content:
                raise _wrong(
                    "what comes back is not what was written", "See the store's log, and what stands before it"
                )
            self.done += ("read back",)


def _and(words: tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


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
