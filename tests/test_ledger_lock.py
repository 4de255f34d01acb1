from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from artifactd.errors import ArtifactdError
from artifactd.ledger import StateLock
from support import wait_for

HOLD = """
import sys, os
from pathlib import Path
from artifactd.ledger import StateLock
lock = StateLock(Path(sys.argv[1])); lock.acquire("artifactd run")
if sys.argv[2] == "orphan" and os.fork() == 0:
    os.set_inheritable(lock.fileno, True)
    print("held", flush=True); sys.stdin.read(); os._exit(0)
if sys.argv[2] == "orphan":
    os.kill(os.getpid(), 9)
print("held", flush=True); sys.stdin.read()
"""


def holder(folder: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_one_is_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path, "alone") as other:
        with pytest.raises(ArtifactdError, match=rf"in use by artifactd run \(pid {other.pid}\)") as caught:
            StateLock(tmp_path).acquire("artifactd sync")
        assert caught.value.exit_code == 1
        other.communicate("")
    lock = StateLock(tmp_path)
    lock.acquire("artifactd sync")
    lock.release()


def test_a_start_waits_for_the_orphans_of_a_killed_service(tmp_path: Path) -> None:
    with holder(tmp_path, "orphan") as other:
        wait_for(lambda: other.poll() is not None, "the holder is dead")
        lock = StateLock(tmp_path)
        assert other.stdin is not None
        timer = threading.Timer(0.5, other.stdin.close)  # what the orphan waits for
        begun = time.monotonic()
        timer.start()
        lock.acquire("artifactd run")
        assert time.monotonic() - begun > 0.4, "it was held until the orphan ended"
        lock.release()
        timer.join()
