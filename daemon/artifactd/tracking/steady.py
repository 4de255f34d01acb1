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
import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

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
        sent: Bytes given away.
        changed: It was not, and the upload was ended.
    """

    path: str
    size: int
    unchanged: Callable[[], bool]
    sent: int = 0
    changed: bool = False


class _Here(threading.local):
    """What each thread sends now."""

    source: Source | None = None


_here = _Here()


@contextlib.contextmanager
def steady(path: str, size: int, unchanged: Callable[[], bool]) -> Iterator[Source]:
    """Have MLflow's next reading of `path` end when the file changes. For one upload at a time in a thread."""
    _here.source = Source(path, size, unchanged)  # MLflow calls `open` by its name alone
    try:
        yield _here.source
    finally:
        _here.source = None


def install(*modules: ModuleType) -> None:
    """Have these modules of MLflow open what is sent by way of us."""
    for module in modules:
        module.open = _open  # type: ignore[attr-defined]


def _open(file: Any, *args: Any, **kwargs: Any) -> Any:
    if _here.source is not None and file == _here.source.path:
        return _File(_here.source)
    return builtins.open(file, *args, **kwargs)


class _File(io.FileIO):
    """What is read of a source, checked."""

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

    @property
    def len(self) -> int:
        """What requests announces; else it asks the file, which may be shorter by now, and would be taken for whole."""
        return self._source.size

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        block = super().read(wanted) or b""
        self._left -= len(block)
        self._unchecked += len(block)
        if self._unchecked >= _EVERY or not self._left or not block:
            self._unchecked = 0
            # Cut short, it must not end like a file that was read.
            if (wanted and not block) or not self._source.unchanged():
                self._source.changed = True
                raise ChangedError(self._source.sent)
        self._source.sent += len(block)
        return block

    def readall(self) -> bytes:
        return self.read()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        position = super().seek(offset, whence)
        self._left = max(0, self._source.size - position)
        return position
