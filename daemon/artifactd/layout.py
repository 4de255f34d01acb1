"""Where a file belongs: from its path below the watched folder to experiment, run and artifact path.

Pure rules, no disk and no network, so that ``explain`` answers offline and property tests prove the mapping.
A layout names the leading folders of a path (``{experiment}/{run}``), globs say what is left out, routes say
where inside the run a file goes. Every answer carries the rule that gave it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

from artifactd.globs import Glob, GlobError, as_text, compile_glob, union
from artifactd.names import encode_folder, encode_path, encode_text, join_path

_CONSTANTS = ("experiment", "run")
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_NO_FILE_PATH = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")

# Part of the fingerprint: raise it when ``names`` writes any name differently.
_ENCODING_VERSION = 1


# A destination's first four: experiment, run, folder, names.
_Run: TypeAlias = tuple[str, str, bytes, tuple[tuple[str, str], ...]]


class LayoutError(ValueError):
    """A layout, glob or route that cannot be used; the message says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One folder level of a layout.

    Attributes:
        text: The placeholder's name, or the literal folder name.
        is_placeholder: Whether the folder's name is free and becomes the value of ``text``.
    """

    text: str
    is_placeholder: bool


@dataclass(frozen=True, slots=True)
class Route:
    """Where files go inside their run.

    Attributes:
        match: Gitignore-style glob, matched on the path within the run folder.
        artifact_path: Artifact folder; ``.`` or empty for the run's root, None for the file's own folder.
        kind: What MLflow is to make of the file: ``artifact``, ``model``, ``dataset``, ``params``, …
        origin: Where it comes from, for people, as ``preset keras``; "" when the user wrote it.
        context: Of a dataset: what the run used it for; "" for nothing said.
    """

    match: str
    artifact_path: str | None
    kind: str
    origin: str = ""
    context: str = ""


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
class Destination:
    """Where a file belongs.

    Attributes:
        experiment: MLflow experiment name.
        run: MLflow run name.
        folder: The run folder, relative to the watched folder; empty when that is the run folder.
        names: The layout's further placeholders with their values, in the layout's order.
        artifact_path: Full artifact path with the file's name, encoded, components joined by ``/``.
        kind: The route's kind, or ``artifact``.
        role: What the run is told of the content: the kind, for a dataset with its context; empty for an artifact.
        rule: The rule that says so, for people.
    """

    experiment: str
    run: str
    folder: bytes
    names: tuple[tuple[str, str], ...]
    artifact_path: str
    kind: str
    rule: str

    role: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that goes nowhere, and the rule that says so, for people."""

    rule: str


def parse_template(layout: str) -> tuple[Segment, ...]:
    """Take a layout apart, e.g. ``projects/{experiment}/{run}``.

    Args:
        layout: Folder levels separated by ``/``, each a ``{name}`` or a literal name; ``.`` alone when the
            watched folder itself is the run folder.

    Returns:
        One segment per folder level, from the watched folder down; empty for ``.``.

    Raises:
        LayoutError: If the layout is not of that form.
    """
    if layout == ".":
        return ()
    try:
        segments = tuple(_parse_segment(level) for level in layout.split("/"))
    except LayoutError as error:
        raise LayoutError(f"layout '{layout}': {error}") from None
    names = [segment.text for segment in segments if segment.is_placeholder]
    if len(set(names)) < len(names):
        raise LayoutError(f"layout '{layout}': a {{name}} stands there twice; give each level its own")
    return segments


def _parse_segment(level: str) -> Segment:
    if not level:
        raise LayoutError("a level is empty; write names joined by single '/', or '.' for the watched folder itself")
    if level in {".", ".."} or "\0" in level:
        raise LayoutError(f"{level!r} is no folder name; '.' is a layout only when it stands alone")
    if placeholder := _PLACEHOLDER.fullmatch(level):
        if placeholder[1] == "parent":
            raise LayoutError("{parent} is kept for nested runs, which are not available yet; use another name")
        return Segment(placeholder[1], is_placeholder=True)
    if not set("{}*?[").isdisjoint(level):
        raise LayoutError(f"'{level}' is no literal name; write a lower-case {{name}} for a level that varies")
    return Segment(level, is_placeholder=False)


class Layout:
    """All rules of one watched folder; immutable, and cheap to ask a million times."""

    __slots__ = ("_exclude", "_include", "_live", "_routes", "_run", "_segments", "_template", "fingerprint")

    fingerprint: str
    """A digest of all rules, the same over restarts; another one when any rule changes."""

    def __init__(
        self,
        template: str,
        *,
        constants: Mapping[str, str],
        include: Sequence[str],
        exclude: Sequence[str | Exclude],
        live: Sequence[str],
        routes: Sequence[Route],
    ) -> None:
        """Compile the rules.

        Args:
            template: Names of the leading folder levels, see ``parse_template``.
            constants: ``experiment`` and ``run`` for what the template does not name.
            include: Globs on the path below the watched folder; a file must match one.
            exclude: Globs like a ``.gitignore``, with ``!`` for exceptions; beats ``include``.
            live: Globs of growing files.
            routes: The first that matches wins.

        Raises:
            LayoutError: If a rule cannot be used.
        """
        self._segments = parse_template(template)
        named = {segment.text for segment in self._segments if segment.is_placeholder}
        fixed = {name: constants.get(name, "") for name in _CONSTANTS if name not in named}
        if missing := [name for name, value in fixed.items() if not value]:
            raise LayoutError(f"layout '{template}' has no {{{missing[0]}}}: add that level, or set {missing[0]}")
        if not include:
            raise LayoutError("include is empty, so nothing would be delivered: write '**' for everything")
        self._template = template
        excludes = [e if isinstance(e, Exclude) else Exclude(e, f"exclude {e}") for e in exclude]
        self._exclude = _Excludes(excludes)
        self._include = union(_glob("include", pattern) for pattern in include)
        self._live = union(_glob("live", pattern) for pattern in live)
        self._routes = tuple(_routing(route) for route in routes)
        self._run = lru_cache(maxsize=4096)(partial(self._find_run, fixed))
        rules = [_ENCODING_VERSION, template, fixed, [*include], [e.glob for e in excludes], [*live]]
        rules += [[r.match, r.artifact_path, r.kind, *([role] if (role := _role(r)) else [])] for r in routes]
        self.fingerprint = hashlib.sha256(json.dumps(rules).encode()).hexdigest()

    def place(self, rel: bytes) -> Destination | Ignored:
        """Say where a file belongs.

        Args:
            rel: The file's path relative to the watched folder.

        Returns:
            The destination, or the rule by which the file is ignored. Never raises.
        """
        levels = rel.split(b"/", len(self._segments))
        inner = levels.pop()
        run = self._refuse(rel, levels) or self._run(b"/".join(levels))
        if isinstance(run, Ignored):
            return run
        return Destination(*run, *self._within_run(inner))

    def run(self, folder: bytes) -> Destination | Ignored:
        """Say which run a run folder (relative to the watched folder) is; the artifact path is that of its top."""
        run = self._run(folder)
        return run if isinstance(run, Ignored) else Destination(*run, "", "artifact", f"layout {self._template}")

    def run_folder(self, rel: bytes) -> bytes | None:
        """Find the run folder that a path lies in.

        Args:
            rel: A file's or folder's path relative to the watched folder. As nothing is looked up, a path as
                deep as a run folder is taken for one.

        Returns:
            The run folder relative to the watched folder (the path itself when it is one); None above it, or
            where the layout's literal levels do not match.
        """
        levels = rel.split(b"/")[: len(self._segments)] if rel else []
        if len(levels) < len(self._segments) or self._mismatch(levels):
            return None
        return b"/".join(levels)

    def is_live(self, rel: bytes) -> bool:
        """Say whether a file, by its path relative to the watched folder, is one that grows while in use."""
        return self._live.match(as_text(rel)) is not None

    def excluded_folder(self, rel: bytes) -> str | None:
        """Say whether a scan can leave out a folder.

        Args:
            rel: The folder's path relative to the watched folder.

        Returns:
            The rule by which everything below is ignored; None when something below must be looked at.
        """
        ignored = self._exclude.folder(as_text(rel)) or self._mismatch(rel.split(b"/") if rel else [])
        return ignored.rule if ignored else None

    def _refuse(self, rel: bytes, levels: Sequence[bytes]) -> Ignored | None:
        if _NO_FILE_PATH.search(rel):
            return Ignored("not the path of a file below the watched folder")
        text = as_text(rel)
        if ignored := self._exclude.file(text):
            return ignored
        if not self._include.match(text):
            return Ignored("not in include")
        if len(levels) < len(self._segments):
            return self._mismatch(levels) or Ignored(f"above the run level of {self._template}")
        return None

    def _mismatch(self, levels: Sequence[bytes]) -> Ignored | None:
        for segment, level in zip(self._segments, levels, strict=False):
            if not segment.is_placeholder and segment.text.encode("utf-8", "surrogateescape") != level:
                return Ignored(f"not in '{segment.text}' of layout {self._template}")
        return None

    def _find_run(self, fixed: Mapping[str, str], folder: bytes) -> _Run | Ignored:
        levels = folder.split(b"/")
        if ignored := self._mismatch(levels):
            return ignored
        pairs = zip(self._segments, levels, strict=False)
        values = {segment.text: encode_text(level) for segment, level in pairs if segment.is_placeholder}
        names = tuple((name, value) for name, value in values.items() if name not in _CONSTANTS)
        values |= fixed
        return values["experiment"], values["run"], folder, names

    def _within_run(self, inner: bytes) -> tuple[str, str, str, str]:
        for regex, folder, kind, rule, role in self._routes:
            if regex.match(as_text(inner)):
                name = inner.rpartition(b"/")[2]
                return encode_path(inner) if folder is None else join_path(folder, name), kind, rule, role
        return encode_path(inner), "artifact", f"layout {self._template}", ""


def _routing(route: Route) -> tuple[re.Pattern[str], str | None, str, str, str]:
    """Give the route's regex, its artifact folder encoded, its kind, the rule for people, and the file's role."""
    regex = union([_glob("route", route.match)])
    folder, rule = None, f"{route.origin}: route {route.match}" if route.origin else f"route {route.match}"
    if (path := route.artifact_path) is not None:
        raw = b"" if path == "." else path.encode("utf-8", "surrogateescape")
        if raw and _NO_FILE_PATH.search(raw):
            raise LayoutError(f"{rule}: artifact_path '{path}' is no folder of a run; write 'plots', 'a/b' or '.'")
        folder, rule = encode_folder(raw), f"{rule} → {path or '.'}"
    return regex, folder, route.kind, rule if route.kind == "artifact" else f"{rule} as {route.kind}", _role(route)


def _role(route: Route) -> str:
    """What the run is told of a file's content by its route; "" for nothing."""
    if route.kind in ("artifact", "model"):
        return ""
    return f"{route.kind}:{route.context}" if route.context else route.kind


class _Excludes:
    """Gitignore's way: the last pattern that matches decides, and an excluded folder is so with all in it."""

    __slots__ = ("_has_exceptions", "_names", "_paths", "_rules", "folder")

    def __init__(self, excludes: Sequence[Exclude]) -> None:
        globs = [_glob("exclude", exclude.glob) for exclude in excludes]
        rules = [Ignored(exclude.rule) for exclude in excludes]
        # Last first: that is the order in which they decide.
        self._rules = [(g, g.is_name, rule) for g, rule in reversed(list(zip(globs, rules, strict=True)))]
        self._has_exceptions = any(glob.is_exception for glob in globs)
        # One look with all patterns at once; by far most names match none.
        self._names = union(glob for glob in globs if glob.is_name)
        self._paths = union(glob for glob in globs if not glob.is_name)
        self.folder = lru_cache(maxsize=4096)(self._find_within)

    def file(self, path: str) -> Ignored | None:
        return self.folder(path.rpartition("/")[0]) or self._own(path)

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


def _glob(key: str, pattern: str) -> Glob:
    try:
        glob = compile_glob(pattern)
    except GlobError as error:
        raise LayoutError(f"{key} '{pattern}': {error}") from None
    if glob.is_exception and key != "exclude":
        raise LayoutError(f"{key} '{pattern}': only exclude can have exceptions with '!'")
    return glob
