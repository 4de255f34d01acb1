"""Memory that is given back."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import threading
from pathlib import Path
from artifactd import memory

def held():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

stays = []

def work():
    made = [(b"x" * (20_000 + n), b"y" * (1000 + n)) for n in range(2000)]
    stays.extend(small for _, small in made)

thread = threading.Thread(target=work)
thread.start()
thread.join()
before = held()
memory.give_back()
print(before - held())
"""


def test_what_is_free_between_things_that_stay_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 25_000, "of the 39,000 KiB that were made between others, and are needed no more"
