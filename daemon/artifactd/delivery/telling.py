"""Tells a run what a stored file says: of a copy that no writer can reach, and that is what was stored."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from artifactd.delivery.states import states_beside
from artifactd.delivery.weights import tell_model
from artifactd.ledger.rows import DueFile, Growth
from artifactd.tracking.telling import Subject, tell
from artifactd.tracking.told import Told, is_told
from artifactd.watching.inside import open_file
from artifactd.watching.signature import Signature

if TYPE_CHECKING:
    from artifactd.tracking.runs import RunInfo
    from artifactd.tracking.server import Client

_IN_MEMORY = 8 * 2**20
"""Bytes of a copy that is kept in memory."""
_BLOCK = 2**20


def tell_stored(client: Client, info: RunInfo, target: str, root: int, file: DueFile, digest: bytes, size: int) -> Told:
    """Tell the run what a file says that is stored, if it was not told.

    Args:
        client: Of the run's server.
        info: The run.
        target: The server, for messages.
        root: The watched root, opened.
        file: As it was sent.
        digest: SHA-256 of what was stored.
        size: Its bytes.

    Returns:
        What came of it; without a mark and without a failure if the file holds something else by now: a look sees that.
    """
    if (told := tell_model(client, info, target, file, digest)) is not None:
        return told
    if is_told(file.told, digest):
        return Told(file.told)
    if file.role.startswith("dataset"):
        return _tell_in_place(client, info, target, root, file, digest)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="artifactd-") as copy:
        if _copy(root, file, size, cast("BinaryIO", copy)) != digest:
            return Told()
        subject = replace(_subject(file, digest, size), beside=partial(states_beside, root, file.rel))
        return tell(client, info, subject, cast("BinaryIO", copy), target)


def _tell_in_place(client: Client, info: RunInfo, target: str, root: int, file: DueFile, digest: bytes) -> Told:
    """Of what may be too big to be copied, and is only looked at."""
    try:
        fd = open_file(root, file.rel)
    except OSError:
        return Told()
    with open(fd, "rb") as stream:

        def unchanged() -> bool:
            return Signature.of(os.fstat(fd)) == file.signature

        subject = _subject(file, digest, file.signature.size)
        return tell(client, info, replace(subject, unchanged=unchanged), stream, target) if unchanged() else Told()


def tell_growing(client: Client, info: RunInfo, target: str, root: int, file: DueFile) -> Told:
    """Tell the run what a growing file says so far, though it is not sent now."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="artifactd-") as copy:
        digest = _copy(root, file, None, cast("BinaryIO", copy))
        if digest is None:
            return Told()
        if is_told(file.told, digest):
            return Told(file.told)
        return tell(client, info, _subject(file, digest, copy.seek(0, os.SEEK_END)), cast("BinaryIO", copy), target)


def _subject(file: DueFile, digest: bytes, size: int) -> Subject:
    return Subject(
        file.role,
        file.rel.rpartition(b"/")[2],
        f"{file.dir}/{file.leaf}" if file.dir else file.leaf,
        digest,
        size,
        file.signature.mtime_ns / 1e9,
        ended=file.growth in (Growth.NONE, Growth.QUIET),
        mark=file.told,
        doubt=file.ask,
    )


def _copy(root: int, file: DueFile, size: int | None, to: BinaryIO) -> bytes | None:
    """Copy a file's first bytes, `size` or as many as there are now; SHA-256 of them, None if it is not there so."""
    try:
        fd = open_file(root, file.rel)
    except OSError:
        return None
    digest = hashlib.sha256()
    with open(fd, "rb") as stream:
        if Signature.of(os.fstat(fd)).inode != file.signature.inode:
            return None
        left = os.fstat(fd).st_size if size is None else size
        while left and (block := stream.read(min(left, _BLOCK))):
            digest.update(block)
            to.write(block)
            left -= len(block)
    to.seek(0)
    return None if left else digest.digest()
