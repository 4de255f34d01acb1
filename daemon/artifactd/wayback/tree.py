"""Restores run folders: the files under the names, with the times and modes that they had, and empty folders.

What a run's manifest does not say is taken from the ledger, or from the artifacts' names, and it is said what is not
known so. The folder gets a note of which run it is, before anything else: a service that watches it then sends nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artifactd import manifest
from artifactd.errors import ArtifactdError
from artifactd.ledger import State
from artifactd.manifest import Manifest, ManifestError, is_manifest
from artifactd.names import RUN_NOTE
from artifactd.paths import join, within
from artifactd.runfolder import MARKERS, noted_run_id
from artifactd.watching.inside import open_folder, open_root
from artifactd.wayback.fetch import Moved
from artifactd.wayback.find import Found
from artifactd.wayback.pull import Problem, Pulled, RefusedError, Wanted, bring, folder_at, own_path
from artifactd.wayback.shelf import Entry, Shelf


@dataclass(slots=True)
class Restored:
    """What a restore came to: files and problems, folders that were made or mended, and what could not be known."""

    pulled: Pulled = field(default_factory=Pulled)
    folders: int = 0
    remarks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    """What one run folder shall hold."""

    wanted: list[Wanted] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    folders: list[manifest.Folder] = field(default_factory=list)


def restore(
    shelf: Shelf,
    found: Sequence[tuple[Found, Sequence[Entry]]],
    dest: Path,
    *,
    force: bool,
    show: Callable[[Moved], None] = lambda _: None,
) -> Restored:
    """Restore run folders below `dest`; of a single run, `dest` becomes its folder.

    Args:
        shelf: The server.
        found: Runs with all their entries.
        dest: A folder, made if it is not there.
        force: Replace files that are there with another content.
        show: Called several times a second.

    Raises:
        ArtifactdError: A manifest cannot be used, or the folder is another run's.
        DeliveryError: The server or the store cannot be asked.
        OSError: The destination cannot be written to.
    """
    restored = Restored()
    plans = [(run, _plan(shelf, run, entries, restored.remarks)) for run, entries in found]
    dest.mkdir(parents=True, exist_ok=True)
    root = open_root(os.fsencode(dest))
    try:
        for run, _ in plans:
            _note(root, run, dest, shelf.manifests(run.run_id))
        # Markers come last: whoever looks meanwhile finds a run that is still going on.
        wanted = sorted((w for _, plan in plans for w in plan.wanted), key=lambda w: os.path.basename(w.rel) in MARKERS)
        restored.pulled = bring(wanted, dest, force=force, show=show)
        restored.pulled.problems += [problem for _, plan in plans for problem in plan.problems]
        for run, plan in plans:
            restored.folders += _folders(root, run.place, plan.folders, restored.pulled.problems)
    finally:
        os.close(root)
    return restored


def _plan(shelf: Shelf, run: Found, entries: Sequence[Entry], remarks: list[str]) -> _Plan:
    try:
        manifests = shelf.manifests(run.run_id)
    except ManifestError as exc:
        raise ArtifactdError(
            f"{run.title}: {exc}", "Without --tree its artifacts come under their names; or upgrade artifactd"
        ) from exc
    plan = _Plan()
    guessed = foreign = 0
    versions = {v.artifact_path for one in manifests for file in one.files for v in file.versions}
    gone = {file.artifact_path for one in manifests for file in one.files if file.gone}
    for entry in entries:
        if is_manifest(entry.artifact_path):
            continue
        placed = _placed(entry)
        if placed is not None and entry.artifact_path not in gone:
            plan.wanted.append(placed)
        elif placed is None and manifests:
            foreign += entry.artifact_path not in versions
        elif placed is None:
            guessed += 1
            try:
                plan.wanted.append(Wanted(entry, join(run.place, own_path(entry.artifact_path))))
            except RefusedError as exc:
                plan.problems.append(Problem(entry.artifact_path, str(exc), exc.cure))
    plan.problems += _missing(manifests, {entry.artifact_path for entry in entries})
    plan.folders = [folder for one in manifests for folder in one.folders]
    remarks += [f"{run.title}: {text}" for text in _remarks(manifests, guessed, foreign, len(gone))]
    return plan


def _placed(entry: Entry) -> Wanted | None:
    """Where the manifest or the ledger says that the file was; None where neither knows it."""
    record, file = entry.record, entry.file
    mode = None if record is None else record.mode
    mtime_ns = None if record is None else record.mtime_ns
    path = None if record is None else record.path
    if file is not None and file.state is State.STORED:
        mtime_ns = file.signature.mtime_ns  # the ledger is the younger witness
        folder = next((v.folder for v in entry.run.views if within(file.path, v.folder)), None)
        if path is None and folder is not None:
            path = file.path[len(folder.rstrip(b"/")) + 1 :]
    return None if path is None else Wanted(entry, join(entry.run.place, path), mode, mtime_ns)


def _missing(manifests: Iterable[Manifest], listed: set[str]) -> list[Problem]:
    return [
        Problem(
            file.artifact_path,
            "the run's manifest names it, and the store does not list it",
            "`artifactd verify` on the host that sent it finds it, and `artifactd retry` sends it again",
        )
        for one in manifests
        for file in one.files
        if not file.gone and file.artifact_path not in listed
    ]


def _remarks(manifests: Sequence[Manifest], guessed: int, foreign: int, gone: int) -> Iterable[str]:
    if not manifests:
        yield "it has no manifest, which is written at a run's end: modes and empty folders are not known"
    if guessed:
        yield f"of {guessed:,} of its files, times are not known, and names only as far as artifact paths say them"
    if foreign:
        yield f"{foreign:,} of its artifacts are not from the folder, and left out: pull without --tree brings them"
    if gone:
        yield f"{gone:,} of its files were gone from the folder at its end, and are left out likewise"


def _note(root: int, run: Found, dest: Path, manifests: Sequence[Manifest]) -> None:
    """Write down in the folder which run it is, unless it is the very folder that the run came from."""
    here = os.path.realpath(os.path.join(os.fsencode(dest), run.place))
    origins = {os.path.realpath(join(m.watch, m.folder)) for m in manifests if m.host == socket.gethostname()}
    if here in origins or any(here == os.path.realpath(view.folder) for view in run.views):
        return
    folder = _folder(root, run.place)
    try:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(RUN_NOTE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o644, dir_fd=folder)
        except FileExistsError:
            fd = os.open(RUN_NOTE, os.O_RDONLY | flags, dir_fd=folder)
            with open(fd, "rb") as stream:
                if noted_run_id(stream.read(100)) != run.run_id:
                    raise ArtifactdError(
                        f"{os.fsdecode(here)} is the folder of another run: its {RUN_NOTE.decode()} says so",
                        "Give another destination",
                    ) from None
            return
        with open(fd, "wb") as stream:
            stream.write(run.run_id.encode() + b"\n")
    finally:
        os.close(folder)


def _folder(root: int, rel: bytes) -> int:
    try:
        return folder_at(root, rel)
    except RefusedError as exc:
        raise ArtifactdError(str(exc), exc.cure) from exc


def _folders(root: int, place: bytes, folders: Sequence[manifest.Folder], problems: list[Problem]) -> int:
    """Make folders, and give all of them their modes and times, the deepest first: each is touched by what is in it."""
    made = 0
    for folder in sorted(folders, key=lambda f: f.path):
        try:
            os.close(folder_at(root, join(place, folder.path)))
            made += 1
        except RefusedError as exc:
            problems.append(Problem(os.fsdecode(folder.path), str(exc), exc.cure))
    for folder in sorted(folders, key=lambda f: f.path.count(b"/") if f.path else -1, reverse=True):
        with contextlib.suppress(OSError):
            fd = open_folder(root, join(place, folder.path))
            try:
                os.fchmod(fd, folder.mode)
                os.utime(fd, ns=(folder.mtime_ns, folder.mtime_ns))
            finally:
                os.close(fd)
    return made
