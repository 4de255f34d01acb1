"""Which git commit a folder lies in, read from the repository's own files; git itself need not be there.

A note for people, so nothing here fails: what cannot be read, or is no commit, is None. The repository may be the work
of whoever owns the folder, so no link in it is followed: a file elsewhere that holds 64 hex digits is more likely a key
than a commit.
"""

from __future__ import annotations

import os
import re

from artifactd.watching.inside import open_file, open_root

_COMMIT = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(rb"refs/[!-~]+")
_DEPTH = 5
"""Refs that lead to one another at most."""
_SMALL = 4096
_PACKED = 16 * 2**20
"""Bytes of a list of refs that are read at most."""


def commit_of(folder: bytes) -> str | None:
    """The commit that is checked out where a folder lies.

    Args:
        folder: Absolute.

    Returns:
        40 or 64 hex digits; None outside of any repository, or before its first commit.
    """
    here = folder
    while True:
        git = os.path.join(here, b".git")
        if (found := _repository(git)) is not None:
            return _resolve(found)
        above = os.path.dirname(here)
        if above == here:
            return None
        here = above


def _repository(git: bytes) -> bytes | None:
    """The folder that is meant by a ``.git``: itself or, of a worktree or submodule, the one that it names."""
    if os.path.isdir(git):
        return git if os.path.exists(os.path.join(git, b"HEAD")) else None
    text = _read(os.path.dirname(git), os.path.basename(git), _SMALL)
    if text is None or not text.startswith(b"gitdir:"):
        return None
    return os.path.join(os.path.dirname(git), text[len(b"gitdir:") :].strip())


def _resolve(git: bytes) -> str | None:
    common = _read(git, b"commondir", _SMALL)  # a worktree's refs are those of its repository
    places = [git] if common is None else [git, os.path.join(git, common.strip())]
    text = _read(git, b"HEAD", _SMALL)
    for _ in range(_DEPTH):
        if text is None:
            return None
        if _COMMIT.fullmatch(text.strip()):
            return text.strip().decode()
        ref = text.removeprefix(b"ref:").strip()
        if not _REF.fullmatch(ref) or b".." in ref:
            return None
        loose = (_read(place, ref, _SMALL) for place in places)
        text = next((t for t in loose if t is not None), None) or _packed(places[-1], ref)
    return None


def _packed(git: bytes, ref: bytes) -> bytes | None:
    for line in (_read(git, b"packed-refs", _PACKED) or b"").splitlines():
        commit, _, name = line.partition(b" ")
        if name == ref:
            return commit
    return None


def _read(folder: bytes, rel: bytes, most: int) -> bytes | None:
    """What a regular file begins with that is reached from this folder without a link."""
    try:
        root = open_root(folder)
    except (OSError, ValueError):
        return None
    try:
        fd = open_file(root, rel)
    except OSError:
        return None
    finally:
        os.close(root)
    try:
        return os.read(fd, most)
    except OSError:
        return None
    finally:
        os.close(fd)
