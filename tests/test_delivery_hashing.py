"""A digest that is made aside: it is the content's, it says why there is none, and it leaves nothing behind."""

from __future__ import annotations

import _thread
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd.delivery.hashing import digest_of, hashing
from artifactd.tracking.sdks.checksums import Checksum
from support import wait_for

MIB = 2**20


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes, int], int]]:
    descriptors: list[int] = []

    def open_(content: bytes, how: int) -> int:
        (tmp_path / "f").write_bytes(content)
        descriptors.append(os.open(tmp_path / "f", how))
        return descriptors[-1]

    yield open_
    for fd in descriptors:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 5 * MIB + 1])
def test_both_ways_come_to_the_same(opened: Callable[[bytes, int], int], size: int) -> None:
    content = os.urandom(size)
    fd = opened(content, os.O_RDONLY)
    before, aside = Checksum(), Checksum()
    with hashing(fd, aside) as digest_is:
        pass
    assert digest_is() == digest_of(fd, before) == hashlib.sha256(content).digest()
    assert before.value() == aside.value() == hashlib.md5(content).hexdigest()  # noqa: S324


def test_what_cannot_be_read_is_said_after_the_block(opened: Callable[[bytes, int], int]) -> None:
    with hashing(opened(b"x", os.O_WRONLY), None) as digest_is:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        digest_is()


def test_a_block_that_fails_ends_it_at_once(opened: Callable[[bytes, int], int]) -> None:
    fd = opened(b"", os.O_RDWR)
    os.truncate(fd, 2**40)  # sparse: to hash it takes minutes
    before = _thread._count()
    with pytest.raises(ValueError, match="of the upload"), hashing(fd, None):
        raise ValueError("of the upload")
    wait_for(lambda: _thread._count() == before, "the thread is gone")


def test_where_there_is_no_memory_for_a_thread_it_is_made_before(
    opened: Callable[[bytes, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", none)
    with hashing(opened(b"x", os.O_RDONLY), None) as digest_is:
        assert digest_is() == hashlib.sha256(b"x").digest()
