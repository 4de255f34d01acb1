"""What a watch leaves out, and how its patterns are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from artifactd.globs import Glob, GlobError, Names, compile_glob, union


class LayoutError(ValueError):
    """A layout, glob or route that cannot be used; the message says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Exclude:
    """An exclude pattern that the user did not write.

    Attributes:
        glob: Gitignore-style, on the path below the watched folder.
        rule: The rule for people.
    """

    glob: str
    rule: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that goes nowhere, and the rule that says so, for people."""

    rule: str


class Excludes:
    """Gitignore's way: the last pattern that matches decides, and an excluded folder is so with all in it."""

    __slots__ = ("_has_exceptions", "_names", "_paths", "_quick", "_rules", "folder")

    def __init__(self, excludes: Sequence[Exclude]) -> None:
        globs = [rule_glob("exclude", exclude.glob) for exclude in excludes]
        rules = [Ignored(exclude.rule) for exclude in excludes]
        # Last first: that is the order in which they decide.
        self._rules = [(g, g.is_name, rule) for g, rule in reversed(list(zip(globs, rules, strict=True)))]
        self._has_exceptions = any(glob.is_exception for glob in globs)
        # One look with all patterns at once; by far most names match none.
        self._names = union(glob for glob in globs if glob.is_name)
        self._quick = Names(glob for glob in globs if glob.is_name)
        self._paths = union(glob for glob in globs if not glob.is_name)
        self.folder = lru_cache(maxsize=4096)(self._find_within)

    def file(self, path: str) -> Ignored | None:
        """Give the pattern that leaves a file out, by its path below the watched folder; None for none."""
        folder, _, name = path.rpartition("/")
        if ignored := self.folder(folder):
            return ignored
        return self._own(path) if self._quick.may_have(name) or self._paths.match(path) else None

    def _find_within(self, folder: str) -> Ignored | None:
        path = f"{folder}/" if folder else ""
        levels = (self._own(path[: slash.end()]) for slash in re.finditer("/", path))
        return next(filter(None, levels), None)

    def _own(self, path: str) -> Ignored | None:
        """Decide on one file, or folder (with a slash at its end), whose own folder is not excluded."""
        name = path[path.rfind("/", 0, -1) + 1 :]
        if not (self._names.match(name) or self._paths.match(path)):
            return None
        for glob, is_name, ignored in self._rules:
            if (match := glob.regex.match(name if is_name else path)) and self._is_own(match):
                return None if glob.is_exception else ignored
        return None

    def _is_own(self, match: re.Match[str]) -> bool:
        """Tell a match of the whole path from one of a folder above, or of 'anything in here'."""
        if not self._has_exceptions:
            return True
        is_whole = match.end() == len(match.string)
        # As a folder: this one, or one above that an exception brought back. Else: 'logs/**' means what is in
        # logs, not logs itself, from which an exception may bring back a file.
        return is_whole if match.lastindex else not (is_whole and match.string.endswith("/"))


def rule_glob(key: str, pattern: str) -> Glob:
    """Read the pattern of a rule; only ``exclude`` may have exceptions.

    Raises:
        LayoutError: It is none; the message names the `key` that it stands under.
    """
    try:
        glob = compile_glob(pattern)
    except GlobError as error:
        raise LayoutError(f"{key} '{pattern}': {error}") from None
    if glob.is_exception and key != "exclude":
        raise LayoutError(f"{key} '{pattern}': only exclude can have exceptions with '!'")
    return glob
