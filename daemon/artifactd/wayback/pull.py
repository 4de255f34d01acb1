"""Brings artifacts home: under their own names, each whole or not at all, and nowhere but below the destination."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artifactd.errors import ArtifactdError, DeliveryError, Kind, Scope
from artifactd.ledger import State
from artifactd.names import decode_path, encode_path
from artifactd.paths import join
from artifactd.text import printable
from artifactd.watching.inside import open_root, pass_to
from artifactd.wayback.fetch import Fetcher, Moved
from artifactd.wayback.shelf import Entry, Shelf


@dataclass(frozen=True, slots=True)
class Problem:
    """An artifact that was not brought home: which, why, and what to do."""

    artifact_path: str
    reason: str
    cure: str


@dataclass(slots=True)
class Pulled:
    """What a pull came to: files written with their bytes, files that were there already, and problems."""

    files: int = 0
    bytes: int = 0
    equal: int = 0
    problems: list[Problem] = field(default_factory=list)


class _RefusedError(Exception):
    """This artifact is not brought home; the text says why, `cure` what to do."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.cure = cure


def select(entries: Sequence[Entry], wanted: str) -> list[Entry]:
    """Of these, the artifact of that path or all below it; the path as MLflow shows it, or with the file's own names.

    Raises:
        ArtifactdError: There is none.
    """
    wanted = wanted.strip("/")
    for path in (wanted, encode_path(os.fsencode(wanted))):
        chosen = [e for e in entries if e.artifact_path == path or e.artifact_path.startswith(f"{path}/")]
        if chosen:
            return chosen
    raise ArtifactdError(
        f"there is no artifact {printable(os.fsencode(wanted))} in it", "`artifactd ls` lists what there is"
    )


def pull(
    shelf: Shelf, entries: Sequence[Entry], dest: Path, *, force: bool, show: Callable[[Moved], None] = lambda _: None
) -> Pulled:
    """Download artifacts, with the names that the files had.

    Args:
        shelf: Where they are.
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
    dest.mkdir(parents=True, exist_ok=True)
    root = open_root(os.fsencode(dest))
    moved = Moved(of_files=len(entries), of_bytes=sum(e.size for e in entries))
    pulled, places = Pulled(), dict[bytes, str]()
    try:
        with Fetcher(dest) as fetcher:
            for entry in entries:
                before = moved.bytes

                def so_far(count: int, before: int = before) -> None:
                    moved.bytes = before + count
                    show(moved)

                try:
                    _bring(shelf, entry, root, places, fetcher, pulled, so_far, force=force)
                except _RefusedError as exc:
                    pulled.problems.append(Problem(entry.artifact_path, str(exc), exc.cure))
                except DeliveryError as exc:
                    if exc.failure.kind is not Kind.PERMANENT and exc.failure.scope is not Scope.FILE:
                        raise
                    pulled.problems.append(Problem(entry.artifact_path, exc.failure.error, exc.failure.cure))
                moved.files += 1
                so_far(entry.size)
    finally:
        os.close(root)
    return pulled


def _bring(
    shelf: Shelf,
    entry: Entry,
    root: int,
    places: dict[bytes, str],
    fetcher: Fetcher,
    pulled: Pulled,
    show: Callable[[int], None],
    *,
    force: bool,
) -> None:
    rel = join(entry.run.place, _own_path(entry.artifact_path))
    if (other := places.setdefault(rel, entry.artifact_path)) != entry.artifact_path:
        raise _RefusedError(f"its file is {printable(rel)}, as that of {other}", "Pull the two into different folders")
    # What the ledger knows as stored is what must come back; of a file that is due again it may be older or newer.
    known = entry.file.digest if entry.file is not None and entry.file.state is State.STORED else None
    folder, _, name = rel.rpartition(b"/")
    here = _folder(root, folder)
    try:
        there = _digest(here, name)
        if there is not None and there == known:
            pulled.equal += 1
            return
        if there is not None and known is not None and not force:
            raise _different(rel)
        fetched = fetcher.fetch(shelf.artifacts(entry.run.run_id), entry.artifact_path, entry.size, show)
        if known is not None and fetched.digest != known:
            raise _RefusedError(
                "the store holds another content than was stored there", "`artifactd verify --deep` looks at all of it"
            )
        if there == fetched.digest:
            pulled.equal += 1
            return
        if there is not None and not force:
            raise _different(rel)
        try:
            os.replace(fetched.path, name, dst_dir_fd=here)
        except IsADirectoryError:
            raise _RefusedError(f"a folder stands at {printable(rel)}", "Give another destination") from None
        pulled.files += 1
        pulled.bytes += fetched.size
    finally:
        os.close(here)


def _own_path(artifact_path: str) -> bytes:
    """The path that a file had in its run; refused when it is none, as a server may list whatever it likes."""
    path = decode_path(artifact_path)
    if b"\0" in path or not {b"", b".", b".."}.isdisjoint(path.split(b"/")):
        raise _RefusedError(
            "its name leads out of the destination, or nowhere", "Look at the run in MLflow's UI; rename it"
        )
    return path


def _folder(root: int, rel: bytes) -> int:
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
        raise _RefusedError(
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
        raise _RefusedError(
            f"the file that is there cannot be read: {exc.strerror}", "Give another destination"
        ) from exc
    with open(fd, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _different(rel: bytes) -> _RefusedError:
    return _RefusedError(
        f"another content stands at {printable(rel)}", "Give another destination, or --force to replace it"
    )
