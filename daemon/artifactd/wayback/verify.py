"""Does the store still hold what was stored, with that size, and that content?

The ledger says what was; of a run that it knows nothing of, the run's manifest does. What the store does not hold is
written down in the ledger as failed, with an empty receipt: `artifactd retry` then sends it again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from artifactd.aside import each
from artifactd.errors import ArtifactdError, DeliveryError, Kind, Scope
from artifactd.ledger import FileView, Report, State
from artifactd.manifest import ManifestError
from artifactd.wayback.fetch import Fetcher, Moved
from artifactd.wayback.find import Found
from artifactd.wayback.shelf import Held, Shelf

_SEND_AGAIN = "`artifactd retry` sends it again"
_ELSEWHERE = "Run `artifactd verify` on the host that sent it: `artifactd retry` then sends it again from there"
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
    shelf: Shelf,
    report: Report | None,
    runs: Sequence[Found],
    *,
    deep: bool,
    show: Callable[[Moved], None] = lambda _: None,
) -> Verified:
    """Compare what the ledger, or the manifest, says with what the store lists.

    Files that are due or failed are left out.

    Args:
        shelf: The store.
        report: The ledger, None when there is none.
        runs: Which runs.
        deep: Download everything and compare the content too.
        show: Called several times a second.

    Raises:
        DeliveryError: The server or the store cannot be asked.
        ArtifactdError: Of a run, neither the ledger nor a manifest says anything.
    """
    verified = Verified(runs=len(runs))
    moved = Moved()
    with contextlib.ExitStack() as stack:
        fetcher = stack.enter_context(Fetcher()) if deep else None
        for run in runs:
            # Read before the store is asked: what is stored meanwhile is more than was read, never less.
            files = _by_ledger(run, report) if run.views else _by_manifest(run, shelf)
            moved.of_files += len(files)
            moved.of_bytes += sum(file.size for file in files)
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
            verified.bytes += sum(file.size for file in files)
            verified.findings += _written_down(report, run, wrong)
    return verified


@dataclass(frozen=True, slots=True)
class _Expected:
    """What was stored, and the row that says so (None: the manifest does, with this `path`)."""

    artifact_path: str
    size: int
    digest: bytes
    path: bytes
    file: FileView | None = None


def _by_ledger(run: Found, report: Report | None) -> list[_Expected]:
    return [
        _Expected(file.artifact_path or "", file.stored_size or 0, file.digest, file.path, file)
        for file in run.files(report)
        if file.state is State.STORED and file.digest is not None
    ]


def _by_manifest(run: Found, shelf: Shelf) -> list[_Expected]:
    try:
        manifests = shelf.manifests(run.run_id)
    except ManifestError as exc:
        raise ArtifactdError(f"run {run.run_id}: {exc}", "Ask on the host that sent it, or upgrade artifactd") from exc
    if not manifests:
        raise ArtifactdError(
            f"the ledger knows nothing of run {run.run_id}, and it has no manifest, which is written at a run's end",
            "It can be listed (`artifactd ls`), but not compared with anything",
        )
    found = {
        path: _Expected(path, size, digest, os.fsencode(path))
        for m in manifests
        for path, size, digest in m.artifacts()
    }
    return list(found.values())


def _compare(
    shelf: Shelf,
    run: Found,
    files: Sequence[_Expected],
    fetcher: Fetcher | None,
    moved: Moved,
    show: Callable[[Moved], None],
) -> Iterator[tuple[_Expected, str]]:
    listed = shelf.listing(run.run_id) if files else {}
    for file in files:
        held = listed.get(file.artifact_path)
        before = moved.bytes
        if held is None:
            yield file, "missing in the store"
        elif held.size != file.size:
            yield file, f"the store holds {held.size} bytes instead of {file.size}"
        elif fetcher is not None:

            def look(fetcher: Fetcher = fetcher, before: int = before) -> None:
                moved.bytes = before + fetcher.under_way()
                show(moved)

            if _content(fetcher, held, look) != file.digest:
                yield file, "the store holds another content of the same size"
        moved.bytes = before + file.size
        moved.files += 1
        show(moved)


def _content(fetcher: Fetcher, held: Held, look: Callable[[], None]) -> bytes:
    came: list[bytes] = []

    def work(held: Held) -> None:
        fetched = fetcher.fetch(held)
        came.append(fetched.digest)
        fetched.path.unlink()

    each([held], work, width=1, look=look)
    return came[0]


def _written_down(report: Report | None, run: Found, wrong: Sequence[tuple[_Expected, str]]) -> Iterator[Finding]:
    for expected, error in wrong:
        if expected.file is None or report is None:
            yield Finding(run.title, expected.path, expected.artifact_path, error, _ELSEWHERE)
            continue
        here = os.path.lexists(expected.path)
        cure = _SEND_AGAIN if here else _GONE_TOO
        if report.lost(expected.file, error, cure, on_disk=here):
            yield Finding(run.title, expected.path, expected.artifact_path, error, cure, again=here)
