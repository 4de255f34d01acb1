"""Runs that nobody works on any more: which of a root's runs live, judged after each full scan.

A scan has just looked at every file, so what changed is known; what a run folder names besides (a process, a lock, a
heartbeat) is looked at here. Nothing waits for a run: one that lives is judged again after the next scan.
"""

from __future__ import annotations

import json
import os
import time

from artifactd.ledger import Ledger
from artifactd.ledger.lives import Quiet
from artifactd.runfolder import Alive
from artifactd.watching.signs import Sign, claims, sign_of


def judge(ledger: Ledger, root_fd: int, root: int, scan_began: float, now: float, abandon_after: float) -> None:
    """Say which runs are given up, and which of those that were live again.

    Args:
        ledger: Written to within the caller's transaction.
        root_fd: The watched root.
        root: Its number in the ledger.
        scan_began: When the full scan began that is over now, unix seconds: what changed before it was seen.
        now: Unix seconds.
        abandon_after: Seconds without a sign of life after which a run counts as given up.
    """
    ledger.not_in_future(now)
    held = claims()
    for run, folder in ledger.under_way(root) if held else ():
        if folder and _name(root_fd, folder) in held:
            ledger.note_change(run, now, "artifactd exec is at work")
    last = scan_began - abandon_after
    for nested in (True, False):  # a run lives as long as one that is nested in it
        for quiet in ledger.quiet(root, last, nested=nested):
            moved = quiet.moved_at
            if moved is None:
                moved = min(ledger.newest(quiet.run), now)
                ledger.note_change(quiet.run, moved, "a file changed")
            sign = _sign(root_fd, quiet, now)
            if sign is not None and sign.at > moved:
                moved = sign.at
                ledger.note_change(quiet.run, moved, sign.what)
            if moved <= last:
                ledger.abandon(quiet.run, moved, f"no sign of life since {_clock(moved)}")
    for quiet in ledger.abandoned(root):
        sign = _sign(root_fd, quiet, now)
        if sign is not None and sign.at > (quiet.moved_at or 0.0):
            ledger.note_change(quiet.run, sign.at, sign.what)


def _sign(root_fd: int, quiet: Quiet, now: float) -> Sign | None:
    return sign_of(root_fd, quiet.folder, Alive(**json.loads(quiet.signs)), now) if quiet.signs else None


def _name(root_fd: int, folder: bytes) -> bytes | None:
    try:
        st = os.stat(folder, dir_fd=root_fd, follow_symlinks=False)
    except OSError:
        return None
    return b"%x:%x" % (st.st_dev, st.st_ino)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
