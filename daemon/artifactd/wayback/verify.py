"""The ledger against the store: does it still hold what was stored, with that size, and that content?

What it does not hold is written down as failed, with an empty receipt: `artifactd retry` then sends it again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.ledger import FileView, Report, State
from artifactd.wayback.fetch import Fetcher, Moved
from artifactd.wayback.find import Found
from artifactd.wayback.shelf import Shelf

_SEND_AGAIN = "`artifactd retry` sends it again"
_GONE_TOO = "Its file is gone from the folder too: put it back, and it is sent again"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not in the store as it should be.

    Attributes:
        run: The run, as people know it.
        path: The file, or the run folder when the run as a whole is meant.
        artifact_path: None when the run as a whole is meant.
        error: What the store holds instead.
        cure: What to do.
        again: ``artifactd retry`` sends it.
    """

    run: str
    path: bytes
    artifact_path: str | None
    error: str
    cure: str
    again: bool = False


@dataclass(slots=True)
class Verified:
    """What was compared, and what was found."""

    runs: int = 0
    files: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify(
    shelf: Shelf, report: Report, runs: Sequence[Found], *, deep: bool, show: Callable[[Moved], None] = lambda _: None
) -> Verified:
    """Compare what the ledger says with what the store lists; files that are due or failed are left out.

    Args:
        shelf: The store.
        report: The ledger.
        runs: Which runs.
        deep: Download everything and compare the content too.
        show: Called several times a second.

    Raises:
        DeliveryError: The server or the store cannot be asked.
    """
    verified = Verified(runs=len(runs))
    moved = Moved()
    with contextlib.ExitStack() as stack:
        fetcher = stack.enter_context(Fetcher()) if deep else None
        for run in runs:
            # Read before the store is asked: what is stored meanwhile is more than was read, never less.
            files = [file for file in run.files(report) if file.state is State.STORED and file.digest is not None]
            moved.of_files += len(files)
            moved.of_bytes += sum(file.stored_size or 0 for file in files)
            try:
                wrong = list(_compare(shelf, run, files, fetcher, moved, show))
            except DeliveryError as exc:
                if exc.failure.kind is not Kind.PERMANENT or exc.failure.scope is not Scope.RUN:
                    raise
                if shelf.exists(run.run_id):  # deleted, which can be undone
                    folder = run.views[0].folder if run.views else b""
                    verified.findings.append(Finding(run.title, folder, None, exc.failure.error, exc.failure.cure))
                    continue
                wrong = [(file, exc.failure.error) for file in files]
            verified.files += len(files)
            verified.bytes += sum(file.stored_size or 0 for file in files)
            verified.findings += _written_down(report, run, wrong)
    return verified


def _compare(
    shelf: Shelf,
    run: Found,
    files: Sequence[FileView],
    fetcher: Fetcher | None,
    moved: Moved,
    show: Callable[[Moved], None],
) -> Iterator[tuple[FileView, str]]:
    listed = dict(shelf.artifacts(run.run_id).tree()) if files else {}
    for file in files:
        path = file.artifact_path or ""
        size = listed.get(path)
        before = moved.bytes
        if size is None:
            yield file, "missing in the store"
        elif size != file.stored_size:
            yield file, f"the store holds {size} bytes instead of {file.stored_size}"
        elif fetcher is not None:

            def so_far(count: int, before: int = before) -> None:
                moved.bytes = before + count
                show(moved)

            fetched = fetcher.fetch(shelf.artifacts(run.run_id), path, size, so_far)
            if fetched.digest != file.digest:
                yield file, "the store holds another content of the same size"
        moved.bytes = before + (file.stored_size or 0)
        moved.files += 1
        show(moved)


def _written_down(report: Report, run: Found, wrong: Sequence[tuple[FileView, str]]) -> Iterator[Finding]:
    for file, error in wrong:
        here = os.path.lexists(file.path)
        cure = _SEND_AGAIN if here else _GONE_TOO
        if report.lost(file, error, cure, on_disk=here):
            yield Finding(run.title, file.path, file.artifact_path, error, cure, again=here)
