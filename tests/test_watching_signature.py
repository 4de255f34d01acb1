from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from artifactd.watching.signature import Signature, rest_at

NS = 10**9


def at(ctime_ns: int, mtime_ns: int = 0) -> Signature:
    return Signature(size=1, mtime_ns=mtime_ns, ctime_ns=ctime_ns, inode=1)


def test_it_is_what_stat_says(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"1234")
    st = file.stat()
    assert Signature.of(st) == Signature(4, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)


def test_a_rewrite_a_touch_and_a_replacement_each_make_another_one(tmp_path: Path) -> None:
    file, new = tmp_path / "f", tmp_path / "new"
    file.write_bytes(b"1234")
    os.utime(file, ns=(0, 0))
    first = Signature.of(file.stat())
    file.write_bytes(b"5678")
    rewritten = Signature.of(file.stat())
    os.utime(file, ns=(NS, NS))
    touched = Signature.of(file.stat())
    new.write_bytes(b"5678")
    new.replace(file)
    assert len({first, rewritten, touched, Signature.of(file.stat())}) == 4


def test_a_forged_mtime_changes_nothing() -> None:
    for forged in (0, 4 * 10**18):
        assert rest_at(at(100 * NS, forged), settle=5, now=101) == 105


def test_a_ctime_in_the_future_counts_as_now() -> None:
    assert rest_at(at(5000 * NS), settle=5, now=101) == 106


@given(st.integers(0, 4 * 10**18), st.floats(0, 1e6), st.floats(0, 4e9))
def test_it_is_never_before_the_quiet_time_and_never_later_than_from_now(ctime: int, settle: float, now: float) -> None:
    rest = rest_at(at(ctime), settle, now)
    assert rest <= now + settle
    assert rest >= min(ctime / 1e9, now) + settle


def test_numbers_that_no_column_holds_are_folded_and_stay_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    after_2262 = 10**19
    one = os.stat_result((0o100644, 2**64 - 1, 1, 1, 0, 0, 5, 0, 0, 0), {"st_mtime_ns": after_2262, "st_ctime_ns": 7})
    two = os.stat_result(
        (0o100644, 2**64 - 2, 1, 1, 0, 0, 5, 0, 0, 0), {"st_mtime_ns": after_2262 + 1, "st_ctime_ns": 7}
    )
    for sig in (Signature.of(one), Signature.of(two)):
        assert all(-(2**63) <= n < 2**63 for n in (sig.mtime_ns, sig.inode))
    assert Signature.of(one).inode != Signature.of(two).inode
    assert Signature.of(one).mtime_ns != Signature.of(two).mtime_ns
