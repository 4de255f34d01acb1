"""What is wrong now and needs a person: from the ledger's answers and the free space. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from artifactd.causes import coded
from artifactd.config import NotifyConfig, format_duration
from artifactd.config.notify import Topic
from artifactd.config.units import format_size
from artifactd.errors import Kind, then_retry
from artifactd.ledger import Blockage
from artifactd.ledger.needs import FailedFiles, Needs
from artifactd.text import printable

RANKS: Mapping[str, int] = {"disk": 0, "paused": 1, "watch": 2, "lag": 3, "failure": 4}
"""What is said first: a state folder without space ends all deliveries, a failed file is one."""

TRIES = 6
"""Tries in a row after which a server that time alone mends counts as away: half a minute, with the usual pauses. One
that is restarted needs nobody."""

_LONGEST = 600
"""Characters of each text: a message is read on a telephone."""

_BY_ITSELF = "It is tried again by itself; `artifactd status` shows when"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        kind: What of ``[notify] on`` it is.
        subject: Whose it is (a server, a folder): with `kind`, what makes it the same trouble at the next look.
        detail: What is wrong, in one line.
        next_step: What to do, in one line.
        weight: How much it is; when that grows, it is news again.
    """

    kind: Topic
    subject: str
    detail: str
    next_step: str
    weight: int = 1

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same trouble."""
        return self.kind, self.subject

    @property
    def line(self) -> str:
        """All of it in a line, where no name stands twice: a telephone and a status line are short."""
        said = self.detail if self.detail.startswith(self.subject) else f"{self.subject}: {self.detail}"
        return f"{self.kind}: {said}"

    @property
    def place(self) -> tuple[int, str]:
        """By what troubles are ordered."""
        return RANKS[self.kind], self.subject


@dataclass(frozen=True, slots=True)
class Disk:
    """The filesystem of the state folder.

    Attributes:
        path: The folder.
        free: Bytes that this user may still write.
        size: Bytes of the whole filesystem.
    """

    path: str
    free: int
    size: int


def still_waiting(before: Mapping[str, float], needs: Needs, now: float) -> dict[str, float]:
    """Since when each watched folder has had something that waits, without a pause.

    A file that was there before artifactd was has an age that says nothing of how late it is.

    Args:
        before: The same at the last look.
        needs: What the ledger says.
        now: Unix seconds.

    Returns:
        Unix seconds by folder, none for those where nothing waits.
    """
    return {root: min(before.get(root, now), now) for root in (_text(late.root) for late in needs.late)}


def find(
    needs: Needs, disk: Disk | None, config: NotifyConfig, waiting: Mapping[str, float], now: float
) -> frozenset[Trouble]:
    """What is wrong.

    Args:
        needs: What the ledger says.
        disk: None where it cannot be asked.
        config: What of it is to be told, and its limits.
        waiting: As ``still_waiting`` gives it.
        now: Unix seconds.
    """
    found = [
        *_failures(needs),
        *_paused(needs),
        *_late(needs, config.lag, waiting, now),
        *_full(disk, config.disk),
        *_degraded(needs),
    ]
    return frozenset({trouble.key: trouble for trouble in found if trouble.kind in config.on}.values())


def _failures(needs: Needs) -> Iterator[Trouble]:
    by_folder: dict[bytes, FailedFiles] = {}
    for files in needs.failed:  # a folder may have been several runs
        other = by_folder.get(files.folder)
        by_folder[files.folder] = files if other is None else other._replace(number=other.number + files.number)
    for folder, files in by_folder.items():
        path = _text(files.path)
        which = path if files.number == 1 else f"{files.number} files failed, {path} among them"
        detail = f"{which}: {coded(files.error)}"
        step = then_retry(files.cure, _retry(folder)) if files.needs_retry else files.cure
        yield _trouble("failure", folder, detail, step, files.number)
    for run, block in needs.runs.items():
        if block.kind == Kind.PERMANENT and run not in by_folder:
            yield _trouble("failure", run, coded(block.error), then_retry(block.cure, _retry(run)))


def _retry(folder: bytes) -> str:
    return f"`artifactd retry {_word(folder)}`"


def _paused(needs: Needs) -> Iterator[Trouble]:
    for uri, block in needs.targets.items():
        if _lasts(block):
            subject = uri.encode("utf-8", "surrogateescape")
            yield _trouble("paused", subject, coded(block.error), block.cure or _BY_ITSELF)
    for run, block in needs.runs.items():
        if block.kind != Kind.PERMANENT and _lasts(block):
            yield _trouble("paused", run, coded(block.error), block.cure or _BY_ITSELF)


def _lasts(block: Blockage) -> bool:
    return block.kind != Kind.TRANSIENT or block.attempts >= TRIES


def _late(needs: Needs, limit: float, waiting: Mapping[str, float], now: float) -> Iterator[Trouble]:
    for late in needs.late:
        waits = now - max(late.since, waiting.get(_text(late.root), now))
        if waits > limit:
            path = _text(late.path)
            detail = f"{path} has been waiting for {_span(waits)}, more than {format_duration(limit)}"
            yield _trouble("lag", late.root, detail, f"`artifactd explain {_word(late.path)}` says what it waits for")


def _full(disk: Disk | None, limit: int) -> Iterator[Trouble]:
    if disk is not None and disk.free < limit:
        detail = f"{_size(disk.free)} of {_size(disk.size)} are free, less than {format_size(limit)}"
        step = "Make space there: without it nothing can be noted, and so nothing is delivered"
        yield _trouble("disk", disk.path.encode("utf-8", "surrogateescape"), coded(detail), step)


def _degraded(needs: Needs) -> Iterator[Trouble]:
    for watch in needs.watches:
        if not watch.healthy:
            detail = coded(watch.detail) or "it is not watched as it should be"
            yield _trouble("watch", watch.path, detail, watch.next_step)


def _trouble(kind: Topic, subject: bytes, detail: str, next_step: str, weight: int = 1) -> Trouble:
    return Trouble(kind, _text(subject), _cut(detail), _cut(next_step), weight)


def _text(path: bytes) -> str:
    return _cut(printable(path))


def _word(path: bytes) -> str:
    """As a shell takes it: whoever names a folder does not say what an operator runs."""
    return shlex.quote(_text(path))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _span(seconds: float) -> str:
    return format_duration(float(seconds // 60 * 60 if seconds >= 3600 else seconds // 1))


def _size(count: int) -> str:
    """In whole GiB or MiB: nobody counts bytes on a disk."""
    unit = 30 if count >= 10 << 30 else 20
    return format_size(count >> unit << unit)
