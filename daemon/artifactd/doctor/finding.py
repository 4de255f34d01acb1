"""One thing that was looked at: plain data, secrets masked."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from artifactd.errors import ArtifactdError
from artifactd.secrets import mask
from artifactd.text import printable

_RIGHTS = "Run this as the service's user, or as root"
_REPORT = "This is a mistake of artifactd's own: report it with what `artifactd doctor --bundle FILE` writes"
_UNKNOWN = "artifactd doctor --bundle support.tar.gz  # what mends it is not known here: report it with this file"


class Level(enum.StrEnum):
    """How much a finding matters; the values are the words of ``doctor --json``."""

    OK = "ok"
    NOTICE = "notice"
    """It works, and may not always; or it could not be looked at."""
    WRONG = "wrong"
    """Files are kept from being delivered, or people from being told; or will be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        what: The thing that was looked at.
        level: How much it matters.
        detail: What was found, in one line.
        cure: What mends it: a line for a shell, whose words stand behind a ``#`` so that it can be pasted whole, or
            a sentence, which begins with a capital letter. Empty where nothing is to be mended.
    """

    what: str
    level: Level
    detail: str
    cure: str = ""


def ok(what: str, detail: str) -> Finding:
    """It is in order."""
    return _finding(what, Level.OK, detail, "")


def notice(what: str, detail: str, cure: str) -> Finding:
    """It is worth knowing."""
    return _finding(what, Level.NOTICE, detail, cure)


def wrong(what: str, detail: str, cure: str) -> Finding:
    """It is not in order."""
    return _finding(what, Level.WRONG, detail, cure)


def looked(what: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Carry a check out; that it could not be made is a finding too.

    Args:
        what: What is looked at, in case that it cannot be.
        check: Gives findings, and may raise.
    """
    try:
        yield from check()
    except ArtifactdError as exc:
        yield notice(what, f"it cannot be looked at: {exc.problem}", exc.cure)
    except OSError as exc:
        where = f" ({printable(os.fsencode(exc.filename))})" if isinstance(exc.filename, str | bytes) else ""
        yield notice(what, f"it cannot be looked at: {exc.strerror or type(exc).__name__}{where}", _RIGHTS)
    except Exception as exc:  # noqa: BLE001 (one check that fails must not keep the others from being made)
        # Not in its own words: they may quote what was read.
        yield notice(what, f"it cannot be looked at ({type(exc).__name__})", _REPORT)


def _finding(what: str, level: Level, detail: str, cure: str) -> Finding:
    return Finding(mask(what), level, mask(detail), mask(cure if cure or level is Level.OK else _UNKNOWN))
