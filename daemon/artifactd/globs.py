"""Globs as a ``.gitignore`` has them, on names of any bytes. Pure."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

# pathspec marks 'matched as a folder' with its only group. Its text holds a slash, which no user's level can.
_FOLDER_MARK = re.compile(r"\(\?P<\w+>/\)")

# Stands for a newline in names: outside what surrogateescape uses, so '.' and '$' need no special care.
_NEWLINE = "\udc0a"

_SPECIAL = frozenset("\\[]?")


class GlobError(ValueError):
    """A pattern that cannot be used; the message is a sentence without it."""


@dataclass(frozen=True, slots=True)
class Glob:
    """One compiled pattern.

    Attributes:
        pattern: As written.
        regex: For ``match`` on what ``as_text`` gives.
        is_exception: It begins with ``!``.
    """

    pattern: str
    regex: re.Pattern[str]
    is_exception: bool

    @property
    def ends(self) -> tuple[str, str] | None:
        """How each name begins and ends that it can match, where it is of a name; None where that is not known."""
        body = re.sub(r"\A!?(\*\*/)*", "", self.pattern).removesuffix("/")
        if not self.is_name or self.pattern != self.pattern.strip() or not _SPECIAL.isdisjoint(body):
            return None
        begin, star, _ = body.partition("*")
        return (begin, body.rpartition("*")[2] if star else "") if body.strip("*") else None

    @property
    def is_name(self) -> bool:
        """Whether it speaks of a name in any folder, not of a path."""
        body = re.sub(r"\A!?(\*\*/)*", "", self.pattern.rstrip())
        return "/" not in body.removesuffix("/")


def compile_glob(pattern: str) -> Glob:
    """Compile a pattern.

    Raises:
        GlobError: It cannot be used; also what gitignore passes over silently.
    """
    if not pattern.strip():
        raise GlobError("it is empty")
    if "\n" in pattern:
        raise GlobError("it has a line break: write one pattern for each line")
    if pattern.startswith("#"):
        raise GlobError("it starts with '#', a comment in gitignore: write '\\#' for a name that starts so")
    levels = pattern.rstrip().removeprefix("!").removeprefix("/").removesuffix("/").split("/")
    if not {"", ".", ".."}.isdisjoint(levels):
        raise GlobError("it can match nothing: no path has an empty, '.' or '..' level")
    if pattern.rstrip().endswith("/**/"):
        raise GlobError("it ends in '/**/': write '/**' for all that is in a folder, '/*/' for the folders in it")
    try:
        with warnings.catch_warnings():
            # Python warns of '[[' and '--' in brackets, whose meaning it may change.
            warnings.simplefilter("error", FutureWarning)
            text, include = GitIgnoreSpecPattern.pattern_to_regex(pattern)
            # A few come unanchored, for 'search'.
            regex = None if text is None else re.compile(text if text.startswith("^") else f".*?{text}")
    except (ValueError, re.error, FutureWarning):
        regex = None
    if regex is None:
        raise GlobError("it is no gitignore pattern: look at its brackets and backslashes")
    return Glob(pattern, regex, is_exception=not include)


def check_glob(pattern: str) -> str | None:
    """Say what is wrong with a gitignore-style glob.

    Args:
        pattern: One pattern as in a ``.gitignore`` line, e.g. ``**/*.tmp``, ``cache/``, ``!keep.tmp``.

    Returns:
        The reason in a sentence without the pattern, or None when the pattern can be used.
    """
    try:
        compile_glob(pattern)
    except GlobError as error:
        return str(error)
    return None


def union(globs: Iterable[Glob]) -> re.Pattern[str]:
    """One look with all patterns at once; no pattern matches nothing."""
    return re.compile("|".join(_FOLDER_MARK.sub("/", glob.regex.pattern) for glob in globs) or "(?!)")


class Names:
    """A quick look whether a name may be one of some globs', which for most of a million names ends the matter.

    Args:
        globs: All of names.
    """

    __slots__ = ("_begin", "_end", "_known")

    def __init__(self, globs: Iterable[Glob]) -> None:
        ends = [glob.ends for glob in globs]
        self._known = all(pair is not None and any(pair) for pair in ends)
        self._begin = tuple(begin for begin, _ in filter(None, ends) if begin)
        self._end = tuple(end for begin, end in filter(None, ends) if not begin)

    def may_have(self, name: str) -> bool:
        """False where none matches."""
        return not self._known or name.endswith(self._end) or name.startswith(self._begin)


def as_text(path: bytes) -> str:
    """A path as globs match it: any bytes have a text."""
    return path.decode("utf-8", "surrogateescape").replace("\n", _NEWLINE)
