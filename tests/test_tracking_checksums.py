"""Sums of contents, fed in blocks that meet parts anyhow."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from artifactd.tracking.sdks.checksums import Checksum, note, noting


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


@given(st.binary(max_size=60), st.integers(1, 7))
def test_a_whole_is_its_md5_however_it_comes(content: bytes, block: int) -> None:
    checksum = Checksum()
    for start in range(0, len(content), block):
        checksum.update(content[start : start + block])
    assert checksum.value() == _md5(content).hex()


@given(st.binary(min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 70))
def test_parts_are_summed_as_s3_does(content: bytes, block: int, part: int) -> None:
    checksum = Checksum(part)
    for start in range(0, len(content), block):
        checksum.update(content[start : start + block])
    parts = [_md5(content[start : start + part]) for start in range(0, len(content), part)]
    assert checksum.value() == f"{_md5(b''.join(parts)).hex()}-{len(parts)}"


def test_only_what_is_wanted_is_noted_and_only_meanwhile() -> None:
    with noting({"a", "b", "c"}) as said:
        note("a", "text")
        note("b", b"\x01\xff")
        note("c", None)
        note("other", "text")
    note("a", "late")
    assert said == {"a": "text", "b": "01ff"}
