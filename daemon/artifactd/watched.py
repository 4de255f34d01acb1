"""One watched root: its events, its scans, its health. Survives its going and coming.

The root is open only while it is looked at: whoever wants to unmount or remove it need not ask.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator

from artifactd import log
from artifactd.abandoned import judge
from artifactd.aside import Aside, begin
from artifactd.config import WatchConfig
from artifactd.ledger import Ledger
from artifactd.look import Looker, Seen
from artifactd.models import ModelFolder
from artifactd.paths import within
from artifactd.removal import Removal
from artifactd.rounds import Rounds, Walk, scan_pause
from artifactd.text import printable
from artifactd.watching.claim import Claim, TakenError
from artifactd.watching.events import EventWatch, WatchError
from artifactd.watching.hints import Hints
from artifactd.watching.inside import identity, number_of, open_root
from artifactd.watching.mounts import distrust, leases_work, mount_of
from artifactd.watching.scan import Listing, look, walk

_NO_MEMORY = "there is no memory for its thread"
_NOT_THERE = "the folder is not there; it is looked for"

RETRY_ROOT = 5.0
"""Seconds between looks for a root that is away, and between tries to watch one that cannot be watched."""

GATHER = 2.0
"""Seconds, at most, for which events gather between two looks; half a settle time, so that no file waits for it. A look
at two new files in a folder costs 115 µs for each, at six 68, at twenty 45."""


class Watched:
    """A root and all that concerns it alone.

    Args:
        ident: The root's number in the ledger.
        config: Its settings.
        looker: Compares its folders with the ledger.
        ledger: For the word on its health.
        wake: Ends the service loop's wait.
        start: Relative folder to which all looking is confined; ``b""`` for the whole root.
        events: False never watches for events (a single pass).
    """

    def __init__(
        self, ident: int, config: WatchConfig, looker: Looker, ledger: Ledger, wake: Callable[[], None], *,
        start: bytes = b"", events: bool = True,
    ) -> None:  # fmt: skip
        self.ident = ident
        self.config = config
        self.path = os.fsencode(config.path)
        self._looker = looker
        self._ledger = ledger
        self._start = start
        self._want_events = events and config.mode != "scan"
        self._hints = Hints(wake, gather=min(GATHER, config.settle / 2))
        self._wake = wake
        self._identity: tuple[int, int] | None = None
        self._was_link: bool | None = None
        self._was_mount = False
        self._claim: Claim | None = None
        self._events: EventWatch | None = None
        self._starter: Aside | None = None
        self._degraded: str | None = None
        self._rounds = Rounds(self._walk, start, self._scan_pause)
        self._moved = 0
        self._removal = Removal(self.path)
        self._next_check = self._next_events = 0.0
        self.overflows, self.scan_seconds = 0, 0.0
        self._log = log.get().bind(watch=printable(self.path))

    @property
    def leases(self) -> bool:
        """Whether the lease probe means something on the root's filesystem."""
        return leases_work(mount_of(self.path).fstype)

    @property
    def scanning(self) -> bool:
        """Whether folders are being looked at, or a full scan is due."""
        return self._identity is not None and self._rounds.to_do(scan=self._starter is None)

    @property
    def stirred(self) -> bool:
        """Whether events named places that were not looked at yet, or another root stands there now."""
        return bool(self._hints) or identity(self.path) != self._identity

    @property
    def pause(self) -> float:
        """Seconds until places that events named are to be looked at; infinite while there are none."""
        return self._hints.pause if self._identity is not None else float("inf")

    @property
    def scanned(self) -> int:
        """Full scans so far."""
        return self._rounds.scans

    def here(self) -> tuple[int, int] | None:
        """Device and inode of the root that is ours now; None while nothing is to be done with it."""
        return self._identity

    @property
    def trouble(self) -> str | None:
        """Why files here are not found, or by scans alone though more was asked for; None while all is well."""
        return self._degraded or (_NOT_THERE if self._identity is None else None)

    @property
    def away(self) -> str | None:
        """Why nothing can be looked at now: the root is not there, cannot be opened, or is not ours; None if it can."""
        return self.trouble if self._identity is None else None

    @property
    def begun(self) -> bool:
        """Whether the first full scan is under way, or cannot be before the root comes."""
        return self._rounds.begun or self._identity is None

    # -- health --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See to the root and its events; does something every few seconds only."""
        now = time.monotonic()
        if self._starter is not None and self._starter.over:
            self._starter = None
            self._next_check = 0.0  # what came of it is told now, and not when all is looked at anyway
        if now < self._next_check:
            return
        self._next_check = now + 1.0
        here = identity(self.path)
        if here is None or here != self._identity or not os.access(self.path, os.R_OK | os.X_OK):
            self._take(here)
        if self._identity is None:
            self._next_check = now + RETRY_ROOT
        elif self._want_events and self._starter is None:
            self._see_to_events(now)
        self._describe()

    def _take(self, here: tuple[int, int] | None) -> None:
        """The root went, came or was replaced: a pause and a scan, never a deletion."""
        if self._identity is not None:
            self._log.warning(
                "the watched folder is away or was replaced", next_step="Nothing is forgotten; it is looked for"
            )
        self.close()
        if here is None:
            self._degraded = None
            return
        is_link = os.path.islink(self.path)
        if is_link and self._was_link is False:
            self._refuse(
                f"it has become a symbolic link to {printable(os.path.realpath(self.path))}: nothing is sent from"
                " there. If that is meant, reload or restart artifactd"
            )
            return
        is_mount = mount_of(self.path).point == os.path.realpath(self.path)
        if self._was_mount and not is_mount:
            self._refuse(
                "what was mounted here is not, and what lies in the mount point below is left alone. Mount it; if it is"
                " to stay away, reload or restart artifactd"
            )
            return
        try:
            os.close(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))  # to list it takes rights
            self._claim = Claim(*here)
        except TakenError as exc:
            self._refuse(f"{exc}. It is taken over when that one ends")
            return
        except OSError as exc:
            self._refuse(f"it cannot be opened: {exc.strerror}")
            return
        self._was_link, self._was_mount = is_link, is_mount
        self._identity, self._next_events, self._degraded = here, 0.0, None

    def _refuse(self, reason: str) -> None:
        if self._degraded != reason:
            self._degraded = reason
            self._log.warning("the watched folder waits", reason=reason)

    def close(self) -> None:
        """Stop watching, and let go of the root."""
        self._stop_events()
        self._rounds.drop()
        if self._claim is not None:
            self._claim.release()
            self._claim = None
        self._identity = None

    @contextlib.contextmanager
    def _root(self) -> Iterator[int | None]:
        """The root, opened for a look; None while it is away, or is another folder than the one that was taken."""
        fd = None
        if self._identity is not None:
            with contextlib.suppress(OSError):
                fd = open_root(self.path)
        try:
            if fd is not None and number_of(os.fstat(fd)) != self._identity:
                self._next_check = 0.0
                yield None
            else:
                yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def _see_to_events(self, now: float) -> None:
        trouble = self._events.trouble() if self._events is not None else None
        if trouble is not None:
            self._log.warning("events were lost", reason=trouble, next_step="The folder is scanned and watched anew")
            self._stop_events()
            self._rounds.scan_soon()
        if self._events is not None or now < self._next_events:
            return
        reason = distrust(mount_of(self.path).fstype) if self.config.mode == "auto" else None
        if reason is not None:
            self._degrade(f"scan only: {reason}")
            self._next_events = now + 60
            return
        # Watching a big tree takes seconds; the loop goes on meanwhile, and the scan starts when the watch stands.
        self._starter = begin(self._start_events, self._wake)
        if self._starter is None:
            self._degrade(f"scan only: {_NO_MEMORY}")
            self._next_events = now + RETRY_ROOT

    def _start_events(self) -> None:
        events = EventWatch(os.fsdecode(self.path), self._hints)
        try:
            events.start()
        except (WatchError, MemoryError) as exc:
            self._degrade(f"scan only: {_NO_MEMORY if isinstance(exc, MemoryError) else exc}")
            self._next_events = time.monotonic() + self.config.scan_interval
        else:
            self._degraded, self._events = None, events
            self._rounds.scan_soon()  # what changed before the watch stood

    def _degrade(self, reason: str) -> None:
        if self._degraded != reason:
            self._degraded = reason
            self._log.warning("the watch is degraded", reason=reason, scan_interval=self.config.scan_interval)

    def _stop_events(self) -> None:
        if self._starter is not None:
            self._starter.wait(30)
            self._starter = None
        if self._events is not None:
            self._events.stop()
            self._events = None

    def _describe(self) -> None:
        mode, detail = "scan", ""
        if self._identity is None:
            mode = "waiting"
        elif self._events is not None:
            mode, self.overflows = "events", self._events.overflows
            detail = f"{self.overflows} overflows mended by scans" if self.overflows else ""
        elif self._starter is not None and self._degraded is None:
            mode, detail = "starting", "the watch is being set up"
        self._ledger.describe_root(self.ident, mode, healthy=(why := self.trouble) is None, detail=why or detail)

    # -- looking -------------------------------------------------------------------------------------------------

    def look_at_hints(self, now: float) -> int:
        """Look where events said so; what lies below is left to ``scan_some``. Returns how many rows changed."""
        if self._identity is None or self._hints.pause:
            return 0
        changed = 0
        with self._root() as fd:
            if fd is None:
                return 0  # the hints stay
            for hint in self._hints.take():
                if not within(hint.rel, self._start):
                    continue
                if hint.deep and not hint.rel:
                    self._rounds.scan_soon()
                elif hint.deep:
                    self._rounds.below(hint.rel)
                else:
                    changed += self._look_at(fd, hint.rel, hint.names, now)
        return changed

    def _look_at(self, fd: int, rel: bytes, names: frozenset[bytes] | None, now: float, *, repace: bool = False) -> int:
        listing = look(fd, rel, names)
        changed = self._apply(fd, listing, now, repace=repace).changed
        if not listing.gone and b"" not in listing.unreadable:
            found = listing.files.keys() | listing.others.keys() | listing.unreadable.keys()
            for name in (names or frozenset()) - found:
                if self._looker.forget_name(rel, name):
                    self._hints.folder(rel, deep=True)
                    self._hints.hurry()
        return changed

    def look_again(self, files: Iterable[tuple[bytes, bytes]], now: float) -> None:
        """Look at files whose time has come, before they are handed out: what changed since waits anew.

        Args:
            files: Folder and name of each.
            now: Unix seconds.
        """
        by_folder: dict[bytes, set[bytes]] = {}
        for rel, name in files:
            by_folder.setdefault(rel, set()).add(name)
        if not by_folder:
            return
        with self._root() as fd:
            if fd is not None:
                for rel, names in by_folder.items():
                    self._look_at(fd, rel, frozenset(names), now, repace=True)

    def model(self, folder: bytes, now: float) -> ModelFolder | None:
        """The model in this folder, if it is whole and at rest; a numbered one not before all folders were seen."""
        with self._root() as fd:
            found = None if fd is None else self._looker.models.whole(fd, folder, now)
        return None if found and self.scanning and found.registration.number is not None else found

    def note_delivered(self, rel: bytes) -> None:
        """A file was stored: look at markers that it held back, and where it is to be removed, whether it changed."""
        for at in [*self._looker.checkpoints.stored(rel), *([rel] if self._removes else [])]:
            folder, _, name = at.rpartition(b"/")
            self._hints.file(folder, name)
            self._hints.hurry()

    def remove_delivered(self) -> None:
        """Remove what a look found on disk exactly as it is stored; only once the receipts are durable."""
        if not self._removal:
            return
        with self._root() as fd:
            if fd is not None:
                self._removal.carry_out(fd, leases=self.leases)

    @property
    def _removes(self) -> bool:
        return self.config.after_upload == "delete"

    def scan_some(self, seconds: float, now: float) -> int:
        """Go on with what is to be walked, for a slice of time each: where events said so, and the full scan.

        Returns:
            How many rows changed.
        """
        if not self.scanning:
            return 0
        changed = 0
        with self._root() as fd:
            if fd is None:
                return 0

            def apply(listing: Listing) -> None:
                nonlocal changed
                changed += self._apply(fd, listing, now).changed

            scans = self._rounds.scans
            self._rounds.go_on(seconds, apply, scan=self._starter is None)
            after = self.config.abandon_after
            if after is not None and self._rounds.scans != scans and not self._start:
                judge(self._ledger, fd, self.ident, self._rounds.scan_began, now, after)
        if not self.scanning:
            self._say_moved()
        return changed

    def _scan_pause(self, cost: float) -> float:
        self.scan_seconds += cost
        interval = self.config.scan_interval
        return scan_pause(cost, interval, interval if self._events is None else self.config.longest_scan_interval)

    def _walk(self, rel: bytes) -> Walk:
        """Walk over an open root of its own, which closes with the walk."""
        with self._root() as fd:
            if fd is None:
                return
            yield from walk(fd, rel, skip=self._looker.skip)
            # No walk comes by a folder that is gone or excluded, so those that the ledger knows are looked at by name.
            for known in self._ledger.subfolders(self.ident, rel):
                listing = Listing(known, gone=True) if self._looker.skips_way_to(known) else look(fd, known, ())
                if listing.gone:
                    yield listing

    def _say_moved(self) -> None:
        if self._moved:
            step = "They are sent there; what was stored at the old one stays"
            self._log.warning("files have a new destination by the rules of now", files=self._moved, next_step=step)
            self._moved = 0

    def _apply(self, fd: int, listing: Listing, now: float, *, repace: bool = False) -> Seen:
        if listing.gone and not listing.rel:
            return Seen()
        seen = self._looker.apply(fd, listing, now, repace=repace)
        self._moved += seen.moved
        for rel in seen.look_deep:
            self._hints.folder(rel, deep=True)
            self._hints.hurry()
        self._removal.note(seen.delivered)
        self._removal.note_aside(seen.aside)
        return seen
