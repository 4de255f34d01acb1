"""Checkpoints of several files: how they are known, and what one of them lacks. Pure.

A framework writes one file of a checkpoint last; that is its *marker*. It is delivered last too, so whoever lists the
store and finds the marker finds the checkpoint whole there.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from artifactd.excludes import rule_glob
from artifactd.globs import as_text, union

REST = "the rest of its checkpoint"
"""How the reason of a marker begins that is held back."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<end>[^/]*)")
"""A file that is one of several, as frameworks count them, from 0 or from 1: the last number is how many there are."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a framework's checkpoint is. Globs are gitignore-style.

    Attributes:
        marker: Glob of the file that is written last, on the path within the run folder; its folder is the checkpoint.
        needs: What must be there, each as globs on the path within the checkpoint of which one is enough.
        members: Globs of all that belongs to it, on the same path; what else is in the folder is not waited for.
        indexed: Weights in several files need the ``.index.json`` that says which of them holds what.
    """

    marker: str
    needs: tuple[tuple[str, ...], ...]
    members: tuple[str, ...] = ("**",)
    indexed: bool = False


class Rule:
    """A checkpoint's rule, compiled."""

    __slots__ = ("_members", "_needs", "checkpoint", "marker")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.marker = union([rule_glob("checkpoint", checkpoint.marker)])
        self._members = union(rule_glob("checkpoint", glob) for glob in checkpoint.members)
        self._needs = [(globs[0], union(rule_glob("checkpoint", g) for g in globs)) for globs in checkpoint.needs]

    def belongs(self, inner: bytes) -> bool:
        """Whether a file, by its path within the checkpoint's folder, is a part of it."""
        return self._members.match(as_text(inner)) is not None

    def lacks(self, inner: Iterable[bytes]) -> str:
        """What a checkpoint lacks, in words.

        Args:
            inner: Its files, by their paths within its folder.

        Returns:
            Each thing once, joined by commas; "" for nothing: with these files it is whole.
        """
        paths = [as_text(path) for path in inner]
        missing = [name for name, glob in self._needs if not any(map(glob.match, paths))]
        return ", ".join([*missing, *self._shards(paths)])

    def _shards(self, paths: Sequence[str]) -> Iterator[str]:
        found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for path in paths:
            if shard := _SHARD.fullmatch(path):
                found[shard["stem"], shard["total"], shard["end"]].add(shard["number"])
        for (stem, total, end), numbers in sorted(found.items()):
            if missing := int(total) - len(numbers):
                yield f"{missing} of the {int(total)} {stem}-*-of-{total}{end}"
            if self.checkpoint.indexed and (index := f"{stem}{end}.index.json") not in paths:
                yield index


def wholes(stored: Iterable[bytes], rule_of: Callable[[bytes], Rule | None]) -> Iterator[tuple[bytes, bool]]:
    """The checkpoints among stored files whose marker is one of them.

    Args:
        stored: Paths relative to the watched folder.
        rule_of: Says of which checkpoint a file is the marker.

    Returns:
        The folder of each, and whether all that it needs is stored.
    """
    paths = sorted(stored)
    for marker in paths:
        if (rule := rule_of(marker)) is not None:
            folder = marker.rpartition(b"/")[0]
            yield folder, not rule.lacks(_below(paths, folder))


def _below(ordered: Sequence[bytes], folder: bytes) -> Sequence[bytes]:
    """Of paths in order those that lie in a folder, or deeper, as paths within it."""
    if not folder:
        return ordered
    first, last = bisect_left(ordered, folder + b"/"), bisect_left(ordered, folder + b"0")  # the byte after '/'
    return [path[len(folder) + 1 :] for path in ordered[first:last]]
