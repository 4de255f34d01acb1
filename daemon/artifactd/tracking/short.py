"""The short way of small artifacts: read once, whole, and handed over as they are.

MLflow takes a path, and each of its repositories does with it what a file of any size needs. Of a small one all is in
memory at once: what is sent is one state of the file, and nothing is opened, named and read again for it. The store is
written as by MLflow, which is also who decides about whatever is not plain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from artifactd import throttle
from artifactd.tracking import sdks
from artifactd.tracking.direct import Direct, serves

SMALL = 128 * 1024
"""Bytes that go the short way at most."""

Way = Callable[[bytes, int, str, str], bool]
"""Puts a content, which was read from a descriptor, to a folder under a name; whether that was done."""


def way(repo: Any, local: Any) -> Way | None:
    """How small contents get into a repository of MLflow's; None where it has to read them by itself.

    Args:
        repo: MLflow's.
        local: The ``LocalRepository`` that stands for it, if it is one of a plain local root.
    """
    if local is not None:
        return local.write  # type: ignore[no-any-return]
    return Direct(repo).put if serves(repo) else sdks.small(repo)


def read(fd: int, size: int, unchanged: Callable[[], bool], *, local: bool) -> bytes | None:
    """All of a small file, if it is what it was once that is read.

    Args:
        fd: The file.
        size: Its bytes.
        unchanged: Whether it is still what it was.
        local: It goes into a folder: no socket keeps to the limits for it.
    """
    if local:
        throttle.copy(size)
    content = os.pread(fd, size + 1, 0)
    return content if len(content) == size and unchanged() else None
