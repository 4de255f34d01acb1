"""The support file: what may be shown to others, and no secret.

Every text is masked as a log event is, and on top of that no password of the configuration's own is left standing,
wherever it may have come to.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from artifactd.errors import ArtifactdError, UsageError
from artifactd.secrets import MASK, mask_event
from artifactd.text import printable

_FOLDER = "artifactd-doctor"
_LEAST = 4
"""Characters: to mask a shorter password wherever it stands would mask words."""


def refuse(path: Path, watched: Iterable[Path] = ()) -> None:
    """Say beforehand that a bundle cannot be written there.

    Raises:
        UsageError: Something is there already, or it would be delivered.
    """
    if os.path.lexists(path):
        raise _there(path)
    real = os.path.realpath(path)
    for folder in watched:
        if Path(real).is_relative_to(os.path.realpath(folder)):
            raise UsageError(
                f"{_shown(path)} lies in the watched folder {_shown(folder)}, so it would be delivered",
                "Name a file elsewhere",
            )


def write(path: Path, members: Mapping[str, Any], secrets: Iterable[str] = ()) -> None:
    """Write a bundle, which its owner alone may read.

    Args:
        path: A .tar.gz that is not there yet.
        members: Names of files, and what is to stand in them, as data for JSON.
        secrets: What must not stand in any, besides what looks like a secret or is one of the environment.

    Raises:
        UsageError: Something is there already.
        ArtifactdError: It cannot be written.
    """
    texts = {name: cleaned(data, secrets) for name, data in members.items()}
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise _there(path) from None
    except OSError as exc:
        raise _failed(path, exc) from exc
    try:
        with open(fd, "wb") as stream:
            _pack(stream, texts)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise _failed(path, exc) from exc


def cleaned(data: Any, secrets: Iterable[str] = ()) -> str:
    """Data as JSON, without secrets."""
    spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
    masked = mask_event(None, "", {"": data})[""]
    return json.dumps(_without(masked, sorted(spellings, key=len, reverse=True)), indent=2) + "\n"


def _spellings(secret: str) -> set[str]:
    """A secret as it may stand in a text; none of one that is too short."""
    plain = unquote(secret)
    return {spelling for spelling in (secret, plain, quote(plain, safe="")) if len(spelling) >= _LEAST}


def _without(value: Any, spellings: Sequence[str]) -> Any:
    if isinstance(value, str):
        for spelling in spellings:
            value = value.replace(spelling, MASK)
    elif isinstance(value, Mapping):
        return {key: _without(item, spellings) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return [_without(item, spellings) for item in value]
    return value


def _pack(stream: Any, texts: Mapping[str, str]) -> None:
    now = int(time.time())
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in texts.items():
            content = text.encode("ascii")
            member = tarfile.TarInfo(f"{_FOLDER}/{name}")
            member.size, member.mode, member.mtime = len(content), 0o600, now
            archive.addfile(member, io.BytesIO(content))


def _there(path: Path) -> UsageError:
    return UsageError(f"{_shown(path)} is there already", "Name another file: nothing is overwritten")


def _failed(path: Path, exc: OSError) -> ArtifactdError:
    return ArtifactdError(
        f"{_shown(path)} cannot be written: {exc.strerror or exc}", "Name a file where this user may write"
    )


def _shown(path: Path) -> str:
    return printable(os.fsencode(path))
