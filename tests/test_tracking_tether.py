"""Two readers of one file: neither gets far ahead of the other, and neither waits for one that has ended."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd import throttle
from artifactd.delivery.hashing import hashing
from artifactd.tracking import tether
from artifactd.tracking.artifacts import Checksum, RunArtifacts
from artifactd.tracking.blocks import tell_parts
from artifactd.tracking.tether import APART, Tether
from support import wait_for

MIB = 2**20


def running(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def waits(thread: threading.Thread) -> bool:
    """Whether it is still there after a while in which it would long have ended."""
    thread.join(0.05)
    return thread.is_alive()


@pytest.mark.parametrize(("ahead", "behind"), [("sent", "hashed"), ("hashed", "sent")])
def test_who_is_far_ahead_waits_for_the_other(ahead: str, behind: str) -> None:
    pair = Tether()
    getattr(pair, ahead)(APART)
    first = running(lambda: getattr(pair, ahead)(1))
    assert waits(first)
    getattr(pair, behind)(APART // 2)
    assert waits(first)
    getattr(pair, behind)(1)
    first.join(10)
    assert not first.is_alive()


def test_who_reads_again_is_waited_for_until_there() -> None:
    pair = Tether()
    pair.sent(APART)
    pair.hashed(2 * APART)
    pair.sent(-APART)
    hashing_on = running(lambda: pair.hashed(1))
    assert waits(hashing_on)
    pair.sent(APART // 2 + APART + 1)
    hashing_on.join(10)
    assert not hashing_on.is_alive()


@pytest.mark.parametrize(("ahead", "behind"), [("sent", "hashed"), ("hashed", "sent")])
def test_who_was_behind_and_reads_a_large_piece_waits_alone(ahead: str, behind: str) -> None:
    pair = Tether()
    first = running(lambda: getattr(pair, ahead)(2 * APART))
    assert waits(first)
    second = running(lambda: getattr(pair, behind)(4 * APART))
    first.join(10)
    assert not first.is_alive()
    assert waits(second)
    getattr(pair, ahead)(2 * APART)
    second.join(10)
    assert not second.is_alive()


@pytest.mark.parametrize("who", ["sent", "hashed"])
def test_nobody_waits_for_one_that_has_ended(who: str) -> None:
    pair = Tether()
    first = running(lambda: getattr(pair, who)(APART + 1))
    assert waits(first)
    pair.let_go()
    first.join(10)
    assert not first.is_alive()
    getattr(pair, who)(100 * APART)


def test_an_upload_on_its_own_is_held_by_nothing() -> None:
    tether.sent(100 * APART)
    tether.let_go()


@pytest.fixture
def big(tmp_path: Path) -> Iterator[int]:
    """A sparse file that is several times as long as the two may be apart."""
    path = tmp_path / "big"
    path.touch()
    os.truncate(path, 4 * APART)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_digest_is_no_further_than_what_was_sent(big: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = 0
    told = Tether.hashed

    def noted(self: Tether, count: int) -> None:
        nonlocal hashed
        hashed += count
        told(self, count)

    monkeypatch.setattr(Tether, "hashed", noted)
    with hashing(big, None, near=True) as digest_is:
        for sent in range(0, 2 * APART, MIB):
            wait_for(lambda: hashed > sent + APART // 2, "it has gone on")  # noqa: B023 (within the round)
            assert hashed <= sent + APART + MIB
            tether.sent(MIB)
    assert len(digest_is()) == 32
    assert hashed == 4 * APART


def test_one_that_is_not_told_of_the_upload_does_not_wait(big: int) -> None:
    with hashing(big, None) as digest_is:
        wait_for(lambda: _came(digest_is), "it is whole before the upload has begun")


def _came(digest_is: Callable[[], bytes]) -> bool:
    try:
        return len(digest_is()) == 32
    except ValueError:  # there is none yet
        return False


def test_a_local_root_tells_how_far_it_is(big: int, tmp_path: Path) -> None:
    store = RunArtifacts((tmp_path / "artifacts").as_uri(), "http://127.0.0.1:1")
    assert store.tells
    pair = Tether()
    pair.hashed(APART)
    with pair.held():
        upload = running(lambda: store.upload(big, 4 * APART, "", "f"))
        assert waits(upload)
        pair.hashed(3 * APART)
        upload.join(30)
    assert not upload.is_alive()
    assert store.sizes("") == {"f": 4 * APART}


def test_parts_that_go_to_signed_addresses_are_told_of() -> None:
    class Repository:
        def _upload_part(self, *, size: int, start_byte: int) -> str:
            return f"{start_byte}+{size}"

    repo, pair = Repository(), Tether()
    told: list[int] = []
    tell_parts(repo)
    pair.sent = told.append  # type: ignore[method-assign, assignment]
    with pair.held():
        assert repo._upload_part(size=5, start_byte=10) == "10+5"
    assert told == [5]


def test_of_large_pieces_what_came_before_is_sent(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    pair = Tether()
    told: list[int] = []
    pair.sent = told.append  # type: ignore[method-assign, assignment]
    with pair.held(), tether.Pieces(str(tmp_path / "f")) as stream:
        assert (stream.read(4), stream.read(4)) == (b"0123", b"4567")
        stream.seek(4)
        assert stream.read(100) == b"456789"
        assert stream.read(100) == b""
    assert told == [0, 4, 0, 6]


def test_a_large_piece_is_hashed_while_it_is_sent(big: int) -> None:
    """Google's pieces are of 100 MiB: one after the other, hashing would take its time before each of them."""
    with hashing(big, None, near=True) as digest_is, tether.Pieces(f"/proc/self/fd/{big}") as stream:
        stream.read(3 * APART)
        wait_for(lambda: not waits_for_hash(3 * APART), "all of the piece is hashed")
        assert not _came(digest_is)
        stream.read(3 * APART)
        wait_for(lambda: _came(digest_is), "the last piece is hashed before it is sent")


def waits_for_hash(count: int) -> bool:
    pair = tether._held
    assert pair is not None
    return pair._hashed < count


PART = 8 * MIB


def test_who_sends_gets_the_sum_of_a_part_however_far_ahead_it_is(big: int) -> None:
    """S3 begins ten parts at once: the last of them is further than the two may be apart."""
    zeros = hashlib.md5(bytes(PART), usedforsecurity=False).digest()
    with hashing(big, Checksum(PART), near=True) as digest_is:
        assert tether.made(4 * APART // PART - 1) == zeros
        assert not _came(digest_is)
        assert tether.made(4 * APART // PART) == tether.made(1) == zeros
    assert len(digest_is()) == 32


def test_the_last_part_has_a_sum_once_all_is_hashed(big: int) -> None:
    os.truncate(f"/proc/self/fd/{big}", 2 * PART + 5)
    with hashing(big, Checksum(PART), near=True):
        assert tether.made(3) == hashlib.md5(bytes(5), usedforsecurity=False).digest()


def test_who_sends_is_not_kept_waiting_for_a_sum_that_nobody_makes(big: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tether.made(1) is None
    with hashing(big, None, near=True):
        assert tether.made(1) is None
    monkeypatch.setattr(throttle, "read", fails)
    with hashing(big, Checksum(PART), near=True) as digest_is:
        assert tether.made(1) is None
    with pytest.raises(OSError, match="the disk ends here"):
        digest_is()


def fails(_: int) -> None:
    raise OSError("the disk ends here")
