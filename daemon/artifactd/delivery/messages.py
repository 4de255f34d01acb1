"""What the service and its workers say to each other: frozen data, sent pickled over a private socket pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artifactd.errors import Failure
from artifactd.layout import Layout
from artifactd.ledger.rows import DueFile
from artifactd.registration import NOWHERE, Registration
from artifactd.runfolder import End
from artifactd.tracking.runs import RunSpec
from artifactd.tracking.told import Told
from artifactd.watching.signature import Signature


@dataclass(frozen=True, slots=True)
class Target:
    """Where runs live: the tracking server, and the embedded store's artifact folder where there is one."""

    uri: str
    embedded_artifacts: Path | None = None


@dataclass(frozen=True, slots=True)
class PrepareRun:
    """Find or create a run; `settings` is the ledger's text of what the server is told."""

    target: Target
    run: int
    spec: RunSpec
    settings: str = ""


@dataclass(frozen=True, slots=True)
class EndRun:
    """Set a run's final status, or open it again; `fleet` says that other hosts do so, too."""

    target: Target
    run: int
    run_id: str
    end: End
    fleet: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """A watched root.

    Attributes:
        path: Absolute.
        identity: Device and inode of the folder that is meant; another one in its place is not delivered from. None
            for any.
        leases: Whether the lease probe means something on its filesystem.
    """

    path: bytes
    identity: tuple[int, int] | None
    leases: bool


@dataclass(frozen=True, slots=True)
class Describe:
    """Put the manifest of a run into it, unless one that says the same is there.

    Attributes:
        folder: The run folder, relative to the root.
        ledger: Its file, with the receipts of the row `run`.
        changes: How many receipts that row had.
        layout: Says which folders are left out.
        removes: Files that are gone from disk were removed by artifactd.
        fleet: Other hosts put theirs beside it.
    """

    target: Target
    run: int
    run_id: str
    root: Root
    folder: bytes
    ledger: Path
    changes: int
    experiment: str
    name: str
    layout: Layout
    removes: bool = False
    fleet: bool = False


@dataclass(frozen=True, slots=True)
class AskRun:
    """Ask how a run stands, and change nothing."""

    target: Target
    run: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Deliver files of one run; up to `abreast` small ones at a time, where the store takes several."""

    target: Target
    run: int
    run_id: str
    root: Root
    files: tuple[DueFile, ...]
    abreast: int = 1


@dataclass(frozen=True, slots=True)
class DeliverModel(Deliver):
    """Deliver one model: `files` are all that it has.

    Attributes:
        folder: Relative to the watched root.
        path: The folder's artifact path in the run, for people.
        name: The logged model's.
        registration: What becomes of it in the registry.
    """

    folder: bytes = b""
    path: str = ""
    name: str = ""
    registration: Registration = NOWHERE


Job = PrepareRun | EndRun | Describe | AskRun | Deliver


@dataclass(frozen=True, slots=True)
class RunReady:
    """The run exists, with this status; `found` says that it was there before it was asked for."""

    run_id: str
    status: str
    found: bool = False
    experiment_id: str = ""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run has this status on the server."""

    status: str


@dataclass(frozen=True, slots=True)
class Described:
    """The store has the run's manifest, under this artifact path; `sent` bytes went out for it, 0 if it was there."""

    artifact_path: str
    sent: int


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job as a whole could not be done: nothing of it, or nothing more of it, was tried."""

    failure: Failure


@dataclass(frozen=True)  # with slots, pickling takes three times as long (3.11)
class Stored:
    """The store lists the file with its size, and it did not change meanwhile.

    Attributes:
        file: As it was sent: where versions are kept, perhaps under a later number than it was claimed with.
        digest: SHA-256 of the content.
        size: Its bytes: those of the file, or of a snapshot's part of it.
        sent: Bytes that went over the wire; None when the store had this content already.
        seconds: From opening the file to the store's word for it.
        told: What came of telling the run what it says; None where nothing was told.
    """

    file: DueFile
    digest: bytes
    size: int
    sent: int | None
    seconds: float
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """The run was told what a growing file says so far; nothing was sent."""

    file: DueFile
    told: Told


@dataclass(frozen=True, slots=True)
class NotAtRest:
    """Look again: the file changed, is being written, or is gone.

    Attributes:
        signature: As seen last; None when it is gone.
        reason: For people; what it waits for.
        sent: Bytes sent for nothing, also when the upload was complete but the file changed under it.
    """

    file: DueFile
    signature: Signature | None
    reason: str
    sent: int


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """The try failed. `sent` as in ``NotAtRest``; `touched` says that the store may hold something else now."""

    file: DueFile
    failure: Failure
    sent: int
    touched: bool


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing stands under the file's name in its run. It may be sent once that is written down."""

    file: DueFile


Result = Stored | NotAtRest | NotDelivered | Heard | Free


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Results of a part of a ``Deliver`` job."""

    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A ``Deliver`` job is over; files without a result were not tried.

    Attributes:
        listing: The part of its time, 0 to 1, that the store's listings took.
    """

    listing: float = 0.0


Answer = RunReady | RunEnded | Described | JobFailed | Outcomes | Finished


@dataclass(frozen=True, slots=True)
class Wrap:
    """From the service to a worker: finish the file in hand, report, and take no more."""
