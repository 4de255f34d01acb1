"""Brings artifacts home: under their own names, each whole or not at all, and nowhere but below the destination."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artifactd.aside import each
from artifactd.errors import ArtifactdError, DeliveryError, Kind, Scope
from artifactd.globs import GlobError, as_text, compile_glob
from artifactd.manifest import is_manifest
from artifactd.names import decode_path, encode_path
from artifactd.paths import join
from artifactd.text import printable
from artifactd.watching.inside import open_root, pass_to
from artifactd.wayback.fetch import Fetcher, Moved
from artifactd.wayback.shelf import Entry

_ABREAST = 4
"""Downloads at a time, where the store's client may be shared by threads."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An artifact that was not brought home: which, why, and what to do."""

    artifact_path: str
    reason: str
    cure: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artifact and where it goes.

    Attributes:
        entry: Which.
        rel: Path below the destination.
        mode: Permission bits; None for the usual.
        mtime_ns: Nanoseconds since 1970; None for now.
    """

    entry: Entry
    rel: bytes
    mode: int | None = None
    mtime_ns: int | None = None


@dataclass(slots=True)
class Pulled:
    """What a pull came to: files written with their bytes, files that were there already, and problems."""

    files: int = 0
    bytes: int = 0
    equal: int = 0
    problems: list[Problem] = field(default_factory=list)


class RefusedError(Exception):
    """This artifact is not brought home; the text says why, `cure` what to do."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.cure = cure


def select(entries: Sequence[Entry], wanted: str) -> list[Entry]:
    """Of these, the artifact of that path, all below it, or those that a glob matches.

    The path is as MLflow shows it, or with the file's own names; a glob as in a ``.gitignore``.

    Raises:
        ArtifactdError: There is none.
    """
    path = wanted.strip("/")
    for one in (path, encode_path(os.fsencode(path))):
        chosen = [e for e in entries if e.artifact_path == one or e.artifact_path.startswith(f"{one}/")]
        if chosen:
            return chosen
    if not set("*?[").isdisjoint(wanted):
        try:
            regex = compile_glob(wanted).regex
        except GlobError as exc:
            raise ArtifactdError(
                f"{printable(os.fsencode(wanted))} is no glob: {exc}", "Write it as 'plots/*.png'"
            ) from exc
        chosen = [e for e in entries if any(regex.match(as_text(name)) for name in _names(e))]
        if chosen:
            return chosen
    raise ArtifactdError(
        f"there is no artifact {printable(os.fsencode(wanted))} in it", "`artifactd ls` lists what there is"
    )


def _names(entry: Entry) -> tuple[bytes, bytes]:
    return os.fsencode(entry.artifact_path), decode_path(entry.artifact_path)


def all_but_manifests(entries: Iterable[Entry]) -> list[Entry]:
    """What a run's files are: its manifests are about them, and come when they are asked for."""
    return [e for e in entries if e.run.model is not None or not is_manifest(e.artifact_path)]


def pull(
    entries: Sequence[Entry], dest: Path, *, force: bool, show: Callable[[Moved], None] = lambda _: None
) -> Pulled:
    """Download artifacts, with the names that the files had.

    Args:
        entries: Which.
        dest: A folder, made if it is not there.
        force: Replace files that are there with another content.
        show: Called several times a second.

    Returns:
        What was done, and what was not.

    Raises:
        DeliveryError: The server or the store cannot be asked.
        OSError: The destination cannot be written to.
    """
    wanted: list[Wanted] = []
    problems: list[Problem] = []
    for entry in entries:
        try:
            wanted.append(Wanted(entry, join(entry.run.place, own_path(entry.artifact_path))))
        except RefusedError as exc:
            problems.append(Problem(entry.artifact_path, str(exc), exc.cure))
    pulled = bring(wanted, dest, force=force, show=show)
    pulled.problems[:0] = problems
    return pulled


def bring(
    wanted: Sequence[Wanted], dest: Path, *, force: bool, show: Callable[[Moved], None] = lambda _: None
) -> Pulled:
    """As ``pull``, each to the place that is said."""
    dest.mkdir(parents=True, exist_ok=True)
    root = open_root(os.fsencode(dest))
    moved = Moved(of_files=len(wanted), of_bytes=sum(w.entry.size for w in wanted))
    pulled, done, lock = Pulled(), 0, threading.Lock()
    chosen = list(_at_one_place_each(wanted, pulled))
    try:
        with Fetcher(dest) as fetcher:

            def work(one: Wanted) -> None:
                nonlocal done
                problem = None
                try:
                    came = _bring(one, root, fetcher, force=force)
                except RefusedError as exc:
                    came, problem = None, Problem(one.entry.artifact_path, str(exc), exc.cure)
                except DeliveryError as exc:
                    if exc.failure.kind is not Kind.PERMANENT and exc.failure.scope is not Scope.FILE:
                        raise
                    came, problem = None, Problem(one.entry.artifact_path, exc.failure.error, exc.failure.cure)
                with lock:
                    if problem is not None:
                        pulled.problems.append(problem)
                    elif came is None:
                        pulled.equal += 1
                    else:
                        pulled.files += 1
                        pulled.bytes += came
                    moved.files += 1
                    done += one.entry.size

            def look() -> None:
                moved.bytes = min(done + fetcher.under_way(), moved.of_bytes)
                show(moved)

            moved.files = len(wanted) - len(chosen)
            done = moved.of_bytes - sum(w.entry.size for w in chosen)
            for width in (_ABREAST, 1):
                several = width > 1
                each(
                    [w for w in chosen if w.entry.held.artifacts.takes_several is several], work, width=width, look=look
                )
    finally:
        os.close(root)
    return pulled


def _at_one_place_each(wanted: Sequence[Wanted], pulled: Pulled) -> Iterable[Wanted]:
    places: dict[bytes, str] = {}
    for one in wanted:
        path = one.entry.artifact_path
        if (other := places.setdefault(one.rel, path)) == path:
            yield one
        else:
            why = f"its file is {printable(one.rel)}, as that of {other}"
            pulled.problems.append(Problem(path, why, "Pull the two into different folders"))


def _bring(one: Wanted, root: int, fetcher: Fetcher, *, force: bool) -> int | None:
    """Bytes that came; None where the file was there."""
    rel, known = one.rel, one.entry.digest
    folder, _, name = rel.rpartition(b"/")
    here = folder_at(root, folder)
    try:
        there = _digest(here, name)
        if there is not None and there == known:
            _dress_there(one, here, name)
            return None
        if there is not None and known is not None and not force:
            raise _different(rel)
        fetched = fetcher.fetch(one.entry.held)
        try:
            if known is not None and fetched.digest != known:
                raise RefusedError(
                    "the store holds another content than was stored there",
                    "`artifactd verify --deep` looks at all of it",
                )
            if there == fetched.digest:
                _dress_there(one, here, name)
                return None
            if there is not None and not force:
                raise _different(rel)
            with open(fetched.path, "rb") as stream:
                _dress(one, stream.fileno())
            try:
                os.replace(fetched.path, name, dst_dir_fd=here)
            except IsADirectoryError:
                raise RefusedError(f"a folder stands at {printable(rel)}", "Give another destination") from None
        finally:
            fetched.path.unlink(missing_ok=True)
        return fetched.size
    finally:
        os.close(here)


def _dress(one: Wanted, fd: int) -> None:
    """Give an open file the mode and the time that it had."""
    if one.mode is not None:
        os.fchmod(fd, one.mode)
    if one.mtime_ns is not None:
        os.utime(fd, ns=(one.mtime_ns, one.mtime_ns))


def _dress_there(one: Wanted, folder: int, name: bytes) -> None:
    if one.mode is None and one.mtime_ns is None:
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        with contextlib.suppress(PermissionError):  # another user's, with the content that it shall have
            _dress(one, fd)
    finally:
        os.close(fd)


def own_path(artifact_path: str) -> bytes:
    """The path that a file had in its run; refused when it is none, as a server may list whatever it likes."""
    path = decode_path(artifact_path)
    if b"\0" in path or not {b"", b".", b".."}.isdisjoint(path.split(b"/")):
        raise RefusedError(
            "its name leads out of the destination, or nowhere", "Look at the run in MLflow's UI; rename it"
        )
    return path


def folder_at(root: int, rel: bytes) -> int:
    """A descriptor of a folder below the destination, made if it is not there; links on the way are not followed."""
    here = os.dup(root)
    try:
        for name in filter(None, rel.split(b"/")):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=here)
            below = pass_to(here, name)
            os.close(here)
            here = below
    except OSError as exc:
        os.close(here)
        raise RefusedError(
            f"its folder {printable(rel)} cannot be made: {exc.strerror or exc}", "Give another destination"
        ) from exc
    return here


def _digest(folder: int, name: bytes) -> bytes | None:
    """SHA-256 of a file that is there; ``b""`` for what is no regular file, None for nothing."""
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return b""
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise RefusedError(
            f"the file that is there cannot be read: {exc.strerror}", "Give another destination"
        ) from exc
    with open(fd, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _different(rel: bytes) -> RefusedError:
    return RefusedError(
        f"another content stands at {printable(rel)}", "Give another destination, or --force to replace it"
    )
