"""The look: compare what stands in a folder with what the ledger remembers, and write down what is due.

The one code path of the program. A lost event, an overflow, a crash, a changed rule, a run that moved: each is the
reason for a look, and none is known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from artifactd.errors import Kind
from artifactd.excludes import Ignored
from artifactd.layout import Layout
from artifactd.ledger import NOTHING_SENT, FileId, Growth, KnownFile, Ledger, State, Wanted
from artifactd.ledger.destinations import destination
from artifactd.ledger.rows import CLASH
from artifactd.models import MAY_FOLLOW, ModelFolder, ModelFolders
from artifactd.names import RUN_NOTE
from artifactd.pace import news_due, pace
from artifactd.paths import join
from artifactd.registration import MODEL, WEIGHTS, ModelRole
from artifactd.runfolder import CONTROL
from artifactd.runs import Facts, Place, RunFolders
from artifactd.text import printable
from artifactd.watching.remove import ASIDE
from artifactd.watching.scan import Listing
from artifactd.watching.signature import Signature, rest_at
from artifactd.whole import METRICS, Checkpoints

_NO_SIGNATURE = Signature(0, 0, 0, 0)
_NOBODY = FileId(0, b"")
LIVE_LOOK = 15.0
"""Most seconds between two looks at a growing file that waits for its next snapshot or its end."""


@dataclass(slots=True)
class _At:
    """A look at one folder while its rows are made.

    Attributes:
        root: The watched root, open.
        folder: Its number in the ledger.
        rel: Its path relative to the root.
        facts: Of its run folder.
        now: Unix seconds.
        model: The model folder that it is, or lies in.
        taken: Destinations of this look's own files.
        ways: By artifact folder, which part of it is stored as a file.
        folders: By artifact folder, names of the folders in it; None where there are too many.
        files: How many files are thought about.
    """

    root: int
    folder: int
    rel: bytes
    facts: Facts | None
    now: float
    model: ModelFolder | None = None
    taken: dict[int, bytes] = field(default_factory=dict)
    ways: dict[str, str | None] = field(default_factory=dict)
    folders: dict[str, set[str] | None] = field(default_factory=dict)
    files: int = 0


@dataclass(slots=True)
class Seen:
    """What a look changed: how many rows, and run folders whose every file must be looked at.

    `moved` says how many files that were sent before go elsewhere now, `aside` are files (relative path) that a crash
    left in the middle of their removal, `delivered` those that stand on disk exactly as they are stored.
    """

    changed: int = 0
    moved: int = 0
    aside: list[bytes] = field(default_factory=list)
    delivered: list[tuple[bytes, Signature]] = field(default_factory=list)
    look_deep: list[bytes] = field(default_factory=list)


class Looker:
    """Looks at the folders of one watched root.

    Args:
        ledger: Written to within the caller's transaction.
        root: The root's number in the ledger.
        path: Its absolute path.
        layout: Where files go.
        settle: Quiet time in seconds.
        place: The runs' home.
        removes: Delivered files are removed: say which stand on disk exactly as they are stored.
    """

    def __init__(
        self, ledger: Ledger, root: int, path: bytes, layout: Layout, settle: float, place: Place, *,
        removes: bool = False,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._root = root
        self._path = path
        self._layout = layout
        self._settle = settle
        self._where = place
        self._removes = removes
        self._ahead: dict[FileId, tuple[Signature, float]] = {}
        self._runs = RunFolders(ledger, root, path, layout, settle, place)
        self.models = ModelFolders(ledger, root, layout, settle)
        self.checkpoints = Checkpoints(ledger, root, layout, settle, removes=removes)

    def apply(self, root_fd: int, listing: Listing, now: float, *, repace: bool = False) -> Seen:
        """Bring the ledger in line with a listing.

        Args:
            root_fd: The watched root, to read a run folder's artifactd.toml.
            listing: As seen on disk.
            now: Unix seconds.
            repace: Also say anew when unchanged growing files are due: their time has come, or seems to.

        Returns:
            What changed.
        """
        seen = Seen()
        if listing.gone:
            if listing.rel:  # a root that is away is a pause, never a deletion
                for rel in (listing.rel, *self._ledger.subfolders(self._root, listing.rel)):
                    self._forget_folder(rel)
            return seen
        for name in [n for n in listing.files if n.startswith(ASIDE)]:
            del listing.files[name]  # no file of the user's, and in no ledger: each look finds it anew
            seen.aside.append(join(listing.rel, name))
        run_folder = self._layout.run_folder(listing.rel)
        facts = None
        if run_folder is not None:
            facts, moved = self._runs.facts(root_fd, run_folder, listing, now)
            self._runs.tell(run_folder, facts, now)
            if moved:
                seen.look_deep.append(run_folder)
        model = self._model(root_fd, listing, facts, seen, now)
        rules = f"{self._layout.fingerprint}:{self._settle:g}:{'' if facts is None else facts.token}"
        rules += "" if model is None else f":{model.token}"
        known_folder = self._ledger.folder(self._root, listing.rel, create=bool(listing.files or listing.others))
        if known_folder is None:
            self._note_unreadable(listing, seen, now)
            return seen
        folder, old_rules = known_folder
        settled = listing.whole and rules == old_rules and model is None and not self._removes
        files, known = self._compare(folder, listing, settled=settled)
        at = _At(root_fd, folder, listing.rel, facts, now, model, files=len(files))
        wanted = self._wanted(at, files, listing.others, known, rules == old_rules, repace)
        if (
            self._removes
            and (rules == old_rules or not listing.whole)
            and (model is None or self.models.is_stored(model))
        ):
            seen.delivered = [
                (join(listing.rel, name), signature)
                for name, signature in listing.files.items()
                if (k := known.get(name)) is not None and k.state is State.STORED and k.signature == signature
            ]
        self._ledger.want(folder, wanted, now)
        if wanted and facts is not None and (run := facts.row or facts.known) is not None:
            newest = min(max(row.signature.ctime_ns for row in wanted) / 1e9, now)
            self._ledger.note_change(run, newest, "a file changed", fleet=self._where.fleet)
        seen.moved += sum(_moves(known[row.name], row) for row in wanted if row.name in known)
        if listing.whole:
            here = listing.files.keys() | listing.others.keys() | (listing.unreadable.keys() - {b""})
            self._ledger.forget(folder, [n for n, k in known.items() if n not in here and k.state is not State.STORED])
            if rules != old_rules:
                self._ledger.set_rules(folder, rules)
        elif rules != old_rules and wanted:
            # Some rows are by these rules and the others by those of before: the next whole look compares them all.
            self._ledger.set_rules(folder, "")
        self._note_unreadable(listing, seen, now)
        seen.changed += len(wanted)
        return seen

    def skip(self, rel: bytes) -> bool:
        """Whether everything below this folder is excluded, so that a scan need not go there."""
        return self._layout.excluded_folder(rel) is not None

    def skips_way_to(self, rel: bytes) -> bool:
        """Whether a scan does not come to this folder, since it or one above it is excluded."""
        parts = rel.split(b"/")
        return any(self.skip(b"/".join(parts[:n])) for n in range(1, len(parts) + 1))

    def forget_name(self, rel: bytes, name: bytes) -> bool:
        """A name that a look at single names did not find; whether all below `rel` is to be looked at for that."""
        known = self._ledger.folder(self._root, rel, create=False)
        if known is not None:
            self._ledger.forget(known[0], [name])
        if name != RUN_NOTE and name not in CONTROL:
            return False
        self._runs.forget(rel)  # what the folder said of itself
        return True

    def _forget_folder(self, rel: bytes) -> None:
        known = self._ledger.folder(self._root, rel, create=False)
        if known is not None:
            files = self._ledger.known_files(known[0])
            self._ledger.forget(known[0], [n for n, k in files.items() if k.state is not State.STORED])
        self._runs.forget(rel)

    def _model(self, root_fd: int, listing: Listing, facts: Facts | None, seen: Seen, now: float) -> ModelFolder | None:
        """The model folder that a listing is of, or lies in; one that has become another is looked at in whole."""
        model = self.models.around(root_fd, listing, now, ended=facts is not None and facts.ended)
        if model is None and (gone := self.models.was_around(listing.rel)) is not None:
            seen.look_deep.append(gone)
        elif model is not None and model.changed:
            seen.look_deep.append(model.rel)
        return model

    def _compare(
        self, folder: int, listing: Listing, *, settled: bool
    ) -> tuple[dict[bytes, Signature], dict[bytes, KnownFile]]:
        """The files that are to be thought about, and what is known of them and of all that is to be forgotten.

        Most of a scan, and of a start, is `settled`: what stands as it is stored is passed over before anything else.
        """
        if not settled:
            names = None if listing.whole else [*listing.files, *listing.others]
            return listing.files, self._ledger.known_files(folder, names)
        files, others = self._ledger.unsettled_files(folder, listing.files)
        changed = self._ledger.known_files(folder, files.keys() & others)
        return files, self._ledger.known_files(folder, settled=False) | changed

    def _wanted(
        self, at: _At, files: dict[bytes, Signature], others: Iterable[bytes], known: dict[bytes, KnownFile],
        same_rules: bool, repace: bool,
    ) -> list[Wanted]:  # fmt: skip
        wanted: list[Wanted] = []
        for name, signature in files.items():
            old = known.get(name)
            if old is None:
                wanted.append(self._row(at, name, signature, None))
                continue
            same = old.signature == signature
            due = old.state is State.DUE and old.kind is None
            held = due and ModelRole.is_of(old.role)
            paced = repace and (bool(old.growth) or held)
            # What a marker waits for is no matter of its own folder's rules, or of its time.
            paced |= due and self._layout.checkpoint(join(at.rel, name)) is not None
            if same and same_rules and old.kind != CLASH and not paced:
                continue
            if same and at.model is not None and at.model.partial and ModelRole.is_of(old.role):
                continue
            row = self._row(at, name, signature, old)
            unmoved = same and (old.dest, old.role) == (row.dest, row.role) and row.state is State.DUE
            if unmoved and old.state in (State.STORED, State.UPLOADING):
                continue
            waits = unmoved and old.state is State.DUE and old.growth is row.growth is Growth.NONE
            if waits and (same_rules or old.kind) and not (held and paced):
                continue
            wanted.append(row)
        for name in others:
            if name not in known or known[name].state is not State.IGNORED:
                wanted.append(Wanted(name, State.IGNORED, _NO_SIGNATURE))
        return wanted

    def _row(self, at: _At, name: bytes, signature: Signature, old: KnownFile | None) -> Wanted:
        """The row that a file shall have; what was sent of it before only paces it."""
        path, facts, now = join(at.rel, name), at.facts, at.now
        placed = self._layout.place(path)
        if isinstance(placed, Ignored) or facts is None:
            return Wanted(name, State.IGNORED, signature)
        run = self._runs.row(placed, facts, now)
        if at.model is not None and at.model.takes(path):
            return self._row_of_model(at, at.model, name, signature, run, facts, old)
        directory, _, leaf = placed.artifact_path.rpartition("/")
        dest = destination(self._where.target, facts.identity, placed.artifact_path)
        role = placed.role if at.model is None else at.model.role_of(path)
        if placed.kind == MODEL and placed.registration.name and placed.registration.single and at.model is None:
            role = f"{WEIGHTS}:{placed.registration.to_text()}"
        error: tuple[str, str, str] | None = None
        if facts.error is not None:
            error = (Kind.PERMANENT, facts.error, "Mend it; the files of its folder are then looked at again")
        elif (clash := self._clash(at, name, signature, facts, run, placed.artifact_path, dest)) is not None:
            error = (CLASH, *clash)
        else:
            at.taken[dest] = join(self._path, path)
        if error is not None:
            return Wanted(
                name, State.FAILED, signature, run, directory, leaf, dest, None, *error,
                role=role, strange=self._where.fleet,
            )  # fmt: skip
        last = self._layout.checkpoint(path) if at.model is None else None
        # A line counts as it comes. A marker is written once, whatever it says.
        live = last is None and (self._layout.is_live(path) or role == METRICS)
        past = old.past if old is not None and old.dest == dest else NOTHING_SENT
        since = self._since(FileId(at.folder, name), signature, now) if live else signature
        when = pace(since, past, live=live, ended=facts.ended, settle=self._settle, now=now)
        growth = Growth.SNAPSHOT if when.snapshot else Growth.QUIET if live else Growth.NONE
        if placed.kind == MODEL and not placed.registration.single and at.model is None and not facts.ended:
            due_at = max(when.due_at, rest_at(signature, MAY_FOLLOW, now))
            when = when._replace(due_at=due_at, reason=when.reason or "an MLmodel that would make its folder a model")
        if last is not None:
            hold = self.checkpoints.hold(at.root, path, signature, last, now, ended=facts.ended)
            if hold is not None:
                when, growth = when._replace(due_at=hold.due_at, reason=hold.reason), Growth.HELD
        if role == METRICS and not when.snapshot and not facts.ended:
            news_at = news_due(signature, None if old is None or old.dest != dest else old.told_at, now)
            if news_at is not None and news_at < when.due_at:
                when, growth = when._replace(due_at=news_at), Growth.NEWS
        # A growing file is looked at now and then, since nothing says when it has grown enough for a snapshot.
        due_at = min(when.due_at, now + LIVE_LOOK) if live and not facts.ended else when.due_at
        return Wanted(
            name, State.DUE, signature, run, directory, leaf, dest, due_at, error=when.reason or None, growth=growth,
            role=role, strange=self._where.fleet,
        )  # fmt: skip

    def _row_of_model(
        self, at: _At, model: ModelFolder, name: bytes, signature: Signature, run: int, facts: Facts,
        old: KnownFile | None,
    ) -> Wanted:  # fmt: skip
        """The row of a file that goes to its logged model, where nothing but an older content of the model can lie."""
        path = f"{model.name}/{model.path(join(at.rel, name))}"
        directory, _, leaf = path.rpartition("/")
        dest = destination(self._where.target, facts.identity, f"{MODEL}:/{path}")
        past = old.past if old is not None and old.dest == dest else NOTHING_SENT
        when = pace(signature, past, live=False, ended=facts.ended, settle=self._settle, now=at.now)
        row = Wanted(
            name, State.DUE, signature, run, directory, leaf, dest, max(model.due_at, when.due_at),
            error=model.reason or when.reason or None, role=model.role,
        )  # fmt: skip
        if facts.error is None:
            return row
        cure = "Mend it; the files of its folder are then looked at again"
        return row._replace(state=State.FAILED, due_at=None, kind=Kind.PERMANENT, error=facts.error, cure=cure)

    def _since(self, file: FileId, signature: Signature, now: float) -> Signature:
        """For a change in the future (the clock was set back): as if it had been made at the first look that saw it.

        A growing file is looked at again and again, and would be told to wait as long each time.
        """
        if signature.ctime_ns / 1e9 <= now:
            self._ahead.pop(file, None)
            return signature
        seen, first = self._ahead.get(file, (None, now))
        first = min(first, now) if seen == signature else now
        self._ahead[file] = signature, first
        return signature._replace(ctime_ns=int(first * 1e9))

    def _clash(
        self, at: _At, name: bytes, signature: Signature, facts: Facts, run: int, path: str, dest: int
    ) -> tuple[str, str] | None:
        """What stands in the file's way in the store, and what to do; None for nothing."""
        file = FileId(at.folder, name)
        holder = at.taken.get(dest) or self._ledger.holder(dest, file, run, path)
        own = holder == join(self._path, join(at.rel, name))  # as a root of before had it
        if holder is not None and (own or not os.path.lexists(holder)):
            if self._ledger.move(None if own else self._root, dest, file, signature, run, path):
                holder = None
            else:
                return (
                    f"its artifact path {path} holds what was sent of {printable(holder)}, which is gone",
                    "Nothing is overwritten in the store by another file: rename this one",
                )
        if holder is not None:
            return (
                f"its artifact path {path} is taken by {printable(holder)}",
                "Rename one of the two, or change the route that brings both there",
            )
        folder, _, leaf = path.rpartition("/")
        if folder not in at.ways:
            at.ways[folder] = self._file_in_the_way(facts, run, folder)
            at.folders[folder] = self._ledger.folders_in(run, folder, 4 * at.files)
        way, folders = at.ways[folder], at.folders[folder]
        if way is None and ((folders is not None and leaf not in folders) or not self._ledger.holds_folder(run, path)):
            return None
        what = f"{path} is a folder there" if way is None else f"{way} is a file there"
        return f"the store holds what stood here before: {what}", "Nothing is deleted in the store: rename the file"

    def _file_in_the_way(self, facts: Facts, run: int, folder: str) -> str | None:
        """Which part of an artifact folder's path is stored as a file."""
        while folder:
            dest = destination(self._where.target, facts.identity, folder)
            if self._ledger.holder(dest, _NOBODY, run, folder) is not None:
                return folder
            folder = folder.rpartition("/")[0]
        return None

    def _note_unreadable(self, listing: Listing, seen: Seen, now: float) -> None:
        """What may not be looked at is a failure that is shown, in the folder that holds it."""
        for name, reason in listing.unreadable.items():
            parent, entry = (listing.rel, name) if name else (os.path.split(listing.rel))
            if not entry:
                continue  # the root itself: the watch says so
            folder, _ = self._ledger.folder(self._root, parent, create=True) or (0, "")
            error = f"it cannot be read: {reason}"
            cure = "Give the service's user access to it (group, ACL), or exclude it"
            row = Wanted(entry, State.FAILED, _NO_SIGNATURE, kind=Kind.PERMANENT, error=error, cure=cure)
            self._ledger.want(folder, [row], now)
            seen.changed += 1


def _moves(old: KnownFile, row: Wanted) -> bool:
    if ModelRole.is_of(old.role) or ModelRole.is_of(row.role):
        return False
    return old.past.last is not None and None not in (old.dest, row.dest) and old.dest != row.dest
