"""Where a file belongs: from its path below the watched folder to experiment, run and artifact path.

Pure rules, no disk and no network, so that ``explain`` answers offline and property tests prove the mapping.
A layout names the leading folders of a path (``{experiment}/{run}``), globs say what is left out, routes say
where inside the run a file goes. Every answer carries the rule that gave it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

from artifactd.checkpoints import Checkpoint, Rule
from artifactd.excludes import Exclude, Excludes, Ignored, LayoutError, rule_glob
from artifactd.globs import Names, as_text, union
from artifactd.names import RUN_NOTE, encode_folder, encode_text, join_path
from artifactd.paths import join
from artifactd.registration import NOWHERE, Registration, is_weights, number_group

_CONSTANTS = ("experiment", "run")
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_NO_FILE_PATH = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")


def _is_odd(rel: bytes) -> bool:
    """Whether a path may be none of a file: a tenth of the time of the search that knows."""
    return b"/." in rel or b"//" in rel or b"\0" in rel or rel[:1] in b"/." or rel[-1:] == b"/"


# Part of the fingerprint: raise it when ``names`` writes any name differently.
_ENCODING_VERSION = 2


PARENT = "parent"
"""The placeholder of a level whose folders are runs, and the folders in them runs that are nested in these."""

# A run's experiment, name, folder and further names, and the folder of the run that it is nested in.
_Run: TypeAlias = tuple[str, str, bytes, tuple[tuple[str, str], ...], bytes | None]


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
        context: Of a dataset: what the run used it for; of a preset's metrics: whose; "" for nothing said.
        registration: Of a model: what becomes of it in the registry.
    """

    match: str
    artifact_path: str | None
    kind: str
    origin: str = ""
    context: str = ""
    registration: Registration = NOWHERE


class Destination(NamedTuple):  # a look makes one for each file: a tuple is made in C
    """Where a file belongs.

    Attributes:
        experiment: MLflow experiment name.
        run: MLflow run name.
        folder: The run folder, relative to the watched folder; empty when that is the run folder.
        names: The layout's further placeholders with their values, in the layout's order.
        artifact_path: Full artifact path with the file's name, encoded, components joined by ``/``.
        kind: The route's kind, or ``artifact``.
        role: What the run is told of the content: the kind, with its context if any; empty for an artifact.
        rule: The rule that says so, for people.
        registration: Of a model: what becomes of it in the registry.
        parent: The folder of the run that this one is nested in, relative to the watched folder; None for none.
        nests: Other runs are nested in this one.
    """

    experiment: str
    run: str
    folder: bytes
    names: tuple[tuple[str, str], ...]
    artifact_path: str
    kind: str
    rule: str
    role: str = ""
    registration: Registration = NOWHERE
    parent: bytes | None = None
    nests: bool = False


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
    if PARENT in names and [s.text for s in segments[-2:] if s.is_placeholder] != [PARENT, "run"]:
        raise LayoutError(
            f"layout '{layout}': {{parent}} is the level of runs that hold runs: write {{parent}}/{{run}} last"
        )
    return segments


def _parse_segment(level: str) -> Segment:
    if not level:
        raise LayoutError("a level is empty; write names joined by single '/', or '.' for the watched folder itself")
    if level in {".", ".."} or "\0" in level:
        raise LayoutError(f"{level!r} is no folder name; '.' is a layout only when it stands alone")
    if placeholder := _PLACEHOLDER.fullmatch(level):
        return Segment(placeholder[1], is_placeholder=True)
    if not set("{}*?[").isdisjoint(level):
        raise LayoutError(f"'{level}' is no literal name; write a lower-case {{name}} for a level that varies")
    return Segment(level, is_placeholder=False)


class Layout:
    """All rules of one watched folder; immutable, and cheap to ask a million times."""

    __slots__ = (
        "_all", "_checkpoints", "_exclude", "_in_folder", "_include", "_least", "_live", "_live_names", "_nests",
        "_remake", "_routes", "_run", "_segments", "_template", "_unrouted", "fingerprint", "has_models",
    )  # fmt: skip

    fingerprint: str
    """A digest of all rules, the same over restarts; another one when any rule changes."""
    has_models: bool
    """Whether a route makes models of folders."""

    def __init__(
        self,
        template: str,
        *,
        constants: Mapping[str, str],
        include: Sequence[str],
        exclude: Sequence[str | Exclude],
        live: Sequence[str],
        routes: Sequence[Route],
        checkpoints: Sequence[Checkpoint] = (),
    ) -> None:
        """Compile the rules.

        Args:
            template: Names of the leading folder levels, see ``parse_template``.
            constants: ``experiment`` and ``run`` for what the template does not name.
            include: Globs on the path below the watched folder; a file must match one.
            exclude: Globs like a ``.gitignore``, with ``!`` for exceptions; beats ``include``.
            live: Globs of growing files.
            routes: The first that matches wins.
            checkpoints: Folders whose marker goes last; the first that matches a marker wins.

        Raises:
            LayoutError: If a rule cannot be used.
        """
        self._remake = partial(
            Layout, template, constants=dict(constants), include=tuple(include), exclude=tuple(exclude),
            live=tuple(live), routes=tuple(routes), checkpoints=tuple(checkpoints),
        )  # fmt: skip
        self._segments = parse_template(template)
        self._nests = any(segment.is_placeholder and segment.text == PARENT for segment in self._segments)
        self._least = len(self._segments) - self._nests  # levels of the highest run folders
        named = {segment.text for segment in self._segments if segment.is_placeholder}
        fixed = {name: constants.get(name, "") for name in _CONSTANTS if name not in named}
        if missing := [name for name, value in fixed.items() if not value]:
            raise LayoutError(f"layout '{template}' has no {{{missing[0]}}}: add that level, or set {missing[0]}")
        if not include:
            raise LayoutError("include is empty, so nothing would be delivered: write '**' for everything")
        self._template = template
        excludes = [e if isinstance(e, Exclude) else Exclude(e, f"exclude {e}") for e in exclude]
        self._exclude = Excludes(excludes)
        self._include = union(rule_glob("include", pattern) for pattern in include)
        self._all = "**" in include
        globs = [rule_glob("live", pattern) for pattern in live]
        self._live, self._live_names = union(globs), Names(globs)
        self._routes = tuple(_routing(route) for route in routes)
        self._run = lru_cache(maxsize=4096)(partial(self._find_run, fixed))
        self._in_folder = lru_cache(maxsize=4096)(self._find_in_folder)
        self._unrouted = "artifact", f"layout {template}", "", NOWHERE
        rules = [_ENCODING_VERSION, template, fixed, [*include], [e.glob for e in excludes], [*live]]
        rules += [[r.match, r.artifact_path, r.kind, *([role] if (role := _role(r)) else [])] for r in routes]
        rules += [r.registration.to_text() for r in routes if r.registration != NOWHERE]
        self._checkpoints = tuple(map(Rule, checkpoints))
        rules += [repr(c) for c in checkpoints]
        self.has_models = any(r.kind == "model" for r in routes)
        self.fingerprint = hashlib.sha256(json.dumps(rules).encode()).hexdigest()

    def __reduce__(self) -> tuple[Callable[[], Layout], tuple[()]]:
        """Another process makes it anew from its rules."""
        return self._remake, ()

    def place(self, rel: bytes) -> Destination | Ignored:
        """Say where a file belongs.

        Args:
            rel: The file's path relative to the watched folder.

        Returns:
            The destination, or the rule by which the file is ignored. Never raises.
        """
        folder, _, name = rel.rpartition(b"/")
        if _is_odd(rel) and _NO_FILE_PATH.search(rel):
            return Ignored("not the path of a file below the watched folder")
        run, within, encoded = self._in_folder(folder)
        if name == RUN_NOTE and not within:
            return Ignored("artifactd's own note of which run this folder is")
        text = as_text(rel)
        if ignored := self._exclude.file(text):
            return ignored
        if not self._all and not self._include.match(text):
            return Ignored("not in include")
        if isinstance(run, Ignored):
            return run
        if self._routes:
            return self._destination(run, self._within_run(join(within, name), encoded))
        return self._destination(run, (join_path(encoded, name), *self._unrouted))

    def run(self, folder: bytes) -> Destination | Ignored:
        """Say which run a run folder (relative to the watched folder) is; the artifact path is that of its top."""
        run = self._run(folder)
        return run if isinstance(run, Ignored) else self._destination(run, ("", *self._unrouted))

    def _destination(self, run: _Run, within: tuple[str, str, str, str, Registration]) -> Destination:
        experiment, name, folder, names, parent = run
        nests = self._nests and parent is None
        return Destination(experiment, name, folder, names, *within, parent=parent, nests=nests)

    def run_folder(self, rel: bytes) -> bytes | None:
        """Find the run folder that a path lies in.

        Args:
            rel: A file's or folder's path relative to the watched folder. As nothing is looked up, a path as
                deep as a run folder is taken for one.

        Returns:
            The run folder relative to the watched folder (the path itself when it is one); None above it, or
            where the layout's literal levels do not match. A folder at the level of {parent} is one, too.
        """
        levels = rel.split(b"/")[: len(self._segments)] if rel else []
        if len(levels) < self._least or self._mismatch(levels):
            return None
        return b"/".join(levels)

    def is_live(self, rel: bytes) -> bool:
        """Say whether a file, by its path relative to the watched folder, is one that grows while in use."""
        text = as_text(rel)
        return self._live_names.may_have(text.rpartition("/")[2]) and self._live.match(text) is not None

    def checkpoint(self, rel: bytes) -> Rule | None:
        """Say of which checkpoint a file, by its path relative to the watched folder, is the marker; None for none."""
        if not self._checkpoints or (folder := self.run_folder(rel)) is None:
            return None
        inner = as_text(rel[len(folder) :].lstrip(b"/"))
        return next((rule for rule in self._checkpoints if rule.marker.match(inner)), None)

    def excluded_folder(self, rel: bytes) -> str | None:
        """Say whether a scan can leave out a folder.

        Args:
            rel: The folder's path relative to the watched folder.

        Returns:
            The rule by which everything below is ignored; None when something below must be looked at.
        """
        ignored = self._exclude.folder(as_text(rel)) or self._mismatch(rel.split(b"/") if rel else [])
        return ignored.rule if ignored else None

    def _find_in_folder(self, folder: bytes) -> tuple[_Run | Ignored, bytes, str]:
        """What all files of a folder have in common: their run, the folder's path within it, and that encoded."""
        levels = folder.split(b"/") if folder else []
        within = b"/".join(levels[len(self._segments) :])
        levels = levels[: len(self._segments)]
        run: _Run | Ignored
        if len(levels) < self._least:
            run = self._mismatch(levels) or Ignored(f"above the run level of {self._template}")
        else:
            run = self._run(b"/".join(levels))
        return run, within, encode_folder(within)

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
        parent = folder.rpartition(b"/")[0] if self._nests and len(levels) == len(self._segments) else None
        if self._nests and parent is None:  # the run that holds the others
            values["run"] = values.pop(PARENT)
        names = tuple((name, value) for name, value in values.items() if name not in _CONSTANTS)
        values |= fixed
        return values["experiment"], values["run"], folder, names, parent

    def _within_run(self, inner: bytes, encoded: str) -> tuple[str, str, str, str, Registration]:
        name, text = inner.rpartition(b"/")[2], as_text(inner)
        for regex, folder, kind, rule, role, registration in self._routes:
            if found := regex.match(text):
                path = join_path(encoded if folder is None else folder, name)
                return path, kind, rule, role, registration.numbered(found.groupdict().get("version"))
        return (join_path(encoded, name), *self._unrouted)


def _routing(route: Route) -> tuple[re.Pattern[str], str | None, str, str, str, Registration]:
    """Give the route's regex, its artifact folder encoded, its kind, the rule for people, and what it is told as."""
    regex = union([rule_glob("route", route.match)])
    if route.kind == "model":
        regex = re.compile(number_group(regex.pattern))
    folder, rule = None, f"{route.origin}: route {route.match}" if route.origin else f"route {route.match}"
    if (path := route.artifact_path) is not None:
        raw = b"" if path == "." else path.encode("utf-8", "surrogateescape")
        if raw and _NO_FILE_PATH.search(raw):
            raise LayoutError(f"{rule}: artifact_path '{path}' is no folder of a run; write 'plots', 'a/b' or '.'")
        folder, rule = encode_folder(raw), f"{rule} → {path or '.'}"
    rule = rule if route.kind == "artifact" else f"{rule} as {route.kind}"
    single = route.kind == "model" and is_weights(route.match.rpartition("/")[2].encode())
    registration = replace(route.registration, single=single)
    return regex, folder, route.kind, rule, _role(route), registration


def _role(route: Route) -> str:
    """What the run is told of a file's content by its route; "" for nothing."""
    if route.kind in ("artifact", "model"):
        return ""
    return f"{route.kind}:{route.context}" if route.context else route.kind
