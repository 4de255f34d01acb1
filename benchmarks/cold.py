"""A file of which memory keeps little, as on a machine that is smaller than the file.

Read twice, it is read from the disk twice, unless the second reader is near the first.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from costs import MIB

WINDOW = 128 * MIB
"""Bytes of the file that memory keeps behind whoever has read furthest."""

_LOOK_EVERY = 0.02
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_FAILED = ctypes.c_void_p(-1).value


@contextlib.contextmanager
def forgotten(path: Path, window: int = WINDOW) -> Iterator[None]:
    """Have memory know nothing of a file, and while the block runs no more than a window of it.

    The kernel is asked which of its pages are in memory (mincore), and all that lie further back than the window are
    dropped (POSIX_FADV_DONTNEED). The file is opened for reading alone: with a writer it would not be at rest.
    """
    over = threading.Event()
    with path.open("rb") as file:
        fd = file.fileno()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

        def forget() -> None:
            with _resident(fd) as furthest:
                while not over.wait(_LOOK_EVERY):
                    behind = furthest() - window
                    if behind > 0:
                        os.posix_fadvise(fd, 0, behind, os.POSIX_FADV_DONTNEED)

        forgetting = threading.Thread(target=forget)
        forgetting.start()
        try:
            yield
        finally:
            over.set()
            forgetting.join()


@contextlib.contextmanager
def _resident(fd: int) -> Iterator[Callable[[], int]]:
    """Gives the bytes up to the end of the file's last page that is in memory."""
    size = os.fstat(fd).st_size
    there = (ctypes.c_ubyte * -(-size // _PAGE))()
    at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if at == _FAILED:
        raise OSError(ctypes.get_errno(), "mmap")

    def furthest() -> int:
        if _libc.mincore(at, size, there):
            raise OSError(ctypes.get_errno(), "mincore")
        return (bytes(there).rfind(b"\1") + 1) * _PAGE

    try:
        yield furthest
    finally:
        _libc.munmap(at, size)
