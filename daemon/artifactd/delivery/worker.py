"""A worker: takes one job at a time and says truthfully what became of it.

A file is delivered when it was at rest before, the same after, and the store lists it with its size. Its bytes are
read through one descriptor, opened race-free: what is hashed, what is sent and what is compared are one file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from artifactd import failpoint, throttle
from artifactd.aside import each
from artifactd.delivery.abreast import MOST, take
from artifactd.delivery.describing import describe
from artifactd.delivery.hashing import digest_of, hashing
from artifactd.delivery.held import Held, open_watched, taken
from artifactd.delivery.messages import (
    Answer,
    AskRun,
    Deliver,
    DeliverModel,
    Describe,
    EndRun,
    Finished,
    Heard,
    Job,
    JobFailed,
    NotAtRest,
    NotDelivered,
    Outcomes,
    PrepareRun,
    Result,
    RunEnded,
    RunReady,
    Stored,
    Target,
)
from artifactd.delivery.telling import tell_growing, tell_stored
from artifactd.delivery.witness import Witness
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.ledger.rows import DueFile, Growth, Name
from artifactd.tracking import runs, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.ends import end_run
from artifactd.tracking.steady import ChangedError
from artifactd.watching.inside import NotRegular, held_for_writing, open_file
from artifactd.watching.signature import Signature

SPAN = 1.0
"""Seconds of uploads that are verified by one listing; stretched where listings are slow."""

_BLOCK = 2**20
"""Bytes of a growing file that are copied at a time."""

_BESIDE = 2**20
"""Bytes from which on a file that is new is hashed while it is sent, and not before."""

STILL_OPEN = "another process still has it open for writing"


def serve(line: Connection) -> None:
    """Do jobs until the service closes the line."""
    worker = Worker()
    while True:
        try:
            job = line.recv()
        except (EOFError, OSError):
            return
        if isinstance(job, PrepareRun | EndRun | Describe | AskRun | Deliver):  # a late Wrap finds nothing to wrap up
            for answer in worker.do(job, line):
                line.send(answer)


class Worker:
    """What a worker keeps between jobs: clients and repositories, each tied to its server."""

    def __init__(self) -> None:
        self._clients: dict[Target, server.Client] = {}
        self._repos: dict[tuple[str, str], RunArtifacts] = {}
        self._spans: dict[str, float] = {}
        self._asked: tuple[tuple[str, str, bytes], Witness] | None = None

    def do(self, job: Job, line: Connection | None = None) -> Iterator[Answer]:
        """Carry out a job.

        Args:
            job: What to do.
            line: Looked at between files for a ``Wrap``.

        Yields:
            The answers, the last of which ends the job.
        """
        try:
            client = self._client(job.target)
            match job:
                case PrepareRun():
                    info = runs.prepare_run(client, job.spec, job.target.uri)
                    yield RunReady(info.run_id, info.status, info.found, info.experiment_id)
                case AskRun():
                    info = runs.inspect_run(client, job.run_id, job.target.uri)
                    yield RunReady(info.run_id, info.status, True, info.experiment_id)
                case EndRun():
                    yield RunEnded(end_run(client, job.run_id, job.end, job.target.uri, fleet=job.fleet))
                case Describe():
                    info = runs.inspect_run(client, job.run_id, job.target.uri)
                    yield describe(job, self._artifacts(job.target, info.artifact_uri))
                case DeliverModel():
                    from artifactd.delivery.modelling import deliver_model  # noqa: PLC0415  (it stands on this module)

                    info = runs.inspect_run(client, job.run_id, job.target.uri)
                    yield from deliver_model(job, client, info, lambda uri: self._artifacts(job.target, uri))
                case Deliver():
                    info = runs.inspect_run(client, job.run_id, job.target.uri)
                    run = _Run(client, info, self._artifacts(job.target, info.artifact_uri), job.target.uri)
                    yield from self._deliver(job, run, line)
        except DeliveryError as exc:
            # A connection that failed once may be poisoned by what was left unread: make first contact again.
            self._clients.clear()
            self._repos.clear()
            yield JobFailed(exc.failure)

    def _client(self, target: Target) -> server.Client:
        if target not in self._clients:
            self._clients[target] = server.connect(target.uri, embedded_artifacts=target.embedded_artifacts)
        return self._clients[target]

    def _artifacts(self, target: Target, artifact_uri: str) -> RunArtifacts:
        key = (target.uri, artifact_uri)
        if key not in self._repos:
            self._repos[key] = RunArtifacts(artifact_uri, target.uri)
        return self._repos[key]

    def _witness(self, job: Deliver, store: RunArtifacts) -> Witness:
        key = (job.target.uri, job.run_id, job.root.path)
        if self._asked is None or self._asked[0] != key or self._asked[1].is_old:
            self._asked = (key, Witness(store, job.root.path))
        return self._asked[1]

    def _deliver(self, job: Deliver, run: _Run, line: Connection | None) -> Iterator[Answer]:
        store = run.store
        root = open_watched(job.root)
        if root is None:
            yield Finished()  # nothing was tried, everything stays due
            return
        try:
            started, listings = time.monotonic(), 0.0
            held = Held(store, job.files, self._witness(job, store))
            mine, answers = held.sort_out()
            if answers:
                yield Outcomes(tuple(answers))
            waiting = deque(mine)
            abreast = job.abreast if store.takes_several else 1
            span = self._spans.get(job.run_id, SPAN)
            while waiting and not (line is not None and line.poll()):
                begun = time.monotonic()
                sent: list[Stored] = []
                others: list[Result] = []
                stop: DeliveryError | None = None
                while waiting and stop is None and time.monotonic() - begun < span:
                    for result in each(
                        take(waiting, abreast),
                        lambda file: _try(root, file, run, held, leases=job.root.leases),
                        width=MOST,
                        enough=lambda result: _end_of_all([result]) is not None,
                    ):
                        if isinstance(result, Stored) and result.sent is not None:
                            sent.append(result)
                        else:
                            others.append(result)
                        stop = stop or _end_of_all([result])  # the rest would meet the same: not tried
                    if line is not None and line.poll():
                        break
                listing = time.monotonic()
                verified = verify(sent, store)
                listing = time.monotonic() - listing
                listings += listing
                stop = stop or _end_of_all(verified)
                results: list[Result] = []
                for result in (*others, *verified):
                    results.append(result if stop is not None else _told(root, result, run))
                    stop = stop or _end_of_all(results[-1:])
                span = self._spans[job.run_id] = max(SPAN, 4 * listing)
                yield Outcomes(tuple(results))
                if stop is not None:
                    raise stop
            yield Finished(listings / max(1e-3, time.monotonic() - started))
        finally:
            os.close(root)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that is delivered to."""

    client: server.Client
    info: runs.RunInfo
    store: RunArtifacts
    target: str


def _told(root: int, result: Result, run: _Run) -> Result:
    """The result with what came of telling the run what a stored file says, where something is to be told."""
    if not isinstance(result, Stored) or not result.file.role:
        return result
    file = result.file
    told = tell_stored(run.client, run.info, run.target, root, file, result.digest, result.size)
    return replace(result, told=told)


def _try(root: int, file: DueFile, run: _Run, held: Held, *, leases: bool) -> Result:
    try:
        if file.growth is Growth.NEWS:
            if file.name is Name.TAKEN:
                return taken(file, shared=not leases)
            return Heard(file, tell_growing(run.client, run.info, run.target, root, file))
        return send(root, file, run.store, held, leases=leases)
    except DeliveryError as exc:
        return NotDelivered(file, exc.failure, 0, touched=True)


def send(root: int, file: DueFile, store: RunArtifacts, held: Held, *, leases: bool) -> Result:
    """Deliver one file up to the store's acknowledgement; the listing is still to come."""
    begun = time.monotonic()
    try:
        fd = open_file(root, file.rel)
    except FileNotFoundError:
        return NotAtRest(file, None, "it is gone", 0)
    except NotRegular:
        return NotAtRest(file, None, "it is not a regular file any more", 0)
    except OSError as exc:
        return NotDelivered(file, unreadable(exc), 0, touched=False)
    try:
        seen = Signature.of(os.fstat(fd))
        if file.growth is Growth.SNAPSHOT:
            theirs = file.name is Name.TAKEN
            return taken(file, shared=not leases) if theirs else _send_snapshot(fd, seen, file, store, begun)
        if seen != file.signature:
            return NotAtRest(file, seen, "it changed", 0)
        if leases and file.growth is Growth.NONE and held_for_writing(fd):
            return NotAtRest(file, seen, STILL_OPEN, 0)
        beside = file.digest is None and not file.ask and seen.size >= _BESIDE  # whatever it holds, it goes out
        try:
            file, digest, sent = _send_new(fd, seen, file, store, held, beside=beside)
        except ChangedError as exc:
            return NotAtRest(file, Signature.of(os.fstat(fd)), str(exc), exc.sent)
        except OSError as exc:
            return NotDelivered(file, unreadable(exc), 0, touched=beside)
        if sent is None and digest != file.digest:
            return taken(file, shared=not leases)
        after = Signature.of(os.fstat(fd))
        if after != seen:
            return NotAtRest(file, after, "it changed during the upload", sent or 0)
        return Stored(file, digest, seen.size, sent, time.monotonic() - begun)
    finally:
        os.close(fd)


def _send_new(
    fd: int, seen: Signature, file: DueFile, store: RunArtifacts, held: Held, *, beside: bool
) -> tuple[DueFile, bytes, int | None]:
    """Send what the store does not hold: the file as it was sent, its digest, and the bytes that went out."""
    checksum = store.summing(seen.size)

    def send() -> int:
        failpoint.reach("upload.before")
        store.upload(fd, seen.size, file.dir, file.leaf, lambda: Signature.of(os.fstat(fd)) == seen)
        failpoint.reach("upload.after")
        return seen.size

    sent = None
    if beside:
        with hashing(fd, checksum, near=store.tells) as digest_is:
            sent = send()
        digest = digest_is()
    else:
        digest = digest_of(fd, checksum)
        file = held.look_up(file, seen.size, digest)
        if digest != file.digest and file.name is not Name.TAKEN:
            sent = send()
    if sent is not None:
        store.expect(file.dir, file.leaf, checksum)
    return file, digest, sent


def _send_snapshot(fd: int, seen: Signature, file: DueFile, store: RunArtifacts, begun: float) -> Stored | NotAtRest:
    """Send a growing file's first bytes, as many as there are now, by way of a copy that no writer can reach.

    What only grows had exactly these bytes at one moment, whatever is appended meanwhile.
    """
    with tempfile.TemporaryFile(prefix="artifactd-") as copy:
        digest = hashlib.sha256()
        checksum = store.summing(seen.size)
        left = seen.size
        with open(fd, "rb", closefd=False) as stream:
            while left and (block := stream.read(min(left, _BLOCK))):
                throttle.read(len(block))
                copy.write(block)
                digest.update(block)
                if checksum is not None:
                    checksum.update(block)
                left -= len(block)
        copy.flush()
        now = Signature.of(os.fstat(fd))
        if left or now.size < seen.size:
            return NotAtRest(file, now, "it was cut short while it was copied", 0)
        failpoint.reach("upload.before")
        store.upload(copy.fileno(), seen.size, file.dir, file.leaf)
        failpoint.reach("upload.after")
        store.expect(file.dir, file.leaf, checksum)
    return Stored(file, digest.digest(), seen.size, seen.size, time.monotonic() - begun)


def verify(sent: list[Stored], store: RunArtifacts) -> list[Stored | NotDelivered]:
    """Ask the store, folder by folder, whether it lists what was sent with its size, and whether it has the content."""
    results: list[Stored | NotDelivered] = []
    groups: dict[str, list[Stored]] = {}
    for s in sent:
        groups.setdefault(s.file.dir, []).append(s)
    for folder, group in groups.items():
        begun = time.monotonic()
        try:
            failpoint.reach("verify.before")
            listed = store.sizes(folder, [s.file.leaf for s in group])
            failpoint.reach("verify.after")
        except DeliveryError as exc:
            results += [NotDelivered(s.file, exc.failure, s.sent or 0, touched=True) for s in group]
            continue
        took = (time.monotonic() - begun) / len(group)
        for s in group:
            failure = _not_held(s, listed.get(s.file.leaf), store)
            if failure is None:
                results.append(Stored(s.file, s.digest, s.size, s.sent, s.seconds + took, s.told))
            else:
                results.append(NotDelivered(s.file, failure, s.sent or 0, touched=True))
    return results


def _end_of_all(results: Sequence[Result]) -> DeliveryError | None:
    """A failure that the files still waiting would meet as well."""
    return next((DeliveryError(f) for f in map(_failure, results) if f is not None and f.scope is not Scope.FILE), None)


def _failure(result: Result) -> Failure | None:
    match result:
        case NotDelivered():
            return result.failure
        case Stored() | Heard():
            return result.told.failure if result.told is not None else None
    return None


def _not_held(sent: Stored, size: int | None, store: RunArtifacts) -> Failure | None:
    if size != sent.size:
        return _not_listed(sent.size, size)
    try:
        differs = store.differs(sent.file.dir, sent.file.leaf, sent.size, sent.digest)
    except DeliveryError as exc:
        return exc.failure
    if not differs:
        return None
    return Failure(
        Kind.TRANSIENT, Scope.FILE, "the upload was accepted, but the store holds another content of that size",
        "See what else writes there, and what stands between; it is sent again by itself",
    )  # fmt: skip


def _not_listed(sent: int, size: int | None) -> Failure:
    found = "does not list it" if size is None else f"lists it with {size} bytes instead of {sent}"
    return Failure(
        Kind.TRANSIENT, Scope.FILE, f"the upload was accepted, but the store {found} afterwards",
        "A gateway or login page before the server may answer in its place; see the server's log",
    )  # fmt: skip


def unreadable(exc: OSError) -> Failure:
    """Why a file could not be opened or read."""
    if isinstance(exc, PermissionError):
        return Failure(
            Kind.PERMANENT, Scope.FILE, "the service's user may not read it",
            "Give it read access (group, ACL: setfacl -m u:artifactd:r FILE), or run the service as the files' owner",
        )  # fmt: skip
    return Failure(
        Kind.TRANSIENT,
        Scope.FILE,
        f"it cannot be read: {exc.strerror or exc}",
        "See the disk's health (dmesg)",
    )
