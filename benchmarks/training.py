"""What stands for a training job: ``python training.py matmul|loader FOLDER``.

Says when it has warmed up, works until its standard input ends, and says how many milliseconds a step took (the mean:
a step that waited counts). ``matmul`` multiplies matrices on all cores, ``loader`` reads the folder's files from disk,
in no order.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable

_BLOCK = 2**20


def main() -> None:
    """Work and say."""
    kind, folder = sys.argv[1:]
    step = multiplying() if kind == "matmul" else loading(folder)
    for _ in range(3):
        step()
    print("ready", flush=True)
    enough = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), enough.set()), daemon=True).start()
    begun = time.perf_counter()
    steps = 0
    while not (steps and enough.is_set()):
        step()
        steps += 1
    print(1000 * (time.perf_counter() - begun) / steps)


def multiplying() -> Callable[[], object]:
    """A step of a NumPy loop."""
    import numpy as np  # noqa: PLC0415

    a = np.random.default_rng(1).random((768, 768), dtype=np.float32)
    return lambda: a @ a


def loading(folder: str) -> Callable[[], object]:
    """A step of a loader: a block of some file, that is not in the page cache."""
    files = [os.open(entry.path, os.O_RDONLY) for entry in os.scandir(folder)]
    os.sync()
    blocks = [(fd, start) for fd in files for start in range(0, max(1, os.fstat(fd).st_size), _BLOCK)]
    random.Random(1).shuffle(blocks)  # noqa: S311
    at = 0

    def step() -> None:
        nonlocal at
        fd, start = blocks[at % len(blocks)]
        os.posix_fadvise(fd, start, _BLOCK, os.POSIX_FADV_DONTNEED)
        os.pread(fd, _BLOCK, start)
        at += 1

    return step


if __name__ == "__main__":
    main()
