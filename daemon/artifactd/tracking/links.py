"""An open file under a name of our choice: MLflow takes a path, and names the artifact after it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

_folders: list[str] = []
"""Empty ones for uploads to come: to make and remove a folder costs as much as to send a small file. Who gave this
process its folder for temporary files removes that."""


@contextlib.contextmanager
def linked(fd: int, name: str) -> Iterator[str]:
    """Give a path that leads to an open file itself: what is put in that file's place meanwhile is never read.

    Args:
        fd: The file.
        name: The path's last component.

    Yields:
        The path, in a folder that no other upload uses at that time.

    Raises:
        OSError: The folder for temporary files cannot be written to.
    """
    folder = _free_folder()
    path = os.path.join(folder, name)
    os.symlink(f"/proc/self/fd/{fd}", path)
    try:
        yield path
    finally:
        os.unlink(path)
        _folders.append(folder)


def _free_folder() -> str:
    with contextlib.suppress(IndexError):  # another thread may take the last one
        folder = _folders.pop()
        if os.path.isdir(folder):  # cleaners remove what lies there for days
            return folder
    return tempfile.mkdtemp(prefix="artifactd-")
