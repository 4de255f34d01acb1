"""What an object store keeps of a content besides its size, and the same made from the file while it is read.

Each of the three lists an MD5 with the size, so it costs no request: Google for every object that was sent as one,
Azure for what came in one request, S3 as the ETag (of an object in parts, the MD5 of the parts' MD5s, and their
number). An ETag may also be no MD5 at all: of encrypted objects (KMS, customer keys), of some stores that only speak
S3. So that it differs is a suspicion, to be settled by reading back; that it is the same is proof.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterator


class Checksum:
    """An MD5 that is fed with a content, block by block.

    Args:
        part: Bytes of a part, where the store sums up parts; 0 for the whole.
    """

    def __init__(self, part: int = 0) -> None:
        self.part = part
        self._parts: list[bytes] = []
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._left = part

    def update(self, block: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(block)
        while self.part and len(view) >= self._left:
            self._md5.update(view[: self._left])
            self._parts.append(self._md5.digest())
            view = view[self._left :]
            self._md5, self._left = hashlib.md5(usedforsecurity=False), self.part
        self._md5.update(view)
        self._left -= len(view)

    def made(self, number: int, *, all_fed: bool = False) -> bytes | None:
        """The MD5 of a part, as far as it is known.

        Args:
            number: Of the part, from 1.
            all_fed: Nothing more will come: the last part is all there.
        """
        if number <= len(self._parts):
            return self._parts[number - 1]
        last = all_fed and number == len(self._parts) + 1
        return self._md5.digest() if last else None

    def value(self) -> str:
        """As ``noting`` has it from the store."""
        if not self.part:
            return self._md5.hexdigest()
        parts = self._parts + ([self._md5.digest()] if self._left < self.part else [])
        return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


_wanted: Collection[str] = ()
_said: dict[str, str] = {}


@contextlib.contextmanager
def noting(keys: Collection[str]) -> Iterator[dict[str, str]]:
    """Have listings note what the store says of these objects; for one listing at a time in a process.

    Args:
        keys: Whole names in their bucket.

    Yields:
        What it said so far: name to checksum.
    """
    global _wanted, _said  # noqa: PLW0603 (SDKs call back without a place for ours)
    _wanted, _said = keys, {}
    try:
        yield _said
    finally:
        _wanted = ()


def note(key: str, checksum: str | bytes | bytearray | None) -> None:
    """A listing came by an object, with this checksum (text, or raw bytes)."""
    if checksum and key in _wanted:
        _said[key] = checksum if isinstance(checksum, str) else checksum.hex()
