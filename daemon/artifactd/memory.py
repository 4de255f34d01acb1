"""Memory that work took and nothing needs any more goes back to the kernel."""

from __future__ import annotations

import ctypes
import gc

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's (malloc_trim(3)); musl has none."""


def give_back() -> None:
    """Collect garbage, and give back what is free.

    Garbage in cycles would wait for as much work again, and what is free between things that stay is kept by glibc, in
    an arena for each thread: at rest after a bout of work 1.3 MiB in all.
    """
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)
