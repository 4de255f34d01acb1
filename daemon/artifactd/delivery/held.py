"""What the store held before a job: asked folder by folder, where the ledger is not sure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from artifactd.delivery.messages import Free, NotDelivered, Root
from artifactd.delivery.witness import Witness
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.ledger.rows import DueFile, Name
from artifactd.names import versioned
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.watching.inside import open_root


class Held:
    """What the store held before this job, asked folder by folder where it is in doubt."""

    def __init__(self, store: RunArtifacts, files: Sequence[DueFile], witness: Witness | None = None) -> None:
        self._store = store
        self._witness = witness
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
        sizes = self._listed(file.dir)
        leaf, number = file.leaf, file.version
        if number == 1:
            while versioned(file.leaf, number + 1) in sizes:
                number += 1
                leaf = versioned(file.leaf, number)
        if sizes.get(leaf) == size:
            path = f"{file.dir}/{leaf}" if file.dir else leaf
            known = file.strange and self._witness is not None and self._witness.says(path, size, digest)
            if known or self._store.digest(path, size) == digest:
                return replace(file, leaf=leaf, version=number, digest=digest)
        if file.version == 1 and leaf in sizes:
            return replace(file, leaf=versioned(file.leaf, number + 1), version=number + 1)
        return file

    def sort_out(self) -> tuple[list[DueFile], list[Free | NotDelivered]]:
        """Tell this host's names from those of others, in a run that several hosts deliver into.

        Returns:
            The files that may be sent now, or compared, and the answers to the others.

        Raises:
            DeliveryError: The store cannot be asked, and for no file could it be.
        """
        going: list[DueFile] = []
        others: list[Free | NotDelivered] = []
        for file in self._files:
            if file.name is Name.OURS:
                going.append(file)
                continue
            try:
                is_there = file.leaf in self._listed(file.dir)
            except DeliveryError as exc:
                if exc.failure.scope is not Scope.FILE:
                    raise
                others.append(NotDelivered(file, exc.failure, 0, touched=False))
                continue
            if is_there:
                going.append(replace(file, name=Name.TAKEN, ask=True))
            elif file.name is Name.FREE:
                going.append(replace(file, name=Name.OURS, ask=False))
            else:
                others.append(Free(file))
        return going, others

    def _listed(self, folder: str) -> dict[str, int]:
        if folder not in self._sizes:
            asked = [f for f in self._files if (f.ask or f.name is not Name.OURS) and f.dir == folder]
            names = None if any(f.version == 1 for f in asked) else [f.leaf for f in asked]
            self._sizes[folder] = self._store.sizes(folder, names)
        return self._sizes[folder]


def open_watched(root: Root) -> int | None:
    """The watched root, open; None while it is away, or another folder stands in its place."""
    try:
        fd = open_root(root.path)
    except OSError:
        return None
    st = os.fstat(fd)
    if root.identity not in (None, (st.st_dev, st.st_ino)):
        os.close(fd)
        return None
    return fd


def taken(file: DueFile, *, shared: bool) -> NotDelivered:
    """A file that is not sent, since another host's stands there.

    Args:
        file: Which.
        shared: The folder is on a disk that other hosts may see: what stands there may be an older state of the same
            file, which its sender will bring up to date.
    """
    path = f"{file.dir}/{file.leaf}" if file.dir else file.leaf
    what = f"another host's file stands there: the run holds {path} with another content, which is not from here"
    cure = "Give each host a folder of its own in the run folder (rank-0/, rank-1/, …), or rename one of the two files"
    if shared:
        cure += "; if all hosts see this one file, it is compared again by itself"
        failure = Failure(Kind.TRANSIENT, Scope.FILE, what, cure)
    else:
        failure = Failure(Kind.PERMANENT, Scope.FILE, what, f"{cure}; then `artifactd retry`")
    return NotDelivered(file, failure, 0, touched=False)
