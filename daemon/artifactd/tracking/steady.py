"""The source of an upload, which must not change while it is read.

MLflow's repositories open the path that they are given (3.17: by ``open`` in their own modules). For a local root, for
a server and for SFTP, our own file stands in there: now and then, and before its last byte is given away, it asks
whether the file is still what it was, and if not, the upload ends in the middle. All then drop what came: the server a
body that is shorter than announced, the others their temporary file. So what they hold is one state of the file, whole.
Nor is more given away than was announced: surplus bytes would be read as the next request.

An SDK of an object store reads the file by itself, in parts: there a change is seen after the upload alone.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from artifactd import throttle
from artifactd.tracking import tether

_EVERY = 2**20
"""Bytes between two questions whether the file is still what it was."""


class ChangedError(Exception):
    """The file changed while it was sent; `sent` bytes went out for nothing."""

    def __init__(self, sent: int) -> None:
        super().__init__("it changed during the upload")
        self.sent = sent


@dataclass(slots=True)
class Source:
    """What is being sent, and how that went.

    Attributes:
        path: As MLflow is given it.
        size: Bytes.
        unchanged: Whether the file is still what it was.
        local: It goes into a folder: no socket keeps to the limits for it.
        sent: Bytes given away.
        changed: It was not, and the upload was ended.
    """

    path: str
    size: int
    unchanged: Callable[[], bool]
    local: bool = False
    sent: int = 0
    changed: bool = False


class _Here(threading.local):
    """What each thread sends now."""

    source: Source | None = None


_here = _Here()


@contextlib.contextmanager
def steady(path: str, size: int, unchanged: Callable[[], bool], *, local: bool = False) -> Iterator[Source]:
    """Have MLflow's next reading of `path` end when the file changes. For one upload at a time in a thread."""
    _here.source = Source(path, size, unchanged, local)  # MLflow calls `open` by its name alone
    try:
        yield _here.source
    finally:
        _here.source = None


def install(*modules: ModuleType) -> None:
    """Have these modules of MLflow open what is sent by way of us."""
    for module in modules:
        module.open = _open  # type: ignore[attr-defined]


def opens_by_us(repo: object) -> bool:
    """Whether this repository of MLflow's opens what it sends by way of us."""
    return any(getattr(sys.modules[kind.__module__], "open", None) is _open for kind in type(repo).__mro__)


def opened(path: str) -> SteadyFile:
    """Open what is sent from `path` now; without ``steady`` around it, any file, which is taken to stay as it is."""
    source = _here.source
    if source is None or source.path != path:
        source = Source(path, os.stat(path).st_size, lambda: True)
    return SteadyFile(source)


def _open(file: Any, *args: Any, **kwargs: Any) -> Any:
    if _here.source is not None and file == _here.source.path:
        return SteadyFile(_here.source)
    return builtins.open(file, *args, **kwargs)


class SteadyFile(io.FileIO):
    """What is read of a source, checked.

    Raises:
        ChangedError: From whatever reads: it is not what it was.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source.path, "rb")
        self._source = source
        if os.fstat(self.fileno()).st_size != source.size:
            # MLflow announces the size of now: a body of that length would be taken.
            self.close()
            source.changed = True
            raise ChangedError(0)
        self._left = source.size
        self._unchecked = 0
        self._told = 0

    @property
    def len(self) -> int:
        """What requests announces; else it asks the file, which may be shorter by now, and would be taken for whole."""
        return self._source.size

    def read(self, size: int | None = -1, /) -> bytes:  # noqa: D102 (as of any file)
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        if self._source.local:
            throttle.copy(wanted)
        block = super().read(wanted) or b""
        self._went(len(block), wanted)
        return block

    def pour(self, target: int) -> int:
        """Have the kernel copy the next bytes into an open file, which spares both the way through memory.

        Returns:
            How many; 0 at the end.

        Raises:
            OSError: The kernel does not, between these two; nothing was copied.
        """
        wanted = min(_EVERY, self._left)
        if throttle.here is not None and self._source.local:
            wanted = min(wanted, throttle.here.piece)
            throttle.copy(wanted)
        count = os.copy_file_range(self.fileno(), target, wanted) if wanted else 0
        if wanted and not count:
            raise OSError(errno.EOPNOTSUPP, "nothing was copied")  # of a file that was cut short, as of strange ones
        self._went(count, wanted)
        return count

    def _went(self, count: int, wanted: int) -> None:
        self._left -= count
        self._unchecked += count
        if self._unchecked >= _EVERY or not self._left or not count:
            self._unchecked = 0
            # Cut short, it must not end like a file that was read.
            if (wanted and not count) or not self._source.unchanged():
                self._source.changed = True
                raise ChangedError(self._source.sent)
            at = self._source.size - self._left
            told, self._told = self._told, at
            tether.sent(at - told)
        self._source.sent += count

    def readall(self) -> bytes:  # noqa: D102
        return self.read()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:  # noqa: D102
        position = super().seek(offset, whence)
        self._left = max(0, self._source.size - position)
        return position
