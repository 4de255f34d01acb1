"""The look: compare what stands in a folder with what the ledger remembers, and write down what is due.

The one code path of the program. A lost event, an overflow, a crash, a changed rule, a run that moved: each is the
reason for a look, and none is known here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from artifactd.errors import Kind
from artifactd.layout import Ignored, Layout
from artifactd.ledger import FileId, Growth, KnownFile, Ledger, State, Wanted
from artifactd.ledger.looks import CLASH, destination
from artifactd.pace import Past, news_due, pace
from artifactd.paths import join
from artifactd.runfolder import MARKERS, SETTINGS_NAME
from artifactd.runs import Facts, Place, RunFolders
from artifactd.watching.remove import ASIDE
from artifactd.watching.scan import Listing
from artifactd.watching.signature import Signature

_NO_SIGNATURE = Signature(0, 0, 0, 0)
_NOBODY = FileId(0, b"")
METRICS = "metrics"
"""The role of a file whose lines count as they come."""
LIVE_LOOK = 15.0
"""Most seconds between two looks at a growing file that waits for its next snapshot or its end."""


@dataclass(slots=True)
class _At:
    """A look at one folder while its rows are made.

    Attributes:
        folder: Its number in the ledger.
        rel: Its path relative to the root.
        facts: Of its run folder.
        now: Unix seconds.
        taken: Destinations of this look's own files.
        ways: By artifact folder, which part of it is stored as a file.
    """

    folder: int
    rel: bytes
    facts: Facts | None
    now: float
    taken: dict[int, bytes] = field(default_factory=dict)
    ways: dict[str, str | None] = field(default_factory=dict)


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
        self,
        ledger: Ledger,
        root: int,
        path: bytes,
        layout: Layout,
        settle: float,
        place: Place,
        *,
        removes: bool = False,
    ) -> None:
        self._ledger = ledger
        self._root = root
        self._path = path
        self._layout = layout
        self._settle = settle
        self._where = place
        self._removes = removes
        self._ahead: dict[FileId, tuple[Signature, float]] = {}
        self._runs = RunFolders(ledger, root, path, layout, settle, place)

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
        rules = f"{self._layout.fingerprint}:{self._settle:g}:{'' if facts is None else facts.token}"
        known_folder = self._ledger.folder(self._root, listing.rel, create=bool(listing.files or listing.others))
        if known_folder is None:
            self._note_unreadable(listing, seen, now)
            return seen
        folder, old_rules = known_folder
        names = None if listing.whole else [*listing.files, *listing.others]
        known = self._ledger.known_files(folder, names)
        wanted = self._wanted(folder, listing, facts, known, rules == old_rules, now, repace)
        if self._removes and (rules == old_rules or not listing.whole):
            seen.delivered = [
                (join(listing.rel, name), signature)
                for name, signature in listing.files.items()
                if (k := known.get(name)) is not None and k.state is State.STORED and k.signature == signature
            ]
        self._ledger.want(folder, wanted, now)
        seen.moved += sum(_moves(known.get(row.name), row) for row in wanted)
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
        if name != SETTINGS_NAME and name not in MARKERS:
            return False
        self._runs.forget(rel)  # what the folder said of itself
        return True

    def _forget_folder(self, rel: bytes) -> None:
        known = self._ledger.folder(self._root, rel, create=False)
        if known is not None:
            files = self._ledger.known_files(known[0])
            self._ledger.forget(known[0], [n for n, k in files.items() if k.state is not State.STORED])
        self._runs.forget(rel)

    def _wanted(
        self,
        folder: int,
        listing: Listing,
        facts: Facts | None,
        known: dict[bytes, KnownFile],
        same_rules: bool,
        now: float,
        repace: bool,
    ) -> list[Wanted]:
        wanted: list[Wanted] = []
        at = _At(folder, listing.rel, facts, now)
        for name, signature in listing.files.items():
            old = known.get(name)
            same = old is not None and old.signature == signature
            if same and same_rules and old is not None and old.kind != CLASH and not (repace and old.growth):
                continue
            row = self._row(at, name, signature, old)
            unmoved = same and old is not None and (old.dest, old.role) == (row.dest, row.role)
            unmoved = unmoved and row.state is State.DUE
            if unmoved and old is not None and old.state in (State.STORED, State.UPLOADING):
                continue
            if unmoved and old is not None and old.state is State.DUE and not old.growth and (same_rules or old.kind):
                continue
            wanted.append(row)
        for name in listing.others:
            if name not in known or known[name].state is not State.IGNORED:
                wanted.append(Wanted(name, State.IGNORED, _NO_SIGNATURE))
        return wanted

    def _row(self, at: _At, name: bytes, signature: Signature, old: KnownFile | None) -> Wanted:
        """The row that a file shall have; what was sent of it before only paces it."""
        rel, facts, now = at.rel, at.facts, at.now
        placed = self._layout.place(join(rel, name))
        if isinstance(placed, Ignored) or facts is None:
            return Wanted(name, State.IGNORED, signature)
        directory, _, leaf = placed.artifact_path.rpartition("/")
        dest = destination(self._where.target, facts.identity, placed.artifact_path)
        run = self._runs.row(placed, facts, now)
        error: tuple[str, str, str] | None = None
        if facts.error is not None:
            error = (Kind.PERMANENT, facts.error, "Mend it; the files of its folder are then looked at again")
        elif (clash := self._clash(at, name, signature, facts, run, placed.artifact_path, dest)) is not None:
            error = (CLASH, *clash)
        else:
            at.taken[dest] = join(join(self._path, rel), name)
        if error is not None:
            return Wanted(
                name, State.FAILED, signature, run, directory, leaf, dest, None, *error,
                role=placed.role, strange=self._where.fleet,
            )  # fmt: skip
        live = self._layout.is_live(join(rel, name)) or placed.role == METRICS  # a line counts as it comes
        past = old.past if old is not None and old.dest == dest else Past()
        since = self._since(FileId(at.folder, name), signature, now) if live else signature
        when = pace(since, past, live=live, ended=facts.ended, settle=self._settle, now=now)
        growth = Growth.SNAPSHOT if when.snapshot else Growth.QUIET if live else Growth.NONE
        if placed.role == METRICS and not when.snapshot and not facts.ended:
            news_at = news_due(signature, None if old is None or old.dest != dest else old.told_at, now)
            if news_at is not None and news_at < when.due_at:
                when, growth = replace(when, due_at=news_at), Growth.NEWS
        # A growing file is looked at now and then, since nothing says when it has grown enough for a snapshot.
        due_at = min(when.due_at, now + LIVE_LOOK) if live and not facts.ended else when.due_at
        return Wanted(
            name, State.DUE, signature, run, directory, leaf, dest, due_at, error=when.reason or None, growth=growth,
            role=placed.role, strange=self._where.fleet,
        )  # fmt: skip

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
        return replace(signature, ctime_ns=int(first * 1e9))

    def _clash(
        self, at: _At, name: bytes, signature: Signature, facts: Facts, run: int, path: str, dest: int
    ) -> tuple[str, str] | None:
        """What stands in the file's way in the store, and what to do; None for nothing."""
        file = FileId(at.folder, name)
        holder = at.taken.get(dest) or self._ledger.holder(dest, file)
        if holder is not None and not os.path.lexists(holder):
            if self._ledger.move(self._root, dest, file, signature):
                holder = None
            else:
                return (
                    f"its artifact path {path} holds what was sent of {os.fsdecode(holder)}, which is gone",
                    "Nothing is overwritten in the store by another file: rename this one",
                )
        if holder is not None:
            return (
                f"its artifact path {path} is taken by {os.fsdecode(holder)}",
                "Rename one of the two, or change the route that brings both there",
            )
        folder = path.rpartition("/")[0]
        if folder not in at.ways:
            at.ways[folder] = self._file_in_the_way(facts, folder)
        way = at.ways[folder]
        if way is None and not self._ledger.holds_folder(run, path):
            return None
        what = f"{path} is a folder there" if way is None else f"{way} is a file there"
        return f"the store holds what stood here before: {what}", "Nothing is deleted in the store: rename the file"

    def _file_in_the_way(self, facts: Facts, folder: str) -> str | None:
        """Which part of an artifact folder's path is stored as a file."""
        while folder:
            if self._ledger.holder(destination(self._where.target, facts.identity, folder), _NOBODY) is not None:
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
            cure = "Give the service's user access to it (group, ACL), or exclude it"
            self._ledger.want(
                folder,
                [
                    Wanted(
                        entry,
                        State.FAILED,
                        _NO_SIGNATURE,
                        kind=Kind.PERMANENT,
                        error=f"it cannot be read: {reason}",
                        cure=cure,
                    )
                ],
                now,
            )
            seen.changed += 1


def _moves(old: KnownFile | None, row: Wanted) -> bool:
    return old is not None and old.past.last is not None and None not in (old.dest, row.dest) and old.dest != row.dest
