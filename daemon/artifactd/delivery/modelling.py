"""A job that delivers one whole model: its files to the logged model's own place, and not into the run's folder.

What is sent, compared and called stored is so as for every file. Only then does the model become READY, the run's
output and a version in the registry; a job that ends anywhere before is done again, and finds what is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from artifactd.delivery.hashing import digest_of
from artifactd.delivery.held import Held, open_watched
from artifactd.delivery.messages import (
    Answer,
    DeliverModel,
    Finished,
    NotAtRest,
    NotDelivered,
    Outcomes,
    Result,
    Stored,
)
from artifactd.delivery.worker import STILL_OPEN, send, unreadable, verify
from artifactd.errors import DeliveryError, Scope
from artifactd.ledger.rows import DueFile
from artifactd.paths import join
from artifactd.registration import ModelMark
from artifactd.runfolder import MAX_README_BYTES, README_NAME, described_by
from artifactd.tracking import models, registry
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.runs import RunInfo
from artifactd.tracking.server import Client
from artifactd.tracking.told import Told
from artifactd.watching.inside import NotRegular, held_for_writing, open_file
from artifactd.watching.signature import Signature

Stores = Callable[[str], RunArtifacts]
"""From an artifact URI to what can be sent there."""


def deliver_model(job: DeliverModel, client: Client, info: RunInfo, stores: Stores) -> Iterator[Answer]:
    """Deliver a model.

    Args:
        job: Which.
        client: Of its run's server.
        info: The run.
        stores: Gives the place of its files.

    Yields:
        What came of its files, all at once, and the end; files without a result stay due.

    Raises:
        DeliveryError: What goes wrong concerns more than this model.
    """
    root = open_watched(job.root)
    if root is None:
        yield Finished()
        return
    try:
        yield Outcomes(_Delivery(job, client, info, stores, root).results())
        yield Finished()
    finally:
        os.close(root)


class _StopError(Exception):
    """It does not come to its end, for what one of its files is like."""

    def __init__(self, result: NotAtRest | NotDelivered) -> None:
        super().__init__()
        self.result = result


@dataclass(frozen=True, slots=True)
class _Delivery:
    job: DeliverModel
    client: Client
    info: RunInfo
    stores: Stores
    root: int
    sent: list[int] = field(default_factory=list)

    def results(self) -> tuple[Result, ...]:
        files = self.job.files
        try:
            return tuple(self._deliver())
        except _StopError as stop:
            if isinstance(stop.result, NotAtRest):
                return (replace(stop.result, sent=stop.result.sent + sum(self.sent)),)
            # As long as one of its files cannot be had, none can be sent: all wait alike.
            name, failure = os.fsdecode(stop.result.file.rel), stop.result.failure
            failure = replace(failure, error=f"its model's file {name}: {failure.error}")
            sent = {stop.result.file.id: stop.result.sent + sum(self.sent)}
            return tuple(NotDelivered(f, failure, sent.get(f.id, 0), touched=True) for f in files)
        except DeliveryError as exc:
            if exc.failure.scope is not Scope.FILE:
                raise
            return tuple(NotDelivered(f, exc.failure, 0, touched=True) for f in files)

    def _deliver(self) -> list[Stored]:
        job = self.job
        digests = {file.rel: self._digest(file) for file in job.files}
        content = models.content_of({self._path(f): digests[f.rel] for f in job.files})
        key = models.key_of(self.info.run_id, job.name, content)
        tags = {models.PATH_TAG: job.path, models.CONTENT_TAG: content.hex()}
        model = models.prepare_model(self.client, self.info, job.name, key, tags, job.target.uri)
        # Of one that is READY, only what its store was seen not to hold any more is sent, to where it stood.
        there = [f for f in job.files if f.ask] if model.is_ready else []
        stored = [Stored(f, digests[f.rel], f.signature.size, None, 0.0) for f in there]
        stored += self._send(model, [f for f in job.files if f not in there], digests)
        for file in job.files:
            self._compare(file)
        models.finish_model(self.client, self.info, model, job.target.uri)
        told = self._told(model, key)
        # A failure in the registry is one line, at the file that says what the model is.
        first = min(job.files, key=lambda file: (len(file.rel), not file.rel.endswith(b"/MLmodel"), file.rel))
        quiet = Told(told.mark)
        return [replace(s, told=told if s.file.id == first.id else quiet) for s in stored]

    def _path(self, file: DueFile) -> str:
        """A file's path in its logged model."""
        whole = f"{file.dir}/{file.leaf}"
        return whole[len(self.job.name) + 1 :]

    def _digest(self, file: DueFile) -> bytes:
        fd = self._open(file)
        try:
            digest = digest_of(fd, None)
        except OSError as exc:
            raise _StopError(NotDelivered(file, unreadable(exc), 0, touched=False)) from exc
        finally:
            os.close(fd)
        return digest

    def _compare(self, file: DueFile) -> None:
        os.close(self._open(file))

    def _open(self, file: DueFile) -> int:
        """The file, open, as it was at the look, and at rest."""
        try:
            fd = open_file(self.root, file.rel)
        except FileNotFoundError:
            raise _StopError(NotAtRest(file, None, "it is gone", 0)) from None
        except NotRegular:
            raise _StopError(NotAtRest(file, None, "it is not a regular file any more", 0)) from None
        except OSError as exc:
            raise _StopError(NotDelivered(file, unreadable(exc), 0, touched=False)) from exc
        seen = Signature.of(os.fstat(fd))
        why = "it changed" if seen != file.signature else ""
        if not why and self.job.root.leases and held_for_writing(fd):
            why = STILL_OPEN
        if why:
            os.close(fd)
            raise _StopError(NotAtRest(file, seen, why, 0))
        return fd

    def _send(self, model: models.LoggedModel, files: list[DueFile], digests: dict[bytes, bytes]) -> list[Stored]:
        store = self.stores(model.artifact_uri)
        inner = {f.id: self._within(f, ask=model.found and f.ask) for f in files}
        by_id = {f.id: f for f in files}
        held = Held(store, list(inner.values()))
        stored: list[Stored] = []
        for file in files:
            result = send(self.root, inner[file.id], store, held, leases=self.job.root.leases)
            if isinstance(result, Stored) and result.digest != digests[file.rel]:
                raise _StopError(NotAtRest(file, file.signature, "it changed", result.sent or 0))
            stored.append(self._sure(result, file))
            self.sent.append(stored[-1].sent or 0)
        for verified in verify([s for s in stored if s.sent is not None], store):
            self._sure(replace(verified, sent=0), by_id[verified.file.id])  # it is counted above
        return [replace(s, file=by_id[s.file.id]) for s in stored]

    def _within(self, file: DueFile, *, ask: bool) -> DueFile:
        folder, _, leaf = self._path(file).rpartition("/")
        return replace(file, dir=folder, leaf=leaf, digest=None, ask=ask)

    def _sure(self, result: Result, file: DueFile) -> Stored:
        match result:
            case Stored():
                return result
            case NotDelivered() if result.failure.scope is not Scope.FILE:
                raise DeliveryError(result.failure)
            case NotAtRest() | NotDelivered():
                raise _StopError(replace(result, file=file))
        raise TypeError(f"a model's file is not {result}")

    def _told(self, model: models.LoggedModel, key: str) -> Told:
        """The mark of what the model has become; with the failure where it could not be registered."""
        mark = ModelMark(model.model_id)
        wanted = self.job.registration
        if not wanted.name:
            return Told(mark.to_bytes())
        entry = registry.Entry(f"models:/{model.model_id}", key, self.info.run_id, model.model_id, self._description())
        try:
            version = registry.register(self.client, wanted, entry, self.job.target.uri)
        except DeliveryError as exc:
            if exc.failure.scope is not Scope.FILE:
                raise
            error = f"its model is stored as {model.model_id}, and could not be registered: {exc.failure.error}"
            return Told(mark.to_bytes(), replace(exc.failure, error=error))
        return Told(replace(mark, registered=wanted.name, version=version).to_bytes())

    def _description(self) -> str | None:
        readme = next((f for f in self.job.files if f.rel == join(self.job.folder, README_NAME)), None)
        if readme is None:
            return None
        with open(self._open(readme), "rb") as stream:
            return described_by(stream.read(MAX_README_BYTES + 1)) or None
