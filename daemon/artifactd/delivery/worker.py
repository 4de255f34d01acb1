"""A worker: takes one job at a time and says truthfully what became of it.

A file is delivered when it was at rest before, the same after, and the store lists it with its size. Its bytes are
read through one descriptor, opened race-free: what is hashed, what is sent and what is compared are one file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection

from artifactd import failpoint
from artifactd.delivery.messages import (
    Answer,
    AskRun,
    Deliver,
    EndRun,
    Finished,
    Job,
    JobFailed,
    NotAtRest,
    NotDelivered,
    Outcomes,
    PrepareRun,
    Root,
    RunEnded,
    RunReady,
    Stored,
    Target,
)
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.ledger.rows import DueFile, Growth
from artifactd.names import versioned
from artifactd.tracking import runs, server
from artifactd.tracking.artifacts import Checksum, RunArtifacts
from artifactd.tracking.steady import ChangedError
from artifactd.watching.inside import NotRegular, held_for_writing, open_file, open_root
from artifactd.watching.signature import Signature

SPAN = 1.0
"""Seconds of uploads that are verified by one listing; stretched where listings are slow."""

_BLOCK = 2**20
"""Bytes of a growing file that are copied at a time."""

_HASHED = 2**18
"""Bytes of a file that are hashed at a time, as ``hashlib.file_digest`` does."""

STILL_OPEN = "another process still has it open for writing"


def serve(line: Connection) -> None:
    """Do jobs until the service closes the line."""
    worker = Worker()
    while True:
        try:
            job = line.recv()
        except (EOFError, OSError):
            return
        if isinstance(job, PrepareRun | EndRun | AskRun | Deliver):  # a late Wrap finds nothing to wrap up
            for answer in worker.do(job, line):
                line.send(answer)


class Worker:
    """What a worker keeps between jobs: clients and repositories, each tied to its server."""

    def __init__(self) -> None:
        self._clients: dict[Target, server.Client] = {}
        self._repos: dict[tuple[str, str], RunArtifacts] = {}
        self._spans: dict[str, float] = {}

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
                    runs.end_run(client, job.run_id, job.status, job.target.uri)
                    yield RunEnded(job.status)
                case Deliver():
                    info = runs.inspect_run(client, job.run_id, job.target.uri)
                    yield from self._deliver(job, self._artifacts(job.target, info), line)
        except DeliveryError as exc:
            # A connection that failed once may be poisoned by what was left unread: make first contact again.
            self._clients.clear()
            self._repos.clear()
            yield JobFailed(exc.failure)

    def _client(self, target: Target) -> server.Client:
        if target not in self._clients:
            self._clients[target] = server.connect(target.uri, embedded_artifacts=target.embedded_artifacts)
        return self._clients[target]

    def _artifacts(self, target: Target, info: runs.RunInfo) -> RunArtifacts:
        key = (target.uri, info.artifact_uri)
        if key not in self._repos:
            self._repos[key] = RunArtifacts(info.artifact_uri, target.uri)
        return self._repos[key]

    def _deliver(self, job: Deliver, store: RunArtifacts, line: Connection | None) -> Iterator[Answer]:
        root = _open(job.root)
        if root is None:
            yield Finished()  # nothing was tried, everything stays due
            return
        try:
            waiting = list(job.files)
            held = _Held(store, job.files)
            started, listings = time.monotonic(), 0.0
            span = self._spans.get(job.run_id, SPAN)
            while waiting and not (line is not None and line.poll()):
                begun = time.monotonic()
                sent: list[Stored] = []
                others: list[Stored | NotAtRest | NotDelivered] = []
                stop: DeliveryError | None = None
                while waiting and time.monotonic() - begun < span:
                    file = waiting.pop(0)
                    try:
                        result = _send(root, file, store, held, leases=job.root.leases)
                    except DeliveryError as exc:
                        failure = exc.failure
                        others.append(NotDelivered(file, failure, 0, touched=True))
                        if failure.scope is not Scope.FILE:
                            stop = exc  # the rest would meet the same: not tried
                            break
                        continue
                    (sent if isinstance(result, Stored) and result.sent is not None else others).append(result)  # type: ignore[arg-type]
                    if line is not None and line.poll():
                        break
                listing = time.monotonic()
                verified = _verify(sent, store)
                stop = stop or _end_of_all(verified)
                listing = time.monotonic() - listing
                listings += listing
                span = self._spans[job.run_id] = max(SPAN, 4 * listing)
                yield Outcomes((*others, *verified))
                if stop is not None:
                    raise stop
            yield Finished(listings / max(1e-3, time.monotonic() - started))
        finally:
            os.close(root)


def _open(root: Root) -> int | None:
    """The watched root; None while it is away, or another folder stands in its place."""
    try:
        fd = open_root(root.path)
    except OSError:
        return None
    st = os.fstat(fd)
    if root.identity not in (None, (st.st_dev, st.st_ino)):
        os.close(fd)
        return None
    return fd


class _Held:
    """What the store held before this job, asked folder by folder where it is in doubt."""

    def __init__(self, store: RunArtifacts, files: Sequence[DueFile]) -> None:
        self._store = store
        self._files = files
        self._sizes: dict[str, dict[str, int]] = {}

    def look_up(self, file: DueFile, size: int, digest: bytes) -> DueFile:
        """The file as it shall be sent, with the digest of what the store holds under its name where that is in doubt.

        Where versions are kept and none is known, that name is the last version's if its content is this, else the next
        one's.
        """
        if digest == file.digest:
            return replace(file, ask=False)  # the last version is sure, whatever is in doubt after it
        if not file.ask:
            return file
        if file.dir not in self._sizes:
            asked = [f for f in self._files if f.ask and f.dir == file.dir]
            names = None if any(f.version == 1 for f in asked) else [f.leaf for f in asked]
            self._sizes[file.dir] = self._store.sizes(file.dir, names)
        sizes = self._sizes[file.dir]
        leaf, number = file.leaf, file.version
        if number == 1:
            while versioned(file.leaf, number + 1) in sizes:
                number += 1
                leaf = versioned(file.leaf, number)
        if sizes.get(leaf) == size:
            path = f"{file.dir}/{leaf}" if file.dir else leaf
            if self._store.digest(path, size) == digest:
                return replace(file, leaf=leaf, version=number, digest=digest)
        if file.version == 1 and leaf in sizes:
            return replace(file, leaf=versioned(file.leaf, number + 1), version=number + 1)
        return file


def _send(
    root: int, file: DueFile, store: RunArtifacts, held: _Held, *, leases: bool
) -> Stored | NotAtRest | NotDelivered:
    """Deliver one file up to the store's acknowledgement; the listing is still to come."""
    begun = time.monotonic()
    try:
        fd = open_file(root, file.rel)
    except FileNotFoundError:
        return NotAtRest(file, None, "it is gone", 0)
    except NotRegular:
        return NotAtRest(file, None, "it is not a regular file any more", 0)
    except OSError as exc:
        return NotDelivered(file, _unreadable(exc), 0, touched=False)
    try:
        seen = Signature.of(os.fstat(fd))
        if file.growth is Growth.SNAPSHOT:
            return _send_snapshot(fd, seen, file, store, begun)
        if seen != file.signature:
            return NotAtRest(file, seen, "it changed", 0)
        if leases and file.growth is Growth.NONE and held_for_writing(fd):
            return NotAtRest(file, seen, STILL_OPEN, 0)
        checksum = store.summing(seen.size)
        try:
            digest = _digest(fd, checksum)
        except OSError as exc:
            return NotDelivered(file, _unreadable(exc), 0, touched=False)
        file = held.look_up(file, seen.size, digest)
        sent = None
        if digest != file.digest:
            failpoint.reach("upload.before")
            try:
                store.upload(fd, seen.size, file.dir, file.leaf, lambda: Signature.of(os.fstat(fd)) == seen, checksum)
            except ChangedError as exc:
                return NotAtRest(file, Signature.of(os.fstat(fd)), str(exc), exc.sent)
            failpoint.reach("upload.after")
            sent = seen.size
        after = Signature.of(os.fstat(fd))
        if after != seen:
            return NotAtRest(file, after, "it changed during the upload", sent or 0)
        return Stored(file, digest, seen.size, sent, time.monotonic() - begun)
    finally:
        os.close(fd)


def _digest(fd: int, checksum: Checksum | None) -> bytes:
    """SHA-256 of an open file, from its beginning; what the store will say of it is made from the same reading."""
    with open(fd, "rb", closefd=False) as stream:
        stream.seek(0)
        if checksum is None:
            return hashlib.file_digest(stream, "sha256").digest()
        digest = hashlib.sha256()
        while block := stream.read(_HASHED):
            digest.update(block)
            checksum.update(block)
    return digest.digest()


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
        store.upload(copy.fileno(), seen.size, file.dir, file.leaf, checksum=checksum)
        failpoint.reach("upload.after")
    return Stored(file, digest.digest(), seen.size, seen.size, time.monotonic() - begun)


def _verify(sent: list[Stored], store: RunArtifacts) -> list[Stored | NotDelivered]:
    """Ask the store, folder by folder, whether it lists what was sent with its size, and whether it has the content."""
    results: list[Stored | NotDelivered] = []
    for folder in {s.file.dir for s in sent}:
        group = [s for s in sent if s.file.dir == folder]
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
                results.append(replace(s, seconds=s.seconds + took))
            else:
                results.append(NotDelivered(s.file, failure, s.sent or 0, touched=True))
    return results


def _end_of_all(results: Sequence[Stored | NotDelivered]) -> DeliveryError | None:
    """A failure that the files still waiting would meet as well."""
    failures = (r.failure for r in results if isinstance(r, NotDelivered))
    return next((DeliveryError(f) for f in failures if f.scope is not Scope.FILE), None)


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


def _unreadable(exc: OSError) -> Failure:
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
