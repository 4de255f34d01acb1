"""Puts the manifest of a run into the run: what the ledger has receipts for, and how it stands on disk.

The store is the witness: after a crash, or with a ledger that was lost, a manifest that says the same is left alone.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from artifactd import __version__, failpoint
from artifactd.checkpoints import wholes
from artifactd.delivery.held import open_watched
from artifactd.delivery.messages import Describe, Described
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.ledger.manifests import StoredFile, stored_files
from artifactd.ledger.schema import LedgerError
from artifactd.manifest import (
    LARGEST,
    NAME,
    Checkpoint,
    File,
    Folder,
    Manifest,
    ManifestError,
    leaf_of,
    read,
    write,
)
from artifactd.names import OWN_FOLDER
from artifactd.paths import join
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.watching.commit import commit_of
from artifactd.watching.scan import walk


def describe(job: Describe, store: RunArtifacts) -> Described:
    """Carry out the job: at most one manifest is written.

    It gets the plain name unless another folder's stands there, as that of the host from which this folder was
    brought; if that one speaks of all that is stored from here, there is nothing to add.

    Raises:
        DeliveryError: It could not be made, or the store does not take it (the file's own failure).
    """
    root = open_watched(job.root)
    if root is None:
        raise _failed(
            Scope.RUN, "its watched folder is away, so its manifest cannot be made", "It is tried again by itself"
        )
    try:
        made = _make(job, root)
    finally:
        os.close(root)
    text = write(made)
    try:
        sizes = store.sizes(OWN_FOLDER)
        for leaf in _leaves(job, made):
            old = _stands_there(store, leaf, sizes.get(leaf), made)
            if old is not None and (old.says(made) or (not old.is_of(made) and old.covers(made))):
                return Described(f"{OWN_FOLDER}/{leaf}", 0)
            if leaf not in sizes or (old is not None and old.is_of(made)):
                break
        _put(store, leaf, text)
    except DeliveryError as exc:
        if exc.failure.scope is not Scope.FILE:
            raise
        raise DeliveryError(replace(exc.failure, error=f"its manifest: {exc.failure.error}")) from exc
    return Described(f"{OWN_FOLDER}/{leaf}", len(text))


def _leaves(job: Describe, made: Manifest) -> list[str]:
    """Names that it may get, the last one whatever stands there."""
    place = hashlib.sha256(made.watch + b"\0" + made.folder).hexdigest()[:8]
    others = [leaf_of(made.host), leaf_of(made.host, f"-{place}")]
    return others if job.fleet else [NAME, *others]


def _stands_there(store: RunArtifacts, leaf: str, size: int | None, made: Manifest) -> Manifest | None:
    """The manifest of that name; None for nothing, and for what is none."""
    if size is None or size > LARGEST:
        return None
    with tempfile.TemporaryDirectory(prefix="artifactd-") as folder:
        copy = Path(folder) / "manifest"
        store.download(f"{OWN_FOLDER}/{leaf}", copy)
        text = copy.read_bytes()
    try:
        return read(text)
    except ManifestError:
        # A part of ours, by a store that does not write in one step, may stand under our own names.
        return replace(made, files=(), folders=()) if leaf != NAME or made.run_id.encode() in text[:4096] else None


def _put(store: RunArtifacts, leaf: str, text: bytes) -> None:
    checksum = store.summing(len(text))
    if checksum is not None:
        checksum.update(text)
    with tempfile.TemporaryFile(prefix="artifactd-") as copy:
        copy.write(text)
        copy.flush()
        failpoint.reach("manifest.before")
        store.upload(copy.fileno(), len(text), OWN_FOLDER, leaf)
        failpoint.reach("manifest.after")
    store.expect(OWN_FOLDER, leaf, checksum)
    size = store.sizes(OWN_FOLDER, [leaf]).get(leaf)
    if size != len(text) or store.differs(OWN_FOLDER, leaf, size, hashlib.sha256(text).digest()):
        raise _failed(
            Scope.FILE,
            "the upload was accepted, but the store does not hold it afterwards",
            "A gateway or login page before the server may answer in its place; see the server's log",
        )


def _failed(scope: Scope, error: str, cure: str) -> DeliveryError:
    return DeliveryError(Failure(Kind.TRANSIENT, scope, error, cure))


# -- what it says ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _OnDisk:
    """What a look at the run folder found: folders, and the permission bits of its files by path in the root."""

    folders: list[Folder] = field(default_factory=list)
    modes: dict[bytes, int] = field(default_factory=dict)


def _make(job: Describe, root: int) -> Manifest:
    try:
        receipts = stored_files(job.ledger, job.run)
    except LedgerError as exc:
        raise _failed(Scope.RUN, f"its manifest cannot be made: {exc.problem}", exc.cure) from exc
    current = [receipt.rel for receipt in receipts if not receipt.outdated]
    seen = _look(job, root)
    folder = os.path.join(job.root.path, job.folder)
    return Manifest(
        __version__,
        job.run_id,
        job.experiment,
        job.name,
        socket.gethostname(),
        _owner(folder),
        job.root.path,
        job.folder,
        commit_of(folder.rstrip(b"/") or b"/"),
        tuple(_file(job, receipt, seen.modes.get(receipt.rel)) for receipt in receipts),
        tuple(seen.folders),
        tuple(Checkpoint(_within(job, rel), whole) for rel, whole in wholes(current, job.layout.checkpoint)),
    )


def _file(job: Describe, receipt: StoredFile, mode: int | None) -> File:
    return File(
        _within(job, receipt.rel),
        receipt.artifact_path,
        receipt.size,
        receipt.digest,
        receipt.mtime_ns,
        mode,
        receipt.stored_at,
        receipt.tries,
        gone=mode is None and not job.removes,
        versions=receipt.versions,
    )


def _within(job: Describe, rel: bytes) -> bytes:
    return rel[len(job.folder) + 1 :] if job.folder else rel


def _look(job: Describe, root: int) -> _OnDisk:
    """What stands in the run folder now; what cannot be looked at is left out."""
    seen = _OnDisk()

    def enter(fd: int, rel: bytes) -> None:
        with suppress(OSError):
            st = os.fstat(fd)
            seen.folders.append(Folder(_within(job, rel), stat.S_IMODE(st.st_mode), st.st_mtime_ns))
        with suppress(OSError), os.scandir(fd) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                        seen.modes[join(rel, os.fsencode(entry.name))] = mode

    for _ in walk(
        root,
        job.folder,
        skip=lambda rel: job.layout.excluded_folder(rel) is not None,
        folders_only=True,
        entering=enter,
    ):
        pass
    return seen


def _owner(folder: bytes) -> str:
    try:
        uid = os.stat(folder).st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
