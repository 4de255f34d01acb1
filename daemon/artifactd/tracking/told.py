"""What came of telling a run what a file says, as plain data: what reads files is not imported for it."""

from __future__ import annotations

from dataclasses import dataclass

from artifactd.errors import Failure


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling.

    Attributes:
        mark: For the next time; None leaves the one of before.
        failure: What could not be told, and why; the rest was.
    """

    mark: bytes | None = None
    failure: Failure | None = None


def is_told(mark: bytes | None, digest: bytes) -> bool:
    """Whether a mark says that all of this content was told."""
    return mark is not None and mark[: len(digest)] == digest
