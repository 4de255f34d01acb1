"""A writer that does to files what the frameworks do, and remembers each content that it meant to be whole."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections import defaultdict
from pathlib import Path

SIZE = 300_000
"""Bytes of weights: several writes long."""


class Writer:
    """Writes into one run folder.

    Attributes:
        folder: The run folder.
        whole: By path within it, every content that was ever finished there.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.whole: defaultdict[str, list[bytes]] = defaultdict(list)
        self._random = random.Random(seed)  # noqa: S311  (contents that can be made again, no secrets)

    def path(self, name: str) -> Path:
        """A path within the run folder, whose folder is there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def weights(self, size: int = SIZE) -> bytes:
        """Content that no other call gives, each time of another length: its length says whether it is whole."""
        return self._random.randbytes(size + len(self.whole) * 100 + sum(map(len, self.whole.values())))

    def same_size(self, size: int = SIZE) -> bytes:
        """Content that no other call gives, of one length."""
        return self._random.randbytes(size)

    def pause(self, seconds: float) -> None:
        """A pause that was recorded: training goes on in it."""
        time.sleep(seconds)

    def written(self, name: str, content: bytes, *, pause: float = 0.0) -> None:
        """Truncate and write, in parts, with a pause in the middle; no temporary name."""
        middle = len(content) // 2
        with self.path(name).open("wb") as f:
            f.write(content[:middle])
            f.flush()
            self.pause(pause)
            f.write(content[middle:])
        self.whole[name].append(content)

    def rewritten_in_place(self, name: str, content: bytes, *, pause: float = 0.0) -> None:
        """As HDF5 does: opened for reading and writing, locked, truncated, rewritten."""
        path = self.path(name)
        path.touch()
        with path.open("r+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            f.truncate(0)
            f.write(content[: len(content) // 2])
            f.flush()
            self.pause(pause)
            f.write(content[len(content) // 2 :])
        self.whole[name].append(content)

    def filled_and_renamed(self, name: str, temporary: str, content: bytes, *, pause: float = 0.0) -> None:
        """As safetensors does: mode 0600, its full size at once, then its data, then its name."""
        path = self.path(temporary)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "r+b") as f:
            f.truncate(len(content))
            self.pause(pause)
            f.write(content)
        path.rename(self.path(name))
        self.whole[name].append(content)

    def moved_in(self, name: str, outside: Path, content: bytes) -> None:
        """As Lightning does: written elsewhere, and renamed in; nobody closes it here."""
        outside.write_bytes(content)
        outside.rename(self.path(name))
        self.whole[name].append(content)

    def appended(self, name: str, line: bytes) -> None:
        """Open, append, close."""
        with self.path(name).open("ab") as f:
            f.write(line)

    def deleted(self, *names: str) -> None:
        """File by file, in this order, and the empty folder."""
        for name in names:
            (self.folder / name).unlink()
            self.pause(0.02)
        folder = (self.folder / names[0]).parent
        if folder != self.folder and not any(folder.iterdir()):
            folder.rmdir()
