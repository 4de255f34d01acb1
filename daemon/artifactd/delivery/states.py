"""The Trainer's states beside a file of its results, which knows no steps: the disk has them before the run does."""

from __future__ import annotations

import os
import re

from artifactd.paths import join
from artifactd.reading.objects import MAX_DOCUMENT_BYTES
from artifactd.reading.trainer import STATE_NAME, Record, steps_of
from artifactd.watching.inside import open_file, open_folder

_CHECKPOINT = re.compile(rb"checkpoint-(\d+)")


def states_beside(root: int, rel: bytes) -> tuple[Record, ...]:
    """Read what the states beside a file say.

    Args:
        root: The watched root, opened.
        rel: The file, relative to it.

    Returns:
        The records of the newest checkpoint whose state can be read (rotation deletes file by file), then those of the
        state in the file's own folder; never raises for what the disk has.
    """
    folder = rel.rpartition(b"/")[0]
    newest: tuple[Record, ...] = ()
    for name in _checkpoints(root, folder):
        if newest := _records(root, join(join(folder, name), STATE_NAME)):
            break
    return (*newest, *_records(root, join(folder, STATE_NAME)))


def _checkpoints(root: int, folder: bytes) -> list[bytes]:
    """Names of the folders of checkpoints in a folder, the newest first."""
    try:
        fd = open_folder(root, folder)
    except OSError:
        return []
    try:
        names = [os.fsencode(name) for name in os.listdir(fd)]
    except OSError:
        return []
    finally:
        os.close(fd)
    numbered = {name: int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name))}
    return sorted(numbered, key=lambda name: numbered[name], reverse=True)


def _records(root: int, rel: bytes) -> tuple[Record, ...]:
    try:
        with open(open_file(root, rel), "rb") as state:
            return steps_of(state.read(MAX_DOCUMENT_BYTES + 1))
    except OSError:
        return ()
