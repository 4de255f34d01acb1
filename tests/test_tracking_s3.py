"""S3's own arithmetic: in which parts an object of a size is sent, and so what its ETag will be."""

from __future__ import annotations

import hashlib

import pytest

from artifactd.tracking.sdks import s3

MIB = 2**20
MOST_PARTS = 10_000
"""S3's own limit."""


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1])
def test_a_small_one_is_its_md5(size: int) -> None:
    summed = s3.summing(size)
    summed.update(bytes(size))
    assert summed.value() == hashlib.md5(bytes(size), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (8 * MIB, 8 * MIB),
        (5 * 1024 * MIB + 1, 8 * MIB),
        (6 * 1024 * MIB, 8 * MIB),
        (MOST_PARTS * 8 * MIB, 8 * MIB),
        (MOST_PARTS * 8 * MIB + 1, 16 * MIB),
        (5 * 2**40, 1024 * MIB),
    ],
)
def test_a_big_one_is_in_parts_of_which_there_are_never_too_many(size: int, part: int) -> None:
    assert s3.summing(size)._part == part
    assert -(-size // part) <= MOST_PARTS
