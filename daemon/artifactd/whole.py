"""Whether a checkpoint's marker may go: not before the rest of the checkpoint is stored.

Level-triggered: each look at a marker that is due asks disk and ledger anew. What is kept in memory only makes the look
come sooner, or knows more of what is gone; without it, after a crash, the marker is looked at again all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from artifactd.checkpoints import REST, Rule
from artifactd.layout import Destination, Layout
from artifactd.ledger import KnownFile, State
from artifactd.pace import LOOK_AGAIN, given_up_at
from artifactd.paths import join, within
from artifactd.runfolder import CONTROL
from artifactd.watching.remove import ASIDE
from artifactd.watching.scan import walk
from artifactd.watching.signature import Signature

if TYPE_CHECKING:
    from artifactd.ledger import Ledger

METRICS = "metrics"
"""The role of a file whose lines count as they come: it grows, as live files do."""
_KEPT = 1000
"""Markers of which something is remembered; more than are ever held back at a time."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A marker is held back: why, and until when it is looked at again, unix seconds."""

    reason: str
    due_at: float


@dataclass(slots=True)
class _Memory:
    """What was seen of a checkpoint while its marker was held back.

    Attributes:
        folder: The checkpoint, relative to the watched folder.
        marker: The marker as it was: another one is of another checkpoint.
        waits: Files that it waits for.
        seen: The inodes of all its files, by path.
    """

    folder: bytes
    marker: Signature
    waits: set[bytes] = field(default_factory=set)
    seen: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Rest:
    """A checkpoint without its marker, as it stands now; paths are relative to the watched folder.

    Attributes:
        files: What is to be stored of it.
        left_out: What the rules leave out of it.
        waits: What is not stored yet.
        failed: What is not for a reason that a person must see to.
        stored: What is.
    """

    files: dict[bytes, Signature] = field(default_factory=dict)
    left_out: set[bytes] = field(default_factory=set)
    waits: set[bytes] = field(default_factory=set)
    failed: set[bytes] = field(default_factory=set)
    stored: set[bytes] = field(default_factory=set)


class Checkpoints:
    """Judges the markers of one watch.

    Args:
        ledger: Says what is stored.
        root: The watch's number in the ledger.
        layout: Knows markers.
        settle: Quiet time in seconds.
        removes: Delivered files are removed from the disk.
    """

    def __init__(self, ledger: Ledger, root: int, layout: Layout, settle: float, *, removes: bool) -> None:
        self._ledger = ledger
        self._root = root
        self._layout = layout
        self._settle = settle
        self._removes = removes
        self._memory: dict[bytes, _Memory] = {}

    def hold(self, root_fd: int, rel: bytes, marker: Signature, rule: Rule, now: float, *, ended: bool) -> Hold | None:
        """Say whether a marker is to be held back, and for what.

        Args:
            root_fd: The watched folder.
            rel: The marker's path in it.
            marker: The marker as seen now.
            rule: Of its checkpoint.
            now: Unix seconds.
            ended: The run is over.

        Returns:
            None when it may go: its checkpoint is whole in the store, or what it lacks is not waited for any longer.
        """
        folder = os.path.dirname(rel)
        rest = self._look(root_fd, folder, rule)
        memory = self._remember(rel, marker, rest)
        if rest.waits:
            count = len(rest.waits)
            return Hold(f"{REST}: {count} {'file' if count == 1 else 'files'} to be stored", now + LOOK_AGAIN)
        if rest.failed:
            first = os.fsdecode(_inner(min(rest.failed), folder)) or "its folder"
            more = f" and {len(rest.failed) - 1} more" if len(rest.failed) > 1 else ""
            return Hold(f"{REST}: {first}{more} cannot be stored", now + LOOK_AGAIN)
        inner = {_inner(path, folder) for path in rest.stored}
        lost = {_inner(path, folder) for path in self._lost(memory, rest)}
        lacks = ", ".join(filter(None, (rule.lacks(inner), *(os.fsdecode(path) for path in sorted(lost)))))
        # What the user leaves out will never come, so nothing is gained by waiting for it.
        if not lacks or not (lost or rule.lacks(inner | {_inner(path, folder) for path in rest.left_out})):
            self._memory.pop(rel, None)
            return None
        give_up = given_up_at((marker, *rest.files.values()), self._settle, now, ended=ended)
        return None if give_up <= now else Hold(f"{REST}, which lacks {lacks}", min(give_up, now + LOOK_AGAIN))

    def stored(self, rel: bytes) -> list[bytes]:
        """Note that a file was stored; gives the markers beside it that are now to be looked at."""
        ready = []
        for marker, memory in self._memory.items():
            if within(rel, memory.folder):
                memory.waits.discard(rel)
                if not memory.waits:
                    ready.append(marker)
        return ready

    def _look(self, root_fd: int, folder: bytes, rule: Rule) -> _Rest:
        rest = _Rest()
        for listing in walk(root_fd, folder, skip=lambda below: self._layout.excluded_folder(below) is not None):
            known = self._known(listing.rel)
            for name, signature in listing.files.items():
                path = join(listing.rel, name)
                if not rule.belongs(_inner(path, folder)) or self._is_apart(listing.rel, name, folder):
                    continue
                placed = self._layout.place(path)
                if not isinstance(placed, Destination):
                    rest.left_out.add(path)
                    continue
                if placed.role == METRICS or self._layout.is_live(path):
                    continue  # it grows for as long as training does
                rest.files[path] = signature
                row = known.get(name)
                if row is None or row.signature != signature or row.state in (State.DUE, State.UPLOADING):
                    rest.waits.add(path)
                else:
                    (rest.failed if row.state is State.FAILED else rest.stored).add(path)
            rest.failed |= {join(listing.rel, name) for name in listing.unreadable}
            if self._removes:
                rest.stored |= {join(listing.rel, n) for n, row in known.items() if _has_receipt(row)} - rest.waits
        return rest

    def _is_apart(self, folder: bytes, name: bytes, checkpoint: bytes) -> bool:
        """Whether a file is none of the checkpoint's; of two markers in one folder, none waits for the other."""
        if name.startswith(ASIDE) or (folder == checkpoint and self._layout.checkpoint(join(folder, name))):
            return True
        return name in CONTROL and folder == self._layout.run_folder(folder)

    def _known(self, folder: bytes) -> dict[bytes, KnownFile]:
        known = self._ledger.folder(self._root, folder, create=False)
        return {} if known is None else self._ledger.known_files(known[0])

    def _remember(self, rel: bytes, marker: Signature, rest: _Rest) -> _Memory:
        memory = self._memory.get(rel)
        if memory is None or memory.marker != marker:
            if len(self._memory) >= _KEPT:
                self._memory.clear()
            memory = self._memory[rel] = _Memory(os.path.dirname(rel), marker)
        memory.waits = set(rest.waits)
        memory.seen |= {path: signature.inode for path, signature in rest.files.items()}
        return memory

    def _lost(self, memory: _Memory, rest: _Rest) -> Iterator[bytes]:
        """Files that were there with the marker, are gone without having been stored, and were not renamed."""
        here = {signature.inode for signature in rest.files.values()}
        for path, inode in memory.seen.items():
            if path not in rest.files and inode not in here:
                folder, _, name = path.rpartition(b"/")
                row = self._known(folder).get(name)
                if row is None or not _has_receipt(row):
                    yield path


def _inner(path: bytes, folder: bytes) -> bytes:
    return path[len(folder) :].lstrip(b"/")


def _has_receipt(row: KnownFile) -> bool:
    """Whether what was last seen of a file is stored: one that went before its last content was sent has no ctime."""
    return row.state is State.STORED and row.signature.ctime_ns != 0
