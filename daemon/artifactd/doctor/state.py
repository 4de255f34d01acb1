"""The state folder: rights, filesystem, space; the ledger in it, and what that says of deliveries."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from artifactd import installation
from artifactd.config import Config
from artifactd.doctor import words
from artifactd.doctor.disk import quoted
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.doctor.surroundings import Surroundings, may, user
from artifactd.errors import ArtifactdError
from artifactd.ledger import LedgerError, Report, State
from artifactd.ledger.schema import FILE_NAME, VERSION, written_version
from artifactd.settings import refuse_moved_store
from artifactd.text import printable
from artifactd.watching.mounts import distrust, mount_of

_PER_FILE = 200
"""Bytes that a stored file takes in the ledger, with a name of 60."""
_COPIES = 2
"""A ledger that is brought forward is there twice for a while, so what is free is shared out by twice the size."""
_FLOOR = 64 * 2**20
"""Bytes for the log of changes that SQLite keeps beside the ledger, and for a start."""

_FLEETING = {
    "tmpfs": "memory, and empty after a boot",
    "ramfs": "memory, and empty after a boot",
    "overlay": "a container's own layer, which goes with the container",
}
_GONE = (
    "Set state_dir to a folder that stays (a disk, a volume): what runs hold is otherwise asked of the store again, "
    "file by file"
)
_HELD_SHOWN = 5
_LOOKED_AT = 20_000
"""Files whose owner is looked at, the state folder's own first."""


def state_folder(folder: Path, around: Surroundings) -> Iterator[Finding]:
    """Whether the state folder can be worked with, who else can look into it, and what it lies on."""
    what = f"state folder {printable(os.fsencode(folder))}"
    name = user(around.uid)
    if not os.path.lexists(folder):
        above = next(parent for parent in folder.parents if parent.exists())
        if above.is_dir() and may(above, os.W_OK | os.X_OK):
            yield ok(what, "it is not there yet: the start makes it")
        else:
            yield wrong(
                what, f"it is not there, and {name} may not make it in {printable(os.fsencode(above))}",
                f"install -d -m 700 -o {name} {quoted(folder)}  # as root; or set state_dir",
            )  # fmt: skip
        return
    if not folder.is_dir():
        yield wrong(what, "it is no folder", f"Move {quoted(folder)} away, or set state_dir")
        return
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield wrong(what, "its filesystem is mounted read-only", "Mount it for writing, or set state_dir")
        return
    if not may(folder, os.R_OK | os.W_OK | os.X_OK):
        yield wrong(
            what,
            f"{name} may not work in it",
            f"chown -R {name} {quoted(folder)}  # as root; or run this as the service's user",
        )
        return
    yield from _on(what, folder)
    yield from _of_others(what, folder, around)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield notice(
            what, "other users can look into it: names of files and runs, digests, the embedded store",
            f"chmod 700 {quoted(folder)}",
        )  # fmt: skip


def _of_others(what: str, folder: Path, around: Surroundings) -> Iterator[Finding]:
    """What the owner of the folder may not be able to open: older versions left root's files there."""
    owner = folder.stat().st_uid
    if owner == 0:
        return  # a volume of root's, where the service works by its group
    for path in islice(_ours(folder), _LOOKED_AT):
        with contextlib.suppress(OSError):  # it is gone again
            uid = path.lstat().st_uid
            if uid not in (owner, around.uid or owner):
                cure = f"chown -R {user(owner)}: {quoted(folder)}  # as root"
                yield wrong(
                    what, f"{printable(bytes(path))} belongs to {user(uid)}, and the folder to {user(owner)}: a service"
                    " that may not open it is kept from its work", cure,
                )  # fmt: skip
                return


def _ours(folder: Path) -> Iterator[Path]:
    """What stands in the state folder, without its hidden files: those of a home are the administrator's."""
    for here, folders, files in os.walk(folder):
        if here == os.fspath(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in (*files, *folders) if not name.startswith("."))


def _on(what: str, folder: Path) -> Iterator[Finding]:
    fstype = mount_of(os.fsencode(folder)).fstype
    reason = distrust(fstype)
    if reason is not None:
        yield wrong(
            what, f"it lies on {fstype}, which several hosts may write to: SQLite's ledger needs the memory and the "
            "locks of one host", "Set state_dir to a folder on a disk of this host",
        )  # fmt: skip
    elif fstype in _FLEETING:
        yield notice(what, f"it lies on {fstype}: {_FLEETING[fstype]}", _GONE)
    else:
        yield ok(what, fstype or "unknown filesystem")


def space(folder: Path, files: int | None) -> Iterator[Finding]:
    """Whether there is room for the ledger.

    Args:
        folder: The state folder.
        files: Files that the ledger knows; None where there is none yet.
    """
    place = next(above for above in (folder, *folder.parents) if above.exists())
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    need = _FLOOR + _COPIES * _PER_FILE * (files or 0)
    if free < need:
        yield wrong(
            "space for the ledger", f"{words.size(free)} are free, and {words.size(need)} are needed: without them the "
            "service ends, and starts when there is space", "Make room there, or set state_dir to a larger disk",
        )  # fmt: skip
        return
    more = (free - need) // (_COPIES * _PER_FILE)
    known = "" if files is None else f"{files:,} {'file is' if files == 1 else 'files are'} known, and "
    yield ok("space for the ledger", f"{words.size(free)} free: {known}there is room for {more:,} more files")


def ledger(folder: Path) -> Iterator[Finding]:
    """Whether this program can work with the ledger as it stands."""
    path = folder / FILE_NAME
    try:
        version = written_version(path)
    except LedgerError as exc:
        yield wrong("ledger", exc.problem, exc.cure)
        return
    if version is None:
        yield ok("ledger", "there is none yet")
        return
    size = sum(file.stat().st_size for file in (path, path.with_name(f"{FILE_NAME}-wal")) if file.exists())
    detail = f"schema {version}, {words.size(size)}"
    if version > VERSION:
        yield wrong(
            "ledger", f"{detail}: a newer artifactd wrote it, and this one knows {VERSION}",
            str(installation.here().newer("or give another --state-dir")),
        )  # fmt: skip
    elif version < VERSION:
        yield notice(
            "ledger", f"{detail}: the next start brings it to {VERSION}, some seconds for each 100,000 files",
            "systemctl restart artifactd  # at a time that suits you",
        )  # fmt: skip
    else:
        yield ok("ledger", detail)


def embedded_store(config: Config) -> Iterator[Finding]:
    """Whether the embedded store is where it was made."""
    try:
        refuse_moved_store(config)
    except ArtifactdError as exc:
        yield wrong("embedded store", exc.problem, exc.cure)


def deliveries(report: Report, *, in_use: bool) -> Iterator[Finding]:
    """What the ledger says of deliveries: files that failed, servers and runs that take nothing, watches in trouble.

    Args:
        report: The ledger.
        in_use: Whether a service works with it, so that what it said of its watches holds now.
    """
    failed = report.totals().states.get(State.FAILED, 0)
    held = report.blockages() | {printable(path): block for path, block in report.held_runs().items()}
    if failed:
        yield wrong(
            "deliveries", f"{failed:,} {'file' if failed == 1 else 'files'} failed, and time alone does not mend that",
            "artifactd status  # says why: see to that, and then `artifactd retry --all`",
        )  # fmt: skip
    for name, block in list(held.items())[:_HELD_SHOWN]:
        yield notice(
            "deliveries", f"{name} takes nothing now: {block.error}",
            block.cure or "artifactd status  # it is tried again by itself, and this says when",
        )  # fmt: skip
    if not failed and not held:
        yield ok("deliveries", "no file failed, and nothing is held back")
    for watch in report.watches() if in_use else ():
        if not watch.healthy:
            what = f"watched folder {printable(watch.path)}"
            yield notice(what, f"the service says: {watch.detail}", watch.next_step)
