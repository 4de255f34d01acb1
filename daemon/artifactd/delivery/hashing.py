"""What a file holds, as a digest; made before it is sent, or aside while it is."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator

from artifactd import throttle
from artifactd.aside import begin
from artifactd.tracking.artifacts import Checksum

_BLOCK = 2**18
"""Bytes that are hashed at a time, as ``hashlib.file_digest`` does."""


def digest_of(fd: int, checksum: Checksum | None, wanted: Callable[[], bool] = lambda: True) -> bytes:
    """SHA-256 of an open file, from its beginning; what the store will say of it is made from the same reading.

    Args:
        fd: The file.
        checksum: Fed with the content.
        wanted: Asked before each block; the digest of a part is worth nothing.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with open(fd, "rb", closefd=False, buffering=0) as stream:
        stream.seek(0)
        while wanted() and (block := stream.read(_BLOCK)):
            throttle.read(len(block))
            digest.update(block)
            if checksum is not None:
                checksum.update(block)
    return digest.digest()


@contextlib.contextmanager
def hashing(fd: int, checksum: Checksum | None) -> Iterator[Callable[[], bytes]]:
    """Hash an open file aside while the block sends it; after the block, the digest can be had.

    Both read the file by themselves, as they do when one comes after the other: that they read the same is for its
    signature to say, which is compared when both are through. The second finds in memory what the first has read.

    Args:
        fd: The file; nobody else may use its offset.
        checksum: Fed with the content.

    Yields:
        Gives SHA-256, or raises what hashing ended with.
    """
    over = threading.Event()
    results: list[bytes | BaseException] = []

    def work() -> None:
        try:
            results.append(digest_of(fd, checksum, lambda: not over.is_set()))
        except BaseException as exc:  # noqa: BLE001 (raised by who asks for the result)
            results.append(exc)

    def result() -> bytes:
        (came,) = results
        if isinstance(came, BaseException):
            raise came
        return came

    aside = begin(work)
    if aside is None:
        work()  # first the one, then the other
    try:
        yield result
    except BaseException:
        over.set()
        raise
    finally:
        if aside is not None:
            aside.wait()
