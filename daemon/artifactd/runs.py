"""The run folders of one watch: what each says of itself, and the row of its run in the ledger."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from artifactd.layout import Destination, Layout
from artifactd.ledger import Ledger
from artifactd.ledger.lives import Life
from artifactd.names import RUN_NOTE, encode_text
from artifactd.paths import join
from artifactd.runfolder import (
    MARKERS,
    MAX_MARKER_BYTES,
    MAX_README_BYTES,
    MAX_SETTINGS_BYTES,
    README_NAME,
    SETTINGS_NAME,
    Alive,
    RunSettings,
    RunSettingsError,
    adopted_run_id,
    described_by,
    noted_run_id,
    parse_settings,
    word_of,
)
from artifactd.watching.birth import birth_of
from artifactd.watching.inside import NotRegular, open_file, pass_to
from artifactd.watching.scan import Listing, look
from artifactd.watching.signature import Signature, rest_at

NOTE_TAG = "mlflow.note.content"
"""The tag that MLflow's UI shows as a run's description."""

_SAYING = (SETTINGS_NAME, README_NAME, RUN_NOTE)
_READ = (*_SAYING, *MARKERS)
_MAX_NOTE_BYTES = 100
_FACTS_KEPT = 10_000
_TAG_LIMIT = 5000
"""Characters of a tag value; MLflow cuts silently at 8,000 (older servers at 5,000)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a watch's runs live and who they belong to.

    Attributes:
        target: Tracking URI without secrets.
        host: This host's name, for keys and tags.
        fleet: The same folder on several hosts is one run.
    """

    target: str
    host: str
    fleet: bool


@dataclass(slots=True)
class Facts:
    """What is known of a run folder.

    Attributes:
        identity: The run's: its key, or the id of the run that is adopted.
        token: Differs when files of the folder may have to go elsewhere, or at another time.
        settings: From its artifactd.toml.
        error: Why that cannot be used.
        seen: The files that it says so in, as they were read.
        ended: A marker says that the run is over.
        rest_at: When these files will be at rest, unix seconds; 0 where there are none.
        life: What it says of the run's life.
        parent: The folder of the run that it is nested in, and `above` what that one says of itself.
        row: The run's number in the ledger, once something of it is due.
        known: The number of a run that exists, before something of it is due again.
        told: The ledger has these settings.
        noted: The ledger has its life.
    """

    identity: str
    token: str
    settings: RunSettings
    error: str | None
    seen: dict[bytes, Signature]
    ended: bool
    rest_at: float
    life: Life
    parent: bytes | None = None
    above: Facts | None = None
    row: int | None = None
    known: int | None = None
    told: bool = False
    noted: bool = False


def key_of(where: Place, path: bytes) -> str:
    """The key of the run of the folder with this absolute path."""
    owner = "fleet" if where.fleet else where.host
    return hashlib.sha256(owner.encode() + b"\0" + path).hexdigest()[:40]


def tags_of(where: Place, path: bytes, placed: Destination, settings: RunSettings) -> dict[str, str]:
    """The tags of the run of the folder with this absolute path, its key aside."""
    tags = {
        "artifactd.host": where.host,
        "artifactd.path": encode_text(path, limit=_TAG_LIMIT),
        "mlflow.source.name": "artifactd",
    }
    tags |= {f"artifactd.{name}": value for name, value in placed.names}
    tags |= dict(settings.tags)
    if settings.description is not None:
        tags[NOTE_TAG] = settings.description
    return tags


def began(root_fd: int, folder: bytes, files: Iterable[Signature], marked_at: float | None, now: float) -> float:
    """When the run of a folder began, unix seconds.

    That is when the folder was made: a file's own time may be that of a copy, years old. Where that is not known, or
    the folder is the watched one, which no job has made, it is when the first of its files came here. A marker that is
    older than its folder was restored with it: of such a tree only its end is known.
    """
    born = None
    if folder:
        with contextlib.suppress(OSError):
            fd = pass_to(root_fd, folder)
            try:
                born = birth_of(fd)
            finally:
                os.close(fd)
    if born is None:
        born = min((signature.ctime_ns / 1e9 for signature in files), default=now)
    return max(0.001, min(born, now, now if marked_at is None else marked_at))


def _content(root_fd: int, folder: bytes, name: bytes, limit: int, seen: dict[bytes, Signature]) -> bytes | None:
    """A file's first bytes, and in `seen` what it looked like; None where there is no such file."""
    try:
        fd = open_file(root_fd, join(folder, name))
    except (FileNotFoundError, NotRegular):
        return None
    try:
        seen[name] = Signature.of(os.fstat(fd))
        return os.read(fd, limit)
    finally:
        os.close(fd)


class RunFolders:
    """Args as ``Looker`` takes them."""

    def __init__(self, ledger: Ledger, root: int, path: bytes, layout: Layout, settle: float, place: Place) -> None:
        self._ledger = ledger
        self._root = root
        self._path = path
        self._layout = layout
        self._settle = settle
        self._where = place
        self._facts: dict[bytes, Facts] = {}

    def forget(self, rel: bytes) -> None:
        """What was read of this folder, if it is a run folder, is to be read anew."""
        self._facts.pop(rel, None)

    def facts(self, root_fd: int, run_folder: bytes, listing: Listing, now: float) -> tuple[Facts, bool]:
        """What a run folder says of itself, and whether that moved all its files since the last look.

        Args:
            root_fd: The watched root.
            run_folder: Relative to it.
            listing: Of the run folder, or of one below it.
            now: Unix seconds.
        """
        old = self._facts.get(run_folder)
        if old is not None:
            if listing.rel != run_folder:
                return old, False
            ended = not listing.files.keys().isdisjoint(MARKERS)
            # A look at some names says nothing of those that it does not mention.
            same_end = ended == old.ended or (not listing.whole and not ended)
            if same_end and all(
                listing.files.get(name) == old.seen.get(name)
                for name in _READ
                if listing.whole or name in listing.files
            ):
                return old, False
        facts = self._read(root_fd, run_folder, listing, now)
        if old is not None and old.token != facts.token and facts.life.nests:
            for folder in [folder for folder, of in self._facts.items() if of.parent == run_folder]:
                del self._facts[folder]
        if len(self._facts) >= _FACTS_KEPT:
            self._facts.clear()
        self._facts[run_folder] = facts
        return facts, old is not None and old.token != facts.token

    def _read(self, root_fd: int, run_folder: bytes, listing: Listing, now: float) -> Facts:
        settings, error = RunSettings(), None
        seen: dict[bytes, Signature] = {}
        try:
            text = _content(root_fd, run_folder, SETTINGS_NAME, MAX_SETTINGS_BYTES + 1, seen)
            settings = RunSettings() if text is None else parse_settings(text)
        except RunSettingsError as exc:
            error = f"the run folder's artifactd.toml is wrong: {exc}"
        except OSError as exc:
            error = f"the run folder's artifactd.toml cannot be read: {exc.strerror}"
        note = None
        with contextlib.suppress(OSError):
            note = _content(root_fd, run_folder, RUN_NOTE, _MAX_NOTE_BYTES, seen)
        adopted = settings.run_id or noted_run_id(note) or adopted_run_id(os.path.basename(run_folder))
        # Read in any case, so that a change of it is seen. One that cannot be read is a failure of its own.
        readme = None
        with contextlib.suppress(OSError):
            readme = _content(root_fd, run_folder, README_NAME, MAX_README_BYTES + 1, seen)
        goes = isinstance(self._layout.place(join(run_folder, README_NAME)), Destination)
        if settings.description is None and not adopted and readme is not None and goes:
            settings = replace(settings, description=described_by(readme))
        identity = f"run:{adopted}" if adopted else self._key(run_folder)
        quiet = max((rest_at(signature, self._settle, now) for signature in seen.values()), default=0.0)
        marks = look(root_fd, run_folder, MARKERS.keys()).files
        seen |= marks
        placed = self._layout.run(run_folder)
        parent, nests = (placed.parent, placed.nests) if isinstance(placed, Destination) else (None, False)
        parent = None if adopted else parent  # such a run is nested where its maker has it
        above = None if parent is None else self._of_parent(root_fd, parent, now)
        if above is not None:
            error = error or above.error
        life = Life(
            began=int(began(root_fd, run_folder, listing.files.values(), _marked_at(marks), now) * 1000),
            nests=nests,
            may_end=settings.end_run,
            signs="" if settings.alive == Alive() else json.dumps(asdict(settings.alive)),
        )
        if marks:
            life = self._ended(root_fd, run_folder, marks, life)
        told = f"{self._where.target}\0{identity}\0{error}\0{bool(marks)}"
        if above is not None:
            told += f"\0{above.identity}"
        token = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        return Facts(identity, token, settings, error, seen, bool(marks), quiet, life, parent, above)

    def _ended(self, root_fd: int, run_folder: bytes, marks: dict[bytes, Signature], life: Life) -> Life:
        said: dict[bytes, bytes] = {}
        for name in marks:
            said[name] = b""  # of one that cannot be read, its being there is known
            with contextlib.suppress(OSError):
                said[name] = _content(root_fd, run_folder, name, MAX_MARKER_BYTES, marks) or b""
        word, at = word_of(said), _marked_at(marks)
        if word is None or at is None:
            return life
        return replace(life, marker=word.status, marked_at=int(at * 1000), reason=word.reason)

    def _of_parent(self, root_fd: int, parent: bytes, now: float) -> Facts:
        """What the folder says that this one's run is nested in."""
        return self._facts.get(parent) or self.facts(root_fd, parent, look(root_fd, parent), now)[0]

    def _key(self, run_folder: bytes) -> str:
        """The run's key: the same for the same folder of one host (or fleet), and plain enough for a search filter."""
        return key_of(self._where, join(self._path, run_folder))

    def row(self, placed: Destination, facts: Facts, now: float) -> int:
        """The run's number in the ledger, made when it is new. `now` (unix seconds) says whether its settings are told.

        Those of a run that exists are only taken from a file at rest: MLflow never lets a param change.
        """
        if facts.row is not None and facts.noted and facts.told:
            return facts.row
        if facts.row is None:
            facts.row = self._ledger.run_for(
                self._root, placed.folder, self._where.target, facts.identity, placed.experiment,
                facts.settings.name or placed.run,
            )  # fmt: skip
        self._note(facts, facts.row, now)
        at_rest = now >= facts.rest_at
        if not facts.told and (at_rest or self._ledger.run(facts.row).run_id is None):
            tags = tags_of(self._where, join(self._path, placed.folder), placed, facts.settings)
            told = {"params": dict(facts.settings.params), "name": facts.settings.name}
            self._ledger.set_run_settings(facts.row, tags, told)
            facts.told = at_rest
        return facts.row

    def tell(self, run_folder: bytes, facts: Facts, now: float) -> None:
        """Take over what changed in what is said of a run that exists, though none of its files is due."""
        if facts.noted and (facts.told or facts.error is not None or now < facts.rest_at):
            return
        row = facts.row
        if row is None:
            row = facts.known = self._ledger.known_run(self._root, run_folder, self._where.target, facts.identity)
        if row is None:
            return
        self._note(facts, row, now)
        placed = self._layout.run(run_folder)
        if isinstance(placed, Destination) and facts.error is None and now >= facts.rest_at:
            self.row(placed, facts, now)

    def _note(self, facts: Facts, row: int, now: float) -> None:
        if facts.noted:
            return
        life = facts.life
        placed = None if facts.parent is None else self._layout.run(facts.parent)
        if facts.above is not None and isinstance(placed, Destination):
            life = replace(life, parent=self.row(placed, facts.above, now))
        self._ledger.note_life(row, life)
        facts.noted = True


def _marked_at(marks: Mapping[bytes, Signature]) -> float | None:
    """When the last marker was made, unix seconds; its own time may be set into the future."""
    return max((min(signature.mtime_ns, signature.ctime_ns) / 1e9 for signature in marks.values()), default=None)
