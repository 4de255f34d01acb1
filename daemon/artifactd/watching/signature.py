"""One state of a file, as cheap as a stat, and the time from which it counts as at rest. Pure."""

from __future__ import annotations

import os
from typing import NamedTuple

LEAST, MOST = -(2**63), 2**63 - 1
"""What fits a signed 64-bit column, which is all that the ledger can hold."""


class Signature(NamedTuple):  # a scan makes and compares one for each file: a tuple does both in C
    """What differs when a file was written, replaced or touched.

    Attributes:
        size: Bytes.
        mtime_ns: Last change of the content as the file claims it, nanoseconds since the epoch; anyone can set it.
        ctime_ns: Last change of anything as the kernel stamps it, nanoseconds since the epoch; nobody can set it.
        inode: The file's number in its filesystem; another one after a replacement by rename.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, st: os.stat_result) -> Signature:
        """The signature in a stat's result; numbers past 63 bits (an mtime after 2262, some inodes) are folded in."""
        mtime, ctime, inode = st.st_mtime_ns, st.st_ctime_ns, st.st_ino
        if not (LEAST <= mtime <= MOST and LEAST <= ctime <= MOST and inode <= MOST):
            mtime, ctime, inode = _fold(mtime), _fold(ctime), _fold(inode)
        return tuple.__new__(cls, (st.st_size, mtime, ctime, inode))  # past a NamedTuple's own, which is not in C


def rest_at(sig: Signature, settle: float, now: float) -> float:
    """When a file that does not change any more has been quiet for `settle`.

    Judged by ctime alone: ``cp -p`` and ``touch -d`` forge mtime. A ctime in the future (the clock was set back) counts
    as now, so the answer moves with `now` until the clock has caught up: ask once for each signature, when it is first
    seen, and keep the answer.

    Args:
        sig: The file as it was seen.
        settle: Quiet time, seconds.
        now: The wall clock, seconds since the epoch.

    Returns:
        Seconds since the epoch; never later than `now` + `settle`.
    """
    return min(sig.ctime_ns / 1e9, now) + settle


def _fold(number: int) -> int:
    """What the ledger can hold; equal stays equal."""
    return number if LEAST <= number <= MOST else number % 2**63
