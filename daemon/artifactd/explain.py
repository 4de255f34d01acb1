"""Where a file stands and why: the rules, the ledger's row and the disk, put together into one answer.

Asks no server, so it answers offline, and works beside a running service or without one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from artifactd.checkpoints import REST
from artifactd.excludes import Ignored
from artifactd.layout import Destination, Layout
from artifactd.ledger import FileView, Report, State
from artifactd.ledger.runviews import RunView
from artifactd.ondisk import OnDisk, look_at
from artifactd.paths import join, within
from artifactd.registration import WAITS, ModelMark, ModelRole, in_words
from artifactd.text import printable
from artifactd.watching.inside import open_root
from artifactd.watching.scan import walk

STORED, WAITING, FAILED, IGNORED = "stored", "waiting", "failed", "ignored"
"""Where every file under a watched folder stands, one of the four."""

MISSING, OUTSIDE = "missing", "outside"
"""A path that is no file of ours: there is none, or no watched folder holds it."""

MOST_LOOKED_AT = 20_000
"""Files of a folder that the ledger does not know yet are counted up to this many."""

_STATES = {
    State.DUE: WAITING, State.UPLOADING: WAITING, State.STORED: STORED, State.FAILED: FAILED, State.IGNORED: IGNORED
}  # fmt: skip
_NO_SERVICE = "No artifactd works here now: start `artifactd run`, or send what is due with `artifactd sync`"


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched folder with its rules.

    Attributes:
        path: Absolute.
        layout: Where files go.
        settle: Quiet time in seconds.
    """

    path: bytes
    layout: Layout
    settle: float


@dataclass(frozen=True, slots=True)
class Wait:
    """What a file that is due waits for; the fields are those of ``Answer``."""

    reason: str
    until: float | None = None
    error: str = ""
    kind: str | None = None
    cure: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Where one file stands.

    Attributes:
        path: Absolute.
        state: One of the words above.
        reason: What it waits for, or why it is not there.
        error: The last error.
        kind: How the error is treated (transient, permanent, paused).
        until: When that ends or is tried again, unix seconds; None when no time is known.
        cure: What the user can do.
        attempts: Tries so far that failed.
        notes: What else is worth knowing, a sentence each.
        watch: The watched folder that holds it.
        rule: The rule that decided.
        artifact_path: Where in the run it goes, as MLflow shows it.
        size: Bytes on disk; None when it is not there.
        digest: SHA-256 of what is stored.
        stored_size: Bytes of what is stored.
        stored_at: When it was stored, unix seconds.
        told_as: What the run was told of its content last: its params, metrics, tags, or that it is a dataset.
        told_at: When, unix seconds.
        life: Its run as the ledger has it, with its status and why.
        parent: Name and id of the run that its run is nested in; the id is None before it exists.
    """

    path: bytes
    state: str
    reason: str = ""
    error: str = ""
    kind: str | None = None
    until: float | None = None
    cure: str = ""
    attempts: int = 0
    notes: tuple[str, ...] = ()
    watch: bytes | None = None
    rule: str = ""
    experiment: str | None = None
    run: str | None = None
    run_id: str | None = None
    artifact_path: str | None = None
    size: int | None = None
    digest: bytes | None = None
    stored_size: int | None = None
    stored_at: float | None = None
    told_as: str | None = None
    told_at: float | None = None
    life: RunView | None = None
    parent: tuple[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Where the files of a folder stand.

    Attributes:
        path: Absolute.
        watch: The watched folder that holds it (or that it is).
        counts: Files by state.
        examples: The first that are neither stored nor ignored, failed ones first.
        runs: Runs of the folders at, above and below.
        rule: Why all of it is ignored, if it is.
        unseen: The counts are from the disk and the rules: the ledger knows nothing here yet.
        partial: There are more files than were counted.
    """

    path: bytes
    watch: bytes
    counts: dict[str, int] = field(default_factory=dict)
    examples: tuple[Answer, ...] = ()
    runs: tuple[RunView, ...] = ()
    rule: str = ""
    unseen: bool = False
    partial: bool = False


def wait_of(file: FileView, settle: float | None, now: float) -> Wait:
    """What a file that is due, or under upload, waits for.

    Args:
        file: As the ledger has it.
        settle: Quiet time in seconds, None if unknown.
        now: Unix seconds.
    """
    block = file.blockage
    if file.state is State.UPLOADING:
        return Wait("its upload, which is under way", attempts=file.attempts)
    if block is not None:
        where = "the store of its run" if file.run_is_blocked else str(file.target)
        reason = f"{where}, where nothing can be sent now"
        return Wait(reason, block.next_try, block.error, block.kind, block.cure, block.attempts)
    if file.kind is not None:
        return Wait("its next try", file.due_at, file.error or "", file.kind, file.cure or "", file.attempts)
    if file.error:
        what = file.error if file.error.startswith((WAITS, REST)) else f"it to come to rest: {file.error}"
        return Wait(what, file.due_at)
    if file.due_at is not None and file.due_at > now:
        quiet = "" if settle is None else f": {settle:g} s without a change"
        return Wait(f"it to come to rest{quiet}", file.due_at)
    return Wait("its turn", attempts=file.attempts)


class Explainer:
    """Answers for paths.

    Args:
        watches: The watched folders.
        report: The ledger; None when there is none yet.
        service: The artifactd that works now, None when none does.
        now: Unix seconds.
        examples: How many files of a folder to name.
    """

    def __init__(
        self, watches: Sequence[Watch], report: Report | None, *, service: str | None, now: float, examples: int = 10
    ) -> None:
        self._watches = watches
        self._report = report
        self._service = service
        self._now = now
        self._examples = examples
        self._known_runs: dict[bytes, RunView] | None = None

    def explain(self, path: bytes) -> Answer | Summary:
        """Say where a file stands, or the files of a folder.

        Args:
            path: Absolute; it need not exist.
        """
        found = self._locate(path)
        if found is None:
            return self._outside(path)
        watch, rel = found
        disk = look_at(watch.path, rel)
        row = self._row(watch, rel) if rel else None
        if disk.folder and (row is None or row.state is not State.FAILED):
            return self._folder(watch, rel)
        if not rel:
            return Answer(watch.path, WAITING, "the watched folder is not there; it is looked for", watch=watch.path)
        return self._file(watch, rel, disk, row)

    # -- files ---------------------------------------------------------------------------------------------------

    def _file(self, watch: Watch, rel: bytes, disk: OnDisk, row: FileView | None) -> Answer:
        placed = watch.layout.place(rel)
        base = Answer(
            join(watch.path, rel),
            MISSING,
            watch=watch.path,
            size=None if disk.signature is None else disk.signature.size,
        )
        if isinstance(placed, Destination):
            base = replace(base, rule=placed.rule, experiment=placed.experiment, run=placed.run)
            view = self._runs().get(join(watch.path, placed.folder))
            run_id = None if view is None else view.run_id
            base = replace(base, run_id=run_id, artifact_path=placed.artifact_path, life=view)
            base = replace(base, parent=self._parent(watch, placed, view))
        if disk.unreadable:
            base = replace(base, notes=(f"It cannot be looked at by this user: {disk.unreadable}",))
        if row is None or row.state is State.IGNORED:
            return self._not_in_ledger(base, placed, disk, seen=row is not None)
        if row.run_row is not None:
            base = replace(
                base, experiment=row.experiment, run=row.run, run_id=row.run_id, artifact_path=row.artifact_path
            )
        base = replace(base, digest=row.digest, stored_size=row.stored_size, stored_at=row.stored_at)
        told_as = row.told_as if row.told_as is None else in_words(row.told_as)
        base = replace(base, attempts=row.attempts, told_as=told_as, told_at=row.told_at)
        answer = self._by_row(base, row, disk, watch.settle)
        notes = list(answer.notes)
        role = ModelRole.of(row.role)
        if role is not None and row.told is not None:
            notes.append(ModelMark.from_bytes(row.told).sentence(role.number))
        if self._report is not None and (said := checkpoint_note(self._report, watch.layout, watch.path, row)):
            notes.append(said)
        if isinstance(placed, Ignored):
            notes.append(f"By the rules of now it is ignored: {placed.rule}")
            answer = replace(answer, rule=placed.rule)
        elif row.run_row is not None and role is None and placed.artifact_path != row.first_path:
            notes.append(f"By the rules of now it goes to {placed.artifact_path}; the next scan sees to it")
        if disk == OnDisk():
            if not os.path.isdir(watch.path):
                notes.append("The watched folder itself is away: nothing is forgotten, it is waited for")
            else:
                stays = "; what is stored stays" if row.digest is not None else "; the next scan drops it"
                notes.append(f"It is gone from the folder{stays}")
        elif disk.other:
            notes.append(f"What stands there now is ignored: {disk.other}")
        return replace(answer, notes=tuple(notes))

    def _not_in_ledger(self, base: Answer, placed: Destination | Ignored, disk: OnDisk, *, seen: bool) -> Answer:
        if disk.other:
            return replace(base, state=IGNORED, rule=disk.other, experiment=None, run=None, artifact_path=None)
        if isinstance(placed, Ignored):
            base = replace(base, rule=placed.rule)
        if disk == OnDisk() and not seen:
            return replace(base, reason="there is no such file, and none of this name was seen")
        if isinstance(placed, Ignored):
            return replace(base, state=IGNORED)
        return self._waiting(base, Wait("a look: the rules have changed" if seen else "a look: it was not seen yet"))

    def _by_row(self, base: Answer, row: FileView, disk: OnDisk, settle: float) -> Answer:
        if row.state is State.FAILED:
            return replace(base, state=FAILED, error=row.error or "", kind=row.kind, cure=row.next_step)
        if row.state is State.STORED:
            if disk.signature is not None and disk.signature != row.signature:
                return self._waiting(
                    base, Wait("a look: it changed since it was stored (the same content is not sent)")
                )
            return replace(base, state=STORED, attempts=0)
        if row.state is State.UPLOADING and self._service is None:
            return self._waiting(base, Wait("the next start: its upload was broken off", attempts=row.attempts))
        return self._waiting(base, wait_of(row, settle, self._now))

    def _waiting(self, base: Answer, wait: Wait) -> Answer:
        return replace(
            base, state=WAITING, reason=wait.reason, until=wait.until, error=wait.error, kind=wait.kind, cure=wait.cure,
            attempts=wait.attempts, notes=base.notes if self._service is not None else (*base.notes, _NO_SERVICE),
        )  # fmt: skip

    # -- folders -------------------------------------------------------------------------------------------------

    def _folder(self, watch: Watch, rel: bytes) -> Summary:
        path = join(watch.path, rel)
        rule = watch.layout.excluded_folder(rel) if rel else None
        summary = Summary(path, watch.path, rule=rule or "")
        if self._report is not None:
            summary = replace(summary, runs=tuple(self._report.runs_at(path)))
            counts: dict[str, int] = {}
            for state, count in self._report.counts(path).items():
                counts[_STATES[state]] = counts.get(_STATES[state], 0) + count
            if counts:
                examples = tuple(self._not_stored(self._report, watch, path))
                return replace(summary, counts=counts, examples=examples)
        return self._unseen(watch, rel, summary)

    def _not_stored(self, report: Report, watch: Watch, path: bytes) -> Iterator[Answer]:
        left = self._examples
        for state in (State.FAILED, State.DUE, State.UPLOADING):
            views = report.files(below=path, states=(state,), limit=left)
            left -= len(views)
            for view in views:
                rel = view.path[len(watch.path) :].lstrip(b"/")
                yield self._file(watch, rel, look_at(watch.path, rel), view)
            if not left:
                return

    def _unseen(self, watch: Watch, rel: bytes, summary: Summary) -> Summary:
        """By the disk and the rules alone."""
        counts: dict[str, int] = {}
        examples: list[Answer] = []
        looked_at = 0
        try:
            root = open_root(watch.path)
        except OSError:
            return replace(summary, unseen=True)
        try:
            skip = watch.layout.excluded_folder
            for listing in walk(root, rel, skip=lambda below: skip(below) is not None):
                for name in (*listing.files, *listing.others):
                    disk = OnDisk(listing.files.get(name), other=listing.others.get(name, ""))
                    answer = self._file(watch, join(listing.rel, name), disk, None)
                    counts[answer.state] = counts.get(answer.state, 0) + 1
                    if answer.state == WAITING and len(examples) < self._examples:
                        examples.append(answer)
                    looked_at += 1
                if looked_at >= MOST_LOOKED_AT:
                    return replace(summary, counts=counts, examples=tuple(examples), unseen=True, partial=True)
        finally:
            os.close(root)
        return replace(summary, counts=counts, examples=tuple(examples), unseen=True)

    def _runs(self) -> dict[bytes, RunView]:
        """The runs of known run folders."""
        if self._known_runs is None:
            runs = [] if self._report is None else self._report.runs()
            self._known_runs = {run.folder: run for run in runs}
        return self._known_runs

    def _parent(self, watch: Watch, placed: Destination, run: RunView | None) -> tuple[str, str | None] | None:
        if placed.parent is None or (run is not None and run.parent is None):
            return None
        above = watch.layout.run(placed.parent)
        if not isinstance(above, Destination):
            return None
        view = self._runs().get(join(watch.path, above.folder))
        return (above.run, None) if view is None else (view.run, view.run_id)

    # -- places --------------------------------------------------------------------------------------------------

    def _row(self, watch: Watch, rel: bytes) -> FileView | None:
        folder, _, name = rel.rpartition(b"/")
        return None if self._report is None else self._report.file(watch.path, folder, name)

    def _locate(self, path: bytes) -> tuple[Watch, bytes] | None:
        """The watch that holds a path, and the path in it; links above the watched folder are seen through."""
        real = join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        for candidate in (path, real, os.path.realpath(path)):
            for watch in self._watches:
                for root in (watch.path, os.path.realpath(watch.path)):
                    if within(candidate, root):
                        return watch, candidate[len(root) :].strip(b"/")
        return None

    def _outside(self, path: bytes) -> Answer:
        watched = ", ".join(printable(w.path) for w in self._watches) or "none"
        reason = f"no watched folder holds it; watched: {watched}"
        return Answer(path, OUTSIDE, reason, cure="Move it into one, or add a [[watch]] for its folder")


def checkpoint_note(report: Report, layout: Layout, root: bytes, file: FileView) -> str:
    """What a stored file tells of its checkpoint, a sentence; "" where it is no checkpoint's marker."""
    rule = layout.checkpoint(file.path[len(root) :].lstrip(b"/"))
    if rule is None or file.state is not State.STORED:
        return ""
    folder = os.path.dirname(file.path)
    stored = report.files(below=folder, states=(State.STORED,))
    # A file that went before its last content was sent has no ctime.
    whole = [f.path for f in stored if within(f.path, folder) and f.digest and f.signature.ctime_ns]
    lacks = rule.lacks(path[len(folder) :].lstrip(b"/") for path in whole)
    return f"Its checkpoint is not whole in the store: it lacks {lacks}" if lacks else "Its checkpoint is whole"
