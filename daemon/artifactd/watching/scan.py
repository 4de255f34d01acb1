"""Looking at the disk: one folder, some names in it, or a whole tree folder by folder.

Nothing here raises for what a disk can do. What vanished is gone, what cannot be read is listed with its reason, and
what is half known says so: a name that is missing from a listing that is not ``whole`` may well be there.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field

from artifactd.paths import join
from artifactd.watching.inside import Escapes, open_below, open_folder, pass_to, rule_of
from artifactd.watching.signature import MOST, Signature

_HELD = 64
"""Folders above the current one that a walk keeps open; deeper trees are entered again from the root."""


_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
"""What ``os.fsencode`` encodes names with, at three calls a name."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a look at one folder found.

    Attributes:
        rel: The folder, relative to the root.
        files: The regular files.
        others: What is ignored because it is no regular file: name to what it is, for people.
        folders: Names of the folders in it.
        unreadable: What could not be looked at: name to reason; ``b""`` is the folder itself.
        gone: The folder does not exist (any more), or is no folder, or is reached through a symbolic link.
        whole: Every name in it was looked at, so what is not listed is not there.
    """

    rel: bytes
    files: dict[bytes, Signature] = field(default_factory=dict)
    others: dict[bytes, str] = field(default_factory=dict)
    folders: tuple[bytes, ...] = ()
    unreadable: dict[bytes, str] = field(default_factory=dict)
    gone: bool = False
    whole: bool = True


def look(root_fd: int, rel: bytes, names: Collection[bytes] | None = None) -> Listing:
    """Look at one folder.

    Args:
        root_fd: From ``inside.open_root``.
        rel: The folder, relative to the root.
        names: Look at these alone; one that the listing does not mention does not exist. None: all of it.

    Returns:
        What was found; it never raises for what the disk can do.
    """
    try:
        fd = open_folder(root_fd, rel) if names is None else pass_to(root_fd, rel)
    except OSError as exc:
        return _not_listed(rel, exc)
    try:
        return _read(fd, rel) if names is None else _read_names(fd, rel, names)
    finally:
        os.close(fd)


def walk(
    root_fd: int,
    start: bytes = b"",
    *,
    skip: Callable[[bytes], bool] = lambda _rel: False,
    folders_only: bool = False,
    counting: int | None = None,
    entering: Callable[[int, bytes], None] = lambda _fd, _rel: None,
) -> Generator[Listing, None, None]:
    """Look at a folder and everything below it, one folder a step, parents before children.

    Memory is bounded by the names of the folders that are still to come on the way down, descriptors by ``_HELD``. A
    folder that is renamed while the walk is in it is listed under its old path: opening from the root down finds out.

    Args:
        root_fd: From ``inside.open_root``; must stay open while the walk lasts.
        start: Where to begin, relative to the root.
        skip: Asked for each folder below `start`, by path relative to the root; True leaves it and all below it out.
        folders_only: Only find the folders, without a stat a file; no listing is then ``whole``.
        counting: With `folders_only`, from ``mounts.counting``: a folder there that has none in it is not read.
        entering: Called with each folder's descriptor and path before it is read; what it raises ends the walk.

    Yields:
        One listing a folder, ``gone`` when it vanished after its parent was listed.
    """
    path: list[_Level] = []
    rel: bytes | None = start
    try:
        while rel is not None:
            try:
                fd = path[-1].open_child(root_fd, rel) if path else open_folder(root_fd, rel)
            except OSError as exc:
                yield _not_listed(rel, exc)
            else:
                level = _Level(rel, fd)
                path.append(level)
                if len(path) > _HELD:
                    path[-_HELD - 1].close()
                entering(fd, rel)
                listing = _read(fd, rel, folders_only=folders_only, counting=counting)
                level.to_come = [name for name in reversed(listing.folders) if not skip(join(rel, name))]
                yield listing
            while path and not path[-1].to_come:
                path.pop().close()
            rel = join(path[-1].rel, path[-1].to_come.pop()) if path else None
    finally:
        for level in path:
            level.close()


@dataclass(slots=True)
class _Level:
    """A folder that a walk is in or below."""

    rel: bytes
    fd: int | None
    to_come: list[bytes] = field(default_factory=list)

    def open_child(self, root_fd: int, rel: bytes) -> int:
        if self.fd is None:
            self.fd = pass_to(root_fd, self.rel)
        return open_below(self.fd, rel.rpartition(b"/")[2])

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class _Found:
    """What is being put together while a folder is read."""

    def __init__(self) -> None:
        self.files: dict[bytes, Signature] = {}
        self.others: dict[bytes, str] = {}
        self.folders: list[bytes] = []
        self.unreadable: dict[bytes, str] = {}

    def add(self, name: bytes, st: os.stat_result) -> None:
        if stat.S_ISDIR(st.st_mode):
            self.folders.append(name)
            return
        rule = rule_of(st.st_mode)
        if rule is None:
            self.files[name] = Signature.of(st)
        else:
            self.others[name] = rule

    def listing(self, rel: bytes, *, whole: bool) -> Listing:
        folders = tuple(sorted(self.folders))
        return Listing(rel, self.files, self.others, folders, self.unreadable, whole=whole)


def _read(folder_fd: int, rel: bytes, *, folders_only: bool = False, counting: int | None = None) -> Listing:
    found = _Found()
    files, is_regular, new = found.files, stat.S_ISREG, tuple.__new__
    try:
        if folders_only and counting is not None and _has_no_folders(folder_fd, counting):
            return Listing(rel, whole=False)
        with os.scandir(folder_fd) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, _ERRORS)
                try:
                    if entry.is_dir(follow_symlinks=False):  # told by the listing itself: no stat
                        found.folders.append(name)
                    elif folders_only:
                        continue
                    elif is_regular((st := entry.stat(follow_symlinks=False)).st_mode):
                        # `Signature.of` without a call, for all that a disk has: a scan comes by millions.
                        mtime, ctime, inode = st.st_mtime_ns, st.st_ctime_ns, st.st_ino
                        if 0 <= mtime <= MOST and 0 <= ctime <= MOST and inode <= MOST:
                            files[name] = new(Signature, (st.st_size, mtime, ctime, inode))
                        else:
                            files[name] = Signature.of(st)
                    else:
                        found.add(name, st)
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    found.unreadable[name] = _reason(exc)
        if _is_removed(folder_fd):
            return Listing(rel, gone=True)
    except OSError as exc:
        found.unreadable[b""] = _reason(exc)
    return found.listing(rel, whole=not folders_only and b"" not in found.unreadable)


def _read_names(folder_fd: int, rel: bytes, names: Collection[bytes]) -> Listing:
    found = _Found()
    of, is_regular = Signature.of, stat.S_ISREG
    for name in names:
        try:
            if is_regular((st := os.stat(name, dir_fd=folder_fd, follow_symlinks=False)).st_mode):
                found.files[name] = of(st)
            else:
                found.add(name, st)
        except FileNotFoundError:
            continue
        except OSError as exc:
            found.unreadable[name] = _reason(exc)
    try:
        if _is_removed(folder_fd):
            return Listing(rel, gone=True)
    except OSError as exc:
        found.unreadable[b""] = _reason(exc)
    return found.listing(rel, whole=False)


def _has_no_folders(folder_fd: int, device: int) -> bool:
    """Each folder in a folder is a link to it, by its '..'; two more are its own name and '.'."""
    st = os.fstat(folder_fd)
    return st.st_nlink == 2 and st.st_dev == device


def _is_removed(folder_fd: int) -> bool:
    """A folder that was removed while it was open reads as an empty one: readdir(3) takes ENOENT for the end."""
    return os.fstat(folder_fd).st_nlink == 0


def _not_listed(rel: bytes, exc: OSError) -> Listing:
    if isinstance(exc, FileNotFoundError | Escapes):
        return Listing(rel, gone=True)
    return Listing(rel, unreadable={b"": _reason(exc)}, whole=False)


def _reason(exc: OSError) -> str:
    return exc.strerror or str(exc)
