"""What outlives the process: what was told to whom, in one small JSON file of the state folder.

A restart neither repeats a message nor forgets that one is to be told of an end. What a crash leaves is the old file or
the new one, whole. A file that cannot be read counts as none: then what is wrong is told once more.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactd.notify.pace import Known, Memory
from artifactd.whose import make_file

FILE_NAME = "notify.json"

_VERSION = 1
_FAR = 1e11
"""Unix seconds of no time that a clock shows."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered.

    Attributes:
        memories: What each one who is told knows, by an identity of theirs.
        waiting: Since when each watched folder has had something that waits, unix seconds.
    """

    memories: Mapping[str, Memory] = field(default_factory=dict)
    waiting: Mapping[str, float] = field(default_factory=dict)


def load(state_dir: Path) -> Kept:
    """What was remembered last; nothing where there is no file, or none that can be used."""
    try:
        data = json.loads((state_dir / FILE_NAME).read_bytes())
        return _kept(data) if data["version"] == _VERSION else Kept()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return Kept()


def save(state_dir: Path, kept: Kept) -> None:
    """Put it in the file's place, durably and at once.

    Raises:
        OSError: The disk is full or failing; what stood there before is still there.
    """
    path, part = state_dir / FILE_NAME, state_dir / f"{FILE_NAME}.new"
    content = json.dumps(_data(kept), ensure_ascii=True, separators=(",", ":")).encode()
    try:
        make_file(part, 0o600)
        with open(os.open(part, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _data(kept: Kept) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "waiting": dict(kept.waiting),
        "told": {
            ident: {
                "tried_at": memory.tried_at,
                "known": [[*key, known.since, known.told] for key, known in memory.known.items()],
            }
            for ident, memory in kept.memories.items()
        },
    }


def _kept(data: Any) -> Kept:
    memories = {
        str(ident): Memory(
            {
                (str(kind), str(subject)): Known(_time(since), int(told))
                for kind, subject, since, told in memory["known"]
            },
            None if memory["tried_at"] is None else _time(memory["tried_at"]),
        )
        for ident, memory in data["told"].items()
    }
    return Kept(memories, {str(root): _time(since) for root, since in data["waiting"].items()})


def _time(value: Any) -> float:
    if not 0 <= float(value) < _FAR:
        raise ValueError(value)
    return float(value)
