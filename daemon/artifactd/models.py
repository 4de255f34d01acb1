"""The model folders of one watch: which they are, and whether each is whole, by the disk alone.

A model is a folder with an ``MLmodel`` file that a route of ``kind = "model"`` matches, and all below it. Whole means
that every file that ``MLmodel`` names is there; what is whole and at rest goes to its logged model in one job.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace

from artifactd.layout import Destination, Layout
from artifactd.ledger import KnownFile, Ledger, State
from artifactd.names import encode_path
from artifactd.pace import LOOK_AGAIN, given_up_at
from artifactd.paths import join, within
from artifactd.reading.model import MAX_BYTES, NAME, Model, read_model
from artifactd.reading.problems import Unreadable
from artifactd.registration import MODEL, UNWHOLE, WAITS, ModelRole, Registration, model_name
from artifactd.runfolder import CONTROL
from artifactd.watching.inside import open_file, pass_to
from artifactd.watching.remove import ASIDE
from artifactd.watching.scan import Listing, walk
from artifactd.watching.signature import Signature, rest_at

MAY_FOLLOW = 30.0
"""Seconds for which a file that a model's route names waits for the ``MLmodel`` that would make its folder one."""

_FRESH = 5.0
"""Seconds for which a judgement stands while looks see nothing new: a scan comes by each folder of a model."""
_SHOWN = 3
_KEPT = 1000
"""Models whose MLmodel is not read again while it does not change."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's folder as it stands now.

    Attributes:
        rel: The folder, relative to the watched folder.
        inner: The same, relative to the run folder.
        registration: What becomes of it in the registry.
        due_at: Unix seconds from which it is at rest, or from which it is to be looked at again while it is not whole.
        lacks: Why it is no whole model; "" for one that is.
        plain: It is given up: its files go as plain artifacts.
        partial: All that is there of it is stored, and the rest is gone from the disk: it stays as it is.
        members: Its files, relative to the watched folder.
        changed: It is one, or is whole, or is given up, as it was not at the last look: look at all of it.
    """

    rel: bytes
    inner: bytes
    registration: Registration
    due_at: float
    lacks: str = ""
    plain: bool = False
    partial: bool = False
    members: dict[bytes, Signature] = field(default_factory=dict)
    changed: bool = False

    @property
    def name(self) -> str:
        """The logged model's."""
        return model_name(self.inner)

    @property
    def role(self) -> str:
        """Of its files."""
        levels = len(self.rel.split(b"/")) if self.rel else 0
        return str(ModelRole(levels, self.registration.number, self.registration.token))

    @property
    def token(self) -> str:
        """Differs when its files are to be looked at anew."""
        state = f"plain:{self.lacks}" if self.plain else "waits" if self.lacks else ""
        return f"{self.role}:{state}"

    @property
    def reason(self) -> str | None:
        """What its files wait for besides coming to rest."""
        return f"{WAITS}: {self.lacks}" if self.lacks else None

    def path(self, rel: bytes) -> str:
        """Where a file of it lies in the logged model."""
        return encode_path(rel[len(self.rel) :].lstrip(b"/") if self.rel else rel)

    def takes(self, rel: bytes) -> bool:
        """Whether a file goes to the logged model."""
        folder, _, name = rel.rpartition(b"/")
        of_the_run = not self.inner and folder == self.rel and name in CONTROL
        return not self.plain and not of_the_run and within(rel, self.rel)

    def role_of(self, rel: bytes) -> str:
        """The role of a file in a folder that is given up."""
        return f"{UNWHOLE}:{self.lacks}" if rel == join(self.rel, NAME) else ""


class ModelFolders:
    """Finds and judges model folders.

    Args:
        ledger: Says what is stored.
        root: The watch's number in the ledger.
        layout: Where files go.
        settle: Quiet time in seconds.
    """

    def __init__(self, ledger: Ledger, root: int, layout: Layout, settle: float) -> None:
        self._ledger = ledger
        self._root = root
        self._layout = layout
        self._settle = settle
        self._seen: dict[bytes, str] = {}
        self._judged: dict[bytes, tuple[float, bool, ModelFolder]] = {}
        self._read: dict[bytes, tuple[Signature, Model | str]] = {}

    def around(self, root_fd: int, listing: Listing, now: float, *, ended: bool) -> ModelFolder | None:
        """The model folder that a folder is, or lies in; the outermost where one lies in another.

        Args:
            root_fd: The watched folder.
            listing: Of the folder.
            now: Unix seconds.
            ended: The run is over.
        """
        rel = listing.rel
        if not self._layout.has_models or (run_folder := self._layout.run_folder(rel)) is None:
            return None
        found = self._find(root_fd, run_folder, rel)
        if found is None:
            return None
        judged_at, as_ended, model = self._judged.get(found[0], (0.0, ended, None))
        fresh = as_ended == ended and 0 <= now - judged_at < _FRESH
        over = model is not None and bool(model.lacks) and not model.plain and model.due_at <= now
        if model is None or not fresh or over or not self._agrees(model, listing, run_folder):
            model = self._judge(root_fd, *found, run_folder, now, ended=ended)
            if len(self._judged) >= _KEPT:
                self._judged.clear()
            self._judged[model.rel] = now, ended, model
        changed = self._seen.get(model.rel) != model.token
        self._seen[model.rel] = model.token
        return replace(model, changed=True) if changed else model

    def is_stored(self, model: ModelFolder) -> bool:
        """Whether all that is on disk of a model is stored as it is."""
        by_folder: dict[bytes, dict[bytes, Signature]] = {}
        for rel, signature in model.members.items():
            folder, name = os.path.split(rel)
            by_folder.setdefault(folder, {})[name] = signature
        for folder, files in by_folder.items():
            known = self._ledger.folder(self._root, folder, create=False)
            rows = {} if known is None else self._ledger.known_files(known[0], files)
            if not all(_is_stored(rows.get(name), signature) for name, signature in files.items()):
                return False
        return True

    def _agrees(self, model: ModelFolder, listing: Listing, run_folder: bytes) -> bool:
        """Whether a listing shows nothing that the last judgement has not seen."""
        return all(
            model.members.get(join(listing.rel, name)) == signature or not self._belongs(listing.rel, name, run_folder)
            for name, signature in listing.files.items()
        )

    def was_around(self, rel: bytes) -> bytes | None:
        """The folder that was a model's at an earlier look, and is none any more; told once."""
        gone = next((folder for folder in self._seen if within(rel, folder)), None) if self._seen else None
        if gone is not None:
            del self._seen[gone]
        return gone

    def whole(self, root_fd: int, rel: bytes, now: float) -> ModelFolder | None:
        """This very folder as a model, if it is one that is whole and at rest now."""
        run_folder = self._layout.run_folder(rel)
        found = None if run_folder is None else self._find(root_fd, run_folder, rel)
        if run_folder is None or found is None or found[0] != rel:
            return None
        self._judged.pop(rel, None)
        model = self._judge(root_fd, *found, run_folder, now, ended=False)
        return None if model.lacks or model.partial or model.due_at > now else model

    def _find(self, root_fd: int, run_folder: bytes, rel: bytes) -> tuple[bytes, Registration] | None:
        levels = rel.split(b"/") if rel else []
        for depth in range(len(run_folder.split(b"/")) if run_folder else 0, len(levels) + 1):
            folder = b"/".join(levels[:depth])
            placed = self._layout.place(join(folder, NAME))
            if not isinstance(placed, Destination) or placed.kind != MODEL:
                continue
            if _is_file(root_fd, folder) or self._was_stored(folder):
                return folder, placed.registration
        return None

    def _was_stored(self, folder: bytes) -> bool:
        """A model that was stored may be removed from the disk, file by file, and stays one meanwhile."""
        known = self._ledger.folder(self._root, folder, create=False)
        row = None if known is None else self._ledger.known_files(known[0], [NAME]).get(NAME)
        return row is not None and row.state is State.STORED and ModelRole.is_of(row.role)

    def _judge(
        self, root_fd: int, rel: bytes, registration: Registration, run_folder: bytes, now: float, *, ended: bool
    ) -> ModelFolder:
        members: dict[bytes, Signature] = {}
        hidden = ""
        for listing in walk(root_fd, rel, skip=lambda below: self._layout.excluded_folder(below) is not None):
            names = [n for n in listing.files if self._belongs(listing.rel, n, run_folder)]
            members |= {join(listing.rel, n): listing.files[n] for n in names}
            for name, reason in listing.unreadable.items():
                hidden = f"{os.fsdecode(join(listing.rel, name))} cannot be looked at ({reason})"
        inner = rel[len(run_folder) :].lstrip(b"/")
        due_at = max((rest_at(s, self._settle, now) for s in members.values()), default=now)
        lacks = hidden or self._lacks(root_fd, rel, members)
        whole = ModelFolder(rel, inner, registration, due_at, members=members)
        if not lacks:
            return whole
        if self.is_stored(whole):
            return replace(whole, partial=True)
        give_up = given_up_at(members.values(), self._settle, now, ended=ended)
        return replace(whole, due_at=min(give_up, now + LOOK_AGAIN), lacks=lacks, plain=give_up <= now)

    def _belongs(self, folder: bytes, name: bytes, run_folder: bytes) -> bool:
        if name.startswith(ASIDE) or (folder == run_folder and name in CONTROL):
            return False
        return isinstance(self._layout.place(join(folder, name)), Destination)

    def _lacks(self, root_fd: int, rel: bytes, members: dict[bytes, Signature]) -> str:
        """What keeps a folder from being a whole model; "" for nothing."""
        at = join(rel, NAME)
        if at not in members:
            return "MLmodel is not there"
        model = self._model(root_fd, at, members[at])
        if isinstance(model, str):
            return f"its MLmodel cannot be used: {model}"
        if not model.is_ended:
            return "its MLmodel is not written to its end: it has no utc_time_created"
        inner = [path[len(rel) :].lstrip(b"/") if rel else path for path in members]
        there = [os.fsdecode(path) for path in inner]
        reasons = [f"{path} lies outside of its folder" for path in model.outside]
        reasons += [f"{path} is not there yet" for path in model.missing(there) if path not in model.outside]
        if not reasons:
            carried = {os.fsdecode(path) for path in inner if encode_path(path) == os.fsdecode(path)}
            lost = [path for path in model.missing(carried) if path not in model.outside]
            reasons = [f"{path} has a name that MLflow cannot carry" for path in lost]
        more = f", and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        return f"{', '.join(reasons[:_SHOWN])}{more}"

    def _model(self, root_fd: int, at: bytes, signature: Signature) -> Model | str:
        """What an ``MLmodel`` says, or why it cannot be used."""
        if (old := self._read.get(at)) is not None and old[0] == signature:
            return old[1]
        try:
            fd = open_file(root_fd, at)
        except OSError as exc:
            return exc.strerror or str(exc)
        said: Model | str
        with open(fd, "rb") as stream:
            try:
                said = read_model(stream.read(MAX_BYTES + 1))
            except Unreadable as exc:
                said = str(exc)
            except OSError as exc:
                return exc.strerror or str(exc)
            if Signature.of(os.fstat(fd)) != signature:
                return "it changes"
        if len(self._read) >= _KEPT:
            self._read.clear()
        self._read[at] = signature, said
        return said


def _is_file(root_fd: int, folder: bytes) -> bool:
    try:
        fd = pass_to(root_fd, folder)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.stat(NAME, dir_fd=fd, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(fd)


def _is_stored(row: KnownFile | None, signature: Signature) -> bool:
    return row is not None and row.state is State.STORED and row.signature == signature and ModelRole.is_of(row.role)
