"""When a folder was made, which the kernel tells by statx(2) alone."""

from __future__ import annotations

import ctypes
import sys

_EMPTY_PATH = 0x1000
_BTIME = 0x800
# struct statx: stx_mask at 0, stx_btime (seconds, nanoseconds) at 80.
_SIZE, _BTIME_AT = 256, 80
_ORDER = sys.byteorder


def birth_of(fd: int) -> float | None:
    """When a file or folder was made on this filesystem.

    Args:
        fd: Any descriptor of it.

    Returns:
        Unix seconds; None where the filesystem does not keep it, or the C library does not ask for it.
    """
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if statx is None:
        return None
    found = ctypes.create_string_buffer(_SIZE)
    if statx(fd, b"", _EMPTY_PATH, _BTIME, found) != 0:
        return None
    if not int.from_bytes(found.raw[:4], _ORDER) & _BTIME:
        return None
    seconds = int.from_bytes(found.raw[_BTIME_AT : _BTIME_AT + 8], _ORDER, signed=True)
    nanoseconds = int.from_bytes(found.raw[_BTIME_AT + 8 : _BTIME_AT + 12], _ORDER)
    return seconds + nanoseconds / 1e9 if seconds > 0 else None  # 1970: some report it for 'not known'
