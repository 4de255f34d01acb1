"""What a file holds, as a digest; made before it is sent, or aside while it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator

from artifactd import throttle
from artifactd.aside import begin
from artifactd.tracking.artifacts import Checksum
from artifactd.tracking.tether import Tether

_BLOCK = 2**18
"""Bytes that are hashed at a time, as ``hashlib.file_digest`` does."""


def digest_of(
    fd: int,
    checksum: Checksum | None,
    wanted: Callable[[], bool] = lambda: True,
    moved: Callable[[int], object] = lambda _: None,
) -> bytes:
    """SHA-256 of an open file, from its beginning; what the store will say of it is made from the same reading.

    Args:
        fd: The file.
        checksum: Fed with the content.
        wanted: Asked before each block; the digest of a part is worth nothing.
        moved: Told the bytes of each block.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    at = 0
    room = min(_BLOCK, os.fstat(fd).st_size + 1)  # to make more than a small file needs costs more than to hash it
    while wanted() and (block := os.pread(fd, room, at)):
        room = room if len(block) < room else _BLOCK
        throttle.read(len(block))
        at += len(block)
        digest.update(block)
        if checksum is not None:
            checksum.update(block)
        moved(len(block))
    return digest.digest()


@contextlib.contextmanager
def hashing(fd: int, checksum: Checksum | None, *, near: bool = False) -> Iterator[Callable[[], bytes]]:
    """Hash an open file aside while the block sends it; after the block, the digest can be had.

    Both read the file by themselves, as they do when one comes after the other: that they read the same is for its
    signature to say, which is compared when both are through. The second finds in memory what the first has read.

    Args:
        fd: The file; its offset is neither used nor moved.
        checksum: Fed with the content.
        near: The block tells ``tether`` how far it is: neither gets far ahead of the other.

    Yields:
        Gives SHA-256, or raises what hashing ended with.
    """
    over = threading.Event()
    results: list[bytes | BaseException] = []
    tether = Tether(checksum)
    if not near:
        tether.let_go()

    def work() -> None:
        try:
            results.append(digest_of(fd, checksum, lambda: not over.is_set(), tether.hashed))
            tether.let_go(through=not over.is_set())
        except BaseException as exc:  # noqa: BLE001 (raised by who asks for the result)
            results.append(exc)
        finally:
            tether.let_go()

    def result() -> bytes:
        (came,) = results
        if isinstance(came, BaseException):
            raise came
        return came

    aside = begin(work)
    if aside is None:
        tether.let_go()
        work()  # first the one, then the other
    try:
        with tether.held():
            yield result
    except BaseException:
        over.set()
        raise
    finally:
        if aside is not None:
            aside.wait()
