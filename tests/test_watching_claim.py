from __future__ import annotations

import os
import subprocess
import sys

import pytest

from artifactd.watching.claim import Claim, TakenError, claimed_by
from support import environment

DEVICE = 1 << 40
"""No disk has it: the name is this test's alone."""

_HOLD = f"""
import sys
from artifactd.watching.claim import Claim
claim = Claim({DEVICE}, int(sys.argv[1]))
print(1, flush=True)
input()
"""


def test_a_folder_is_one_process_s_until_it_lets_go() -> None:
    first = Claim(DEVICE, os.getpid())
    with pytest.raises(TakenError, match=f"pid {os.getpid()} of user "):
        Claim(DEVICE, os.getpid())
    Claim(DEVICE + 1, os.getpid()).release()
    first.release()
    Claim(DEVICE, os.getpid()).release()


def test_who_has_a_folder_is_told_and_nothing_is_taken() -> None:
    assert claimed_by(DEVICE, os.getpid()) is None
    claim = Claim(DEVICE, os.getpid())
    assert (claimed_by(DEVICE, os.getpid()) or "").startswith(f"pid {os.getpid()} of user ")
    claim.release()
    assert claimed_by(DEVICE, os.getpid()) is None
    Claim(DEVICE, os.getpid()).release()


def test_a_killed_process_holds_nothing() -> None:
    inode = os.getpid()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(inode)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(TakenError, match=f"pid {holder.pid} "):
        Claim(DEVICE, inode)
    holder.kill()
    holder.communicate()
    Claim(DEVICE, inode).release()
