"""What the ledger holds, as data."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from artifactd.errors import Kind, then_retry
from artifactd.pace import Past
from artifactd.watching.signature import Signature

NOTHING_SENT = Past()

CLASH = "clash"
"""The failure kind of a file whose destination another file holds; looked at again at each look."""


class State(enum.IntEnum):
    """Where a file stands. Level-triggered: a state says what is to be done, not what happened."""

    DUE = 0
    UPLOADING = 1
    STORED = 2
    FAILED = 3
    IGNORED = 4


class Growth(enum.IntEnum):
    """What a delivery may take for a file's content."""

    NONE = 0
    """The file at rest, whole; nobody has it open for writing."""
    QUIET = 1
    """A live file, whole and unchanged, though somebody may keep it open."""
    SNAPSHOT = 2
    """A live file's first bytes, as many as it has now."""
    NEWS = 3
    """Nothing: what it says so far is told to its run, and it is not sent now."""
    HELD = 4
    """Nothing, whatever its time: it goes after others, and a look says when these are stored."""


class Doubt(enum.IntEnum):
    """What the store may hold at a file's destination besides what its receipt says."""

    NONE = 0
    CHANGED = 1
    """Something else: a part, or a content that the file had while it was sent."""
    ASK = 2
    """Perhaps just what the file holds now: its upload ended without a word. The store is asked before a repeat."""
    STRANGE = 3
    """What another host has put there: other hosts deliver into the run, and nothing was sent from here."""
    FREE = 4
    """Nothing, when it was asked; still nothing was sent from here."""


class Name(enum.IntEnum):
    """Whose an artifact's name is, where several hosts deliver into one run."""

    OURS = 0
    """This host's: what stands there may be overwritten."""
    STRANGE = 1
    """Not known. It is asked for, and the answer written down before anything is sent: after a crash, what this host
    sent could not be told from what another one did."""
    FREE = 2
    """It was free, and that is written down: to be sent, if it still is."""
    TAKEN = 3
    """Another host's: it is compared, and never overwritten."""


class FileId(NamedTuple):  # this one, and the next two, are made for each file: a tuple is made and compared in C
    """A row's key: the folder's number in the ledger and the name as bytes."""

    folder: int
    name: bytes


class KnownFile(NamedTuple):
    """What a look compares the disk with."""

    state: State
    signature: Signature
    kind: str | None
    dest: int | None
    growth: Growth
    past: Past
    role: str = ""
    told_at: float | None = None


class Wanted(NamedTuple):
    """What a look found due, ignored or in the way: the row as it shall be.

    Attributes:
        name: The file's name as bytes.
        state: DUE, IGNORED or FAILED.
        signature: As seen on disk now.
        run: The run's row, None for ignored files.
        dir: The artifact path's folder in the run ("" is the run's root).
        leaf: The artifact path's last part.
        dest: A 64-bit digest of (run identity, artifact path): equal for two files means a clash.
        due_at: Unix seconds from which the file counts as at rest.
        kind: Failure kind, for FAILED.
        error: Failure text, for FAILED.
        cure: What the user can do, for FAILED.
        growth: What may be taken for its content.
        role: What the run is told of its content, besides that it is an artifact; "" for nothing.
        strange: Other hosts deliver into the run: what stands at a new destination is theirs.
    """

    name: bytes
    state: State
    signature: Signature
    run: int | None = None
    dir: str = ""
    leaf: str = ""
    dest: int | None = None
    due_at: float | None = None
    kind: str | None = None
    error: str | None = None
    cure: str | None = None
    growth: Growth = Growth.NONE
    role: str = ""
    strange: bool = False


_GROWTHS, _WHOSE = tuple(Growth), tuple(Name)


@dataclass(frozen=True)
class DueFile:
    """A file to deliver, with all that its delivery needs to know.

    Attributes:
        id: Its row.
        rel: Path relative to the root.
        signature: As a look saw it.
        dir: The artifact path's folder in the run ("" is the run's root).
        leaf: The artifact path's last part.
        dest: As in ``Wanted``; that of the first version where versions are kept.
        digest: SHA-256 of what the store holds of it for sure; None if nothing.
        attempts: Tries that failed so far.
        due_at: Unix seconds.
        growth: What may be taken for its content.
        version: The number that this content would have where versions are kept, 0 elsewhere.
        ask: The store may hold this content without our knowing: it is asked before anything is sent.
        role: As in ``Wanted``.
        told: The mark of what the run was told of it; None for nothing.
        name: Whose its name in the run is.
        strange: It is new here, and its run was not made from here.
        past: What was sent of it before.
    """

    id: FileId
    rel: bytes
    signature: Signature
    dir: str
    leaf: str
    dest: int
    digest: bytes | None
    attempts: int
    due_at: float
    growth: Growth = Growth.NONE
    version: int = 0
    ask: bool = False
    role: str = ""
    told: bytes | None = None
    name: Name = Name.OURS
    strange: bool = False
    past: Past = NOTHING_SENT

    def __reduce__(self) -> tuple[Callable[..., DueFile], tuple[object, ...]]:
        """For another process, in a third of the time that its fields by their names would take."""
        return due_file, (
            *self.id, self.rel, *self.signature, self.dir, self.leaf, self.dest, self.digest, self.attempts,
            self.due_at, int(self.growth), self.version, self.ask, self.role, self.told, int(self.name), self.strange,
            self.past,
        )  # fmt: skip


def due_file(
    folder: int, name: bytes, rel: bytes, size: int, mtime_ns: int, ctime_ns: int, inode: int, place: str, leaf: str,
    dest: int, digest: bytes | None, attempts: int, due_at: float, growth: int, version: int, ask: bool, role: str,
    told: bytes | None, whose: int, strange: bool, past: Past,
) -> DueFile:  # fmt: skip
    """A file to deliver, from plain values: ``DueFile`` itself sets each field by a call, and a job has hundreds.

    Args are the fields of ``DueFile``, of its `id` and of its `signature`; `place` is `dir`, `whose` is `name`.
    """
    file = object.__new__(DueFile)
    vars(file).update(
        id=tuple.__new__(FileId, (folder, name)), rel=rel,
        signature=tuple.__new__(Signature, (size, mtime_ns, ctime_ns, inode)), dir=place, leaf=leaf, dest=dest,
        digest=digest, attempts=attempts, due_at=due_at, growth=_GROWTHS[growth], version=version, ask=ask, role=role,
        told=told, name=_WHOSE[whose], strange=strange, past=past,
    )  # fmt: skip
    return file


def past_of(sends: int, sent_bytes: int, last: float | None) -> Past:
    """What was sent of a file; one object for all of which nothing was, since that is what most of a job is."""
    return Past(sends, sent_bytes, last) if sends or sent_bytes or last is not None else NOTHING_SENT


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder and its MLflow run.

    Attributes:
        identity: ``artifactd.key`` for a run of our own, ``run:<id>`` for an adopted one.
        settings: What artifactd.toml said, as JSON; ``applied`` is what the server was told of it.
        status: As last told to MLflow by us ("" before the run exists).
    """

    id: int
    root: int
    root_path: bytes
    folder: bytes
    target: str
    identity: str
    experiment: str
    name: str
    tags: dict[str, str]
    settings: dict[str, Any]
    settings_text: str
    applied: str
    run_id: str | None
    status: str
    kind: str | None
    error: str | None
    cure: str | None
    attempts: int
    next_try: float


END_REFUSED = "UNKNOWN"
"""The status of a run that the server would not end: a retry asks for it again."""


@dataclass(frozen=True, slots=True)
class Blockage:
    """Why a target (or a run) is not tried now, and when it is."""

    kind: str
    error: str
    cure: str
    attempts: int
    next_try: float

    @property
    def again(self) -> float | None:
        """When it is tried again, unix seconds; None when somebody has to act first."""
        return None if self.kind == Kind.PERMANENT else self.next_try

    @property
    def next_step(self) -> str:
        """What a person can do."""
        return then_retry(self.cure) if self.again is None else self.cure


@dataclass(frozen=True, slots=True)
class Held:
    """What is held back, in short.

    Attributes:
        number: How many runs; 1 for a target.
        run: The absolute folder of the first of them; None for a target.
        kind: How the error is treated.
        error: Why; of the first run.
    """

    number: int
    run: bytes | None
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class WatchView:
    """A watched folder as the service last saw it."""

    path: bytes
    mode: str
    healthy: bool
    detail: str

    @property
    def next_step(self) -> str:
        """What a person can do about one that is not healthy."""
        if self.mode == "waiting":
            return "Mount or make the folder, or see to its rights; nothing that was noted is forgotten meanwhile"
        return 'Files are still found, by scans alone. If these are enough, write mode = "scan" for this folder'


@dataclass(frozen=True, slots=True)
class FileView:
    """One file as ``explain`` and the failure list show it.

    `artifact_path` is that of its last version where versions are kept, `first_path` that of the first; `blockage`
    concerns its run alone when `run_is_blocked`, else all that goes to its target. `told_as` is the role in which its
    run was told what it says, last at `told_at` (unix seconds). `role` is that of now, `told` the mark of it.
    """

    id: FileId
    run_row: int | None
    path: bytes
    state: State
    size: int
    signature: Signature
    experiment: str | None
    run: str | None
    run_id: str | None
    target: str | None
    artifact_path: str | None
    digest: bytes | None
    stored_size: int | None
    stored_at: float | None
    due_at: float | None
    attempts: int
    kind: str | None
    error: str | None
    cure: str | None
    blockage: Blockage | None
    run_is_blocked: bool = False
    first_path: str | None = None
    told_as: str | None = None
    told_at: float | None = None
    role: str = ""
    told: bytes | None = None

    @property
    def needs_retry(self) -> bool:
        """Whether ``artifactd retry`` has it tried again; what stands in the way of others is for scans to see."""
        return self.state is State.FAILED and self.run_row is not None and self.kind != CLASH

    @property
    def next_step(self) -> str:
        """What a person can do; empty when waiting is all there is."""
        return then_retry(self.cure or "") if self.needs_retry else self.cure or ""


@dataclass(frozen=True, slots=True)
class Runaway:
    """A file that is rewritten without end, so that its uploads are spaced out.

    Attributes:
        path: Absolute.
        sends: Uploads in a row.
        sent_bytes: Bytes of all its uploads.
        due_at: When its content of now may be sent, unix seconds; None if it is stored.
    """

    path: bytes
    sends: int
    sent_bytes: int
    due_at: float | None


@dataclass(frozen=True, slots=True)
class VersionView:
    """One content that a file had, where versions are kept.

    Attributes:
        path: The file, absolute.
        number: From 1 on.
        artifact_path: Its own in the run.
        size: Bytes.
        digest: SHA-256.
        stored_at: Unix seconds.
    """

    path: bytes
    number: int
    artifact_path: str
    size: int
    digest: bytes
    stored_at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The numbers of ``status``; bytes count since the ledger was made."""

    states: dict[State, int] = field(default_factory=dict)
    pending_bytes: int = 0
    stored_bytes: int = 0
    oldest_due: float | None = None
    bytes_sent: int = 0
    bytes_unique: int = 0
    largest_due: int = 0
