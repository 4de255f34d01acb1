"""The watched folders: whether they are there and can be read, on which filesystem, once only, and how big they are."""

from __future__ import annotations

import errno
import itertools
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifactd.config import WatchConfig, layout_of
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.doctor.surroundings import Surroundings, may, user
from artifactd.paths import join
from artifactd.text import printable
from artifactd.watching.claim import claimed_by
from artifactd.watching.inside import identity, open_root
from artifactd.watching.mounts import distrust, leases_work, mount_of
from artifactd.watching.scan import walk

_NAMED = 3
"""Folders that cannot be read which are named; of the others, the number."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A watched folder, counted.

    Attributes:
        path: The root, absolute.
        by_events: Whether it is watched by events.
        folders: Folders found, the root included.
        whole: Whether that is all of them; else the time was over.
        unreadable: Folders in it that cannot be looked at and that no rule leaves out, absolute.
    """

    path: bytes
    by_events: bool
    folders: int = 0
    whole: bool = True
    unreadable: tuple[bytes, ...] = ()


def survey(watches: Sequence[WatchConfig], seconds: float) -> list[Tree]:
    """Count the folders that are watched; those that are not there, or may not be entered, are left out.

    Args:
        watches: What is watched.
        seconds: The most that it may take, but for one huge folder or a disk that does not answer.
    """
    end = time.monotonic() + seconds
    trees = []
    for number, watch in enumerate(watches):
        now = time.monotonic()
        tree = _counted(watch, now + max(0.0, end - now) / (len(watches) - number))
        trees += [tree] if tree is not None else []
    return trees


def _counted(watch: WatchConfig, until: float) -> Tree | None:
    path = os.fsencode(watch.path)
    try:
        root_fd = open_root(path)
    except OSError:
        return None
    layout = layout_of(watch)
    folders, unreadable, whole = 0, list[bytes](), True
    try:
        for listing in walk(root_fd, folders_only=True):
            folders += not listing.gone
            if listing.unreadable and listing.rel and layout.excluded_folder(listing.rel) is None:
                unreadable.append(join(path, listing.rel))
            if time.monotonic() > until:
                whole = False
                break
    finally:
        os.close(root_fd)
    return Tree(path, _by_events(watch), folders, whole, tuple(unreadable))


def _by_events(watch: WatchConfig) -> bool:
    if watch.mode == "auto":
        return distrust(mount_of(os.fsencode(watch.path)).fstype) is None
    return watch.mode == "events"


# -- findings ----------------------------------------------------------------------------------------------------


def watched_folder(watch: WatchConfig, tree: Tree | None, around: Surroundings) -> Iterator[Finding]:
    """Whether a watched folder is there, can be read, and what its filesystem is good for."""
    what = f"watched folder {_shown(watch.path)}"
    place, name, who = quoted(watch.path), user(around.uid), shlex.quote(user(around.uid))
    try:
        os.stat(watch.path)
    except (FileNotFoundError, NotADirectoryError):
        yield wrong(what, "it is not there", f"mkdir -p {place}  # or mount it: the service waits for it")
        return
    except OSError as exc:
        yield wrong(what, f"{name} cannot reach it: {exc.strerror}", let_in(watch.path, around, exc))
        return
    if not may(watch.path, os.R_OK | os.X_OK):
        yield wrong(what, f"{name} may not read it", f"setfacl -m u:{who}:rx {place}  # or run it as who may")
        return
    yield _filesystem(what, watch)
    if tree is None or not tree.unreadable:
        return
    named = ", ".join(map(printable, tree.unreadable[:_NAMED]))
    more = f" and {len(tree.unreadable) - _NAMED:,} more" if len(tree.unreadable) > _NAMED else ""
    yield wrong(
        what, f"{name} may not read what is in {named}{more}",
        f"setfacl -R -m u:{who}:rX -m d:u:{who}:rX {_all(tree.unreadable)}  # or leave them out (exclude)",
    )  # fmt: skip


def let_in(path: Path, around: Surroundings, exc: OSError) -> str:
    """The line that lets who asks get at a path: a right on the first closed folder above it, else on itself."""
    if exc.errno != errno.EACCES:
        return each_part(path)
    name, real = user(around.uid), Path(os.path.realpath(path))
    through = let_through(path, name, lambda folder: may(folder, os.X_OK))
    return through or f"setfacl -m u:{shlex.quote(name)}:r {quoted(real)}"


def let_through(path: Path, name: str, enters: Callable[[Path], bool]) -> str | None:
    """The line that opens the first folder above a path that is closed to a user: what lies below it cannot be seen.

    Args:
        path: Links are followed.
        name: The user's.
        enters: Whether that user may enter a folder.

    Returns:
        None where none is closed.
    """
    real = Path(os.path.realpath(path))
    closed = next((folder for folder in reversed(real.parents) if not enters(folder)), None)
    if closed is None:
        return None
    again = "then `artifactd doctor` again: it sees what lies below"
    return f"setfacl -m u:{shlex.quote(name)}:x {quoted(closed)}  # {again}"


def each_part(path: Path) -> str:
    """The line that shows which part of a path is wrong."""
    return f"namei -l {quoted(path)}  # shows which part of it is wrong"


def _all(folders: Sequence[bytes]) -> str:
    """Folders as words of a command; their common folder where they are many."""
    if len(folders) <= _NAMED:
        return " ".join(map(quoted, folders))
    return quoted(os.path.commonpath(folders))


def _filesystem(what: str, watch: WatchConfig) -> Finding:
    fstype = mount_of(os.fsencode(watch.path)).fstype
    shown, reason = fstype or "unknown filesystem", distrust(fstype)
    at_rest = "" if leases_work(fstype) else "; who has a file open cannot be asked there, so settle alone counts"
    if reason is not None and watch.mode == "events":
        return wrong(what, f'mode = "events", although {reason}{at_rest}', 'Set mode = "auto" or "scan" for this watch')
    if reason is not None:
        return notice(
            what, f"{reason}. It is scanned every {watch.scan_interval:g} s{at_rest}",
            "Watch it on the host that has the disk, or set scan_interval to how late files may be",
        )  # fmt: skip
    if watch.mode == "scan":
        return ok(what, f"{shown}, scanned as configured{at_rest}")
    return ok(what, f"{shown}, watched by events{at_rest}")


def quoted(path: Path | bytes) -> str:
    """A path as a word of a shell's command, which a terminal may show."""
    raw = os.fsencode(path)
    text = os.fsdecode(raw)
    if text.isprintable():
        return shlex.quote(text)
    # What may not be shown as it is, a shell reads from within $'…' alone.
    return "$'" + printable(raw.replace(b"\\", rb"\\").replace(b"'", rb"\'")) + "'"


def _shown(path: Path) -> str:
    return printable(os.fsencode(path))


def duplicates(watches: Sequence[WatchConfig], *, in_use: bool) -> Iterator[Finding]:
    """Folders that are watched twice: by two of the watches, under two names, or by another service.

    Args:
        watches: What is watched. That one lies within another by its path, the configuration's rules refuse.
        in_use: Whether a service works with the state folder at hand: then what is claimed may be its own.
    """
    known = [(watch.path, identity(os.fsencode(watch.path))) for watch in watches]
    found = False
    for (one, its), (other, others) in itertools.combinations(known, 2):
        if its is not None and its == others:
            found = True
            yield wrong(
                "duplicate watches",
                f"{_shown(one)} and {_shown(other)} are one folder under two names (a bind mount?)",
                "Keep one [[watch]] of the two",
            )  # fmt: skip
    for path, its in known:
        who = None if in_use or its is None else claimed_by(*its)
        if who is not None:
            found = True
            yield wrong(
                "duplicate watches",
                f"{_shown(path)} is watched by another artifactd, with another state folder: {who}",
                "Stop one of the two, or give this command the --state-dir of that one",
            )  # fmt: skip
    if not found:
        yield ok("duplicate watches", "each folder is watched once")
