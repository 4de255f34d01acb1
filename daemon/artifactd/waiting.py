"""Whether all of a folder is stored, by the disk and the ledger: what a notebook waits for beside a running service."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from artifactd.delivery import birth
from artifactd.doctor.host import pid_in
from artifactd.errors import Kind, Unstored
from artifactd.explain import Watch, wait_of
from artifactd.layout import Destination
from artifactd.ledger import FileView, LedgerError, Report, State
from artifactd.ledger.report import holder
from artifactd.paths import join, within
from artifactd.runfolder import MARKERS
from artifactd.text import printable
from artifactd.watching.inside import open_root
from artifactd.watching.remove import ASIDE
from artifactd.watching.scan import walk
from artifactd.watching.signature import Signature

END_WITHIN = 10.0
"""Seconds in which a run whose files are all stored should have been told its end; not every run is told."""

GONE_FOR = 10.0
"""Seconds without a service after which nobody is expected to deliver: one that crashed is started again sooner."""

_EVERY = 0.1
_SERVICE = "artifactd run"
"""As ``service`` names itself; the others deliver only what they were asked to."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a folder stands.

    Attributes:
        stored: Files that are stored as they are on disk, or were and are gone from it.
        stored_bytes: Their bytes in the store.
        left: What waits, and for what.
        failed: What failed, and why.
        uploading: Whether an upload is under way.
        ending: Whether a run that has all its files is still to be told its end.
        unreachable: All that is left waits for a server that cannot be reached.
    """

    stored: int
    stored_bytes: int
    left: tuple[Unstored, ...]
    failed: tuple[Unstored, ...]
    uploading: bool
    ending: bool
    unreachable: bool

    @property
    def exit_code(self) -> int:
        """The contract's: 0 all stored, 75 when what is left waits for a server that can't be reached, 3 otherwise."""
        if not self.left and not self.failed:
            return 0
        return 75 if self.unreachable else 3


def look(state_dir: Path, watch: Watch, path: bytes) -> Look:
    """Compare a folder with the ledger.

    Args:
        state_dir: Where the ledger is, if there is one.
        watch: The watch that holds the folder.
        path: The folder, absolute, as the watch names it.
    """
    known, ending = _known(state_dir, path)
    now = time.time()
    left: list[Unstored] = []
    failed = [_failed(view) for view in known.values() if view.state is State.FAILED]
    stored = [view for view in known.values() if view.state is State.STORED]
    ended = False
    for file, signature in _on_disk(watch, path):
        view = known.get(file)
        ended = ended or os.path.basename(file) in MARKERS
        if view is not None and (
            view.state is State.FAILED or (view.state is State.STORED and view.signature == signature)
        ):
            continue
        left.append(_waiting(file, view, watch.settle, now))
    unreachable = bool(left) and not failed and all(f.kind == Kind.TRANSIENT and f.held for f in left)
    return Look(
        len(stored), sum(view.stored_size or 0 for view in stored), tuple(left), tuple(failed),
        any(view.state is State.UPLOADING for view in known.values()), ended and ending, unreachable,
    )  # fmt: skip


def service_at(state_dir: Path, deadline: float | None) -> str | None:
    """The service that works with a state folder; a pass of another command is waited for, up to `deadline` seconds.

    Returns:
        What holds the folder, as it names itself; None when nothing does.
    """
    begun = time.monotonic()
    while True:
        name = holder(state_dir)
        late = deadline is not None and time.monotonic() - begun >= deadline
        if name is None or name.startswith(_SERVICE) or late:
            return name
        time.sleep(_EVERY)


def until_stored(
    state_dir: Path,
    watch: Watch,
    path: bytes,
    *,
    deadline: float | None,
    patience: float | None = None,
    despite_failures: bool = False,
    show: Callable[[Look], None] = lambda _: None,
) -> Look:
    """Wait until a service has stored all of a folder.

    Args:
        state_dir: As for ``look``.
        watch: As for ``look``.
        path: As for ``look``.
        deadline: Most seconds to wait; None for no limit.
        patience: Seconds without a file stored or an upload under way after which it ends; more where the delivery
            process still comes up, as on a container's share of a processor it may do for a while.
        despite_failures: Wait for the others when a file failed.
        show: Called with each look.

    Returns:
        The last look: the caller sees whether anything is left.
    """
    begun = moved_at = served_at = time.monotonic()
    stored_at: float | None = None
    last = (-1, -1)
    grown = 0.0
    while True:
        at = time.monotonic()
        now = look(state_dir, watch, path)
        show(now)
        after = time.monotonic()
        if holder(state_dir) is not None:
            served_at = after
        if now.uploading or (now.stored, len(now.left)) != last:
            moved_at, last = after, (now.stored, len(now.left))
        if patience is not None and after - moved_at > patience and (more := _coming_up(state_dir)) > grown:
            moved_at, grown = after, more
        if not now.left:
            stored_at = stored_at or after
            if now.failed or not now.ending or after - stored_at > END_WITHIN:
                return now
        else:
            stored_at = None
        if (
            (now.failed and not despite_failures)
            or (deadline is not None and after - begun >= deadline)
            or (patience is not None and after - moved_at > patience)
            or after - served_at > GONE_FOR
        ):
            return now
        time.sleep(max(_EVERY, 4 * (after - at)))  # big folders take long to look at


def _coming_up(state_dir: Path) -> float:
    """Seconds of the processor's time that a delivery process has taken which does not deliver yet."""
    pid = pid_in(holder(state_dir) or "")
    return 0.0 if pid is None else birth.taken(pid)


def _known(state_dir: Path, path: bytes) -> tuple[dict[bytes, FileView], bool]:
    """What the ledger knows of the folder's files, and whether a run there is under way."""
    try:
        report = Report(state_dir)
    except LedgerError:
        if (state_dir / "ledger.db").exists():
            raise
        return {}, False
    try:
        with report.snapshot():
            files = {view.path: view for view in report.files(below=path)}
            runs = [run for run in report.runs_at(path) if within(run.folder, path)]
    finally:
        report.close()
    return files, any(run.status == "RUNNING" and run.error is None and not run.kept for run in runs)


def _on_disk(watch: Watch, path: bytes) -> list[tuple[bytes, Signature]]:
    """The files that the rules deliver."""
    rel = path[len(watch.path) :].strip(b"/")
    found: list[tuple[bytes, Signature]] = []
    try:
        root = open_root(watch.path)
    except OSError:
        return found
    try:
        for listing in walk(root, rel, skip=lambda below: watch.layout.excluded_folder(below) is not None):
            for name, signature in listing.files.items():
                file = join(listing.rel, name)
                if not name.startswith(ASIDE) and isinstance(watch.layout.place(file), Destination):
                    found.append((join(watch.path, file), signature))
    finally:
        os.close(root)
    return found


def _failed(view: FileView) -> Unstored:
    return Unstored(printable(view.path), "it failed", view.error or "", view.next_step, view.kind)


def _waiting(path: bytes, view: FileView | None, settle: float, now: float) -> Unstored:
    if view is None or view.state is State.IGNORED:
        return Unstored(printable(path), "a look: it was not seen yet")
    if view.state is State.STORED:
        return Unstored(printable(path), "a look: it changed since it was stored")
    wait = wait_of(view, settle, now)
    held = view.blockage is not None and not view.run_is_blocked
    return Unstored(printable(path), wait.reason, wait.error, wait.cure, wait.kind, wait.until, held)
