"""inotify by way of watchdog's reading thread: every event becomes a hint, and no loss goes unnoticed.

watchdog brings the bindings, the thread and the decoding (``InotifyFD``). What it builds on top is not used, since a
tree of training runs outgrows it (7.1): an overflow throws away what was read and renews every watch, which overflows
the queue again; pairing the halves of a rename searches all events that wait, so files written by rename drown it;
those queues have no bound; a moved-out folder keeps its watches; a full watch table, an unreadable folder and a tree
deeper than Python's recursion are silent or end a thread. Here an event marks a hint in the reading thread itself,
and the books say which folder a watch stands for as the kernel tells it. The tests pin what is relied on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading

from watchdog.observers.inotify_c import (
    DEFAULT_EVENT_BUFFER_SIZE,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
    inotify_add_watch,
    inotify_rm_watch,
)

from artifactd.aside import begin
from artifactd.paths import join
from artifactd.text import printable
from artifactd.watching.hints import Hints
from artifactd.watching.inside import open_folder, open_root
from artifactd.watching.mounts import count_folders, counting, watch_limit
from artifactd.watching.scan import walk

_MASK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ONLYDIR
)
"""What watchdog makes of created, moved, deleted and closed events. No opens and reads, or looking would make events of
its own; no writes and attributes, or a log written line by line would."""

_STOP = 2.5
"""Seconds that ``stop`` waits, twice at most, for a thread that does not answer, as on a disk that hangs."""

_BEGINS_WITHIN = 10.0
"""Seconds in which the reading thread must have begun, on a machine that is busy too."""

_REFUSED = 1000
"""Folders that could not be opened, mostly unreadable ones, that are remembered to be watched later."""
_RETRIES = 16
"""Of these, tried again by one ``trouble``: well under a millisecond."""


class WatchError(Exception):
    """Watching is impossible; the text says why and what mends it."""


class EventWatch:
    """Fills `hints` from what happens in a tree. Once stopped it stays stopped: make a new one.

    Marks lag behind the disk by milliseconds, and what writes through a memory map makes none: look at everything
    after ``start``, and now and then.

    Args:
        root: The watched folder; it may be a symbolic link.
        hints: Where to mark.
    """

    def __init__(self, root: str, hints: Hints) -> None:
        self._root = os.fsencode(root)
        self._shown = printable(self._root)
        self._hints = hints
        self._reader: _Reader | None = None
        self._identity = (0, 0)

    @property
    def overflows(self) -> int:
        """How often the kernel's queue overflowed; each time everything was marked."""
        return 0 if self._reader is None else self._reader.overflows

    def start(self) -> None:
        """Watch the tree; returns when every folder in it is watched, some seconds for 100,000 of them.

        Raises:
            WatchError: Watching is impossible; nothing is left behind.
        """
        try:
            self._reader = _Reader(self._root, self._hints, self._check())
            self._reader.start()
            self._reader.watch_all()
        except OSError as exc:
            self.stop()
            raise WatchError(self._refusal(exc)) from exc
        if self._reader.lost is not None:
            self.stop()  # gives the watches back: this user's other programs live on the same limit
            raise WatchError(self._loss(*self._reader.lost))

    def stop(self) -> None:
        """End the reading thread; returns within seconds whatever it does."""
        if self._reader is not None:
            self._reader.stop()
            if self._reader.ident is not None:  # else it never began
                self._reader.join(_STOP)

    def trouble(self) -> str | None:
        """What is wrong with this watch; cheap enough to ask every second.

        Folders that could not be read before are watched if they can be now.

        Returns:
            None while it is healthy; else a sentence for people. It does not go away: stop this watch, make a new one.
        """
        reader = self._reader
        if reader is None:
            return "not watching"
        moved = self._root_trouble()
        if moved is not None:
            return moved
        if reader.failure is not None:
            return reader.failure
        if not reader.is_alive():
            return "the thread that reads events has ended"
        if reader.lost is not None:
            return self._loss(*reader.lost)
        reader.retry_refused()
        return None

    def _check(self) -> int | None:
        root_fd = open_root(self._root)
        try:
            st = os.fstat(root_fd)
            self._identity = (st.st_dev, st.st_ino)
            os.close(open_folder(root_fd, b""))  # takes both rights, to list it and to enter it
            limit = watch_limit()
            if limit is not None and (folders := count_folders(root_fd, stop_at=10 * limit)) > limit:
                raise WatchError(_limit_reached(f"{self._shown} has {folders} folders, each needs a watch"))
            return counting(root_fd)
        finally:
            os.close(root_fd)

    def _refusal(self, exc: OSError) -> str:
        match exc.errno:
            case errno.ENOSPC:
                return self._loss(b"", errno.ENOSPC)
            case errno.EMFILE:
                return (
                    "no inotify instance (sysctl fs.inotify.max_user_instances) or no file descriptor (ulimit -n)"
                    " is left for this user: raise the one that is used up"
                )
            case errno.EACCES:
                return f"{self._shown} may not be read and entered by this user: give it both rights (r-x)"
            case _:
                return f"{self._shown}: {exc.strerror or exc}"

    def _root_trouble(self) -> str | None:
        try:
            st = os.stat(self._root)
        except OSError as exc:
            return f"{self._shown} cannot be reached any more: {exc.strerror or exc}"
        if (st.st_dev, st.st_ino) != self._identity:
            return f"{self._shown} is not the folder it was: replaced, mounted or unmounted"
        return None

    def _loss(self, rel: bytes, code: int) -> str:
        what = f"{printable(join(self._root, rel)) if rel else self._shown} gives no events, and others may not"
        return _limit_reached(what) if code == errno.ENOSPC else f"{what}: {os.strerror(code)}"


def _limit_reached(what: str) -> str:
    return (
        f"the limit of inotify watches is reached ({watch_limit()} for all programs of this user together): {what}."
        " Raise it: sysctl fs.inotify.max_user_watches, and the same in /etc/sysctl.d to keep it"
    )


class _Reader(InotifyFD):
    """One inotify instance, the thread that reads it, and the books: which folder each watch stands for.

    Attributes:
        overflows: How often the kernel's queue overflowed.
        lost: The first folder that could not be watched although it can be read, and the errno.
        failure: Why the thread ended, or what it could not mend.
    """

    def __init__(self, root: bytes, hints: Hints, counting: int | None = None) -> None:
        super().__init__()
        self.name = "watch"
        self._is_reading = False  # or a stop before the first read would leave the descriptors open
        self.overflows = 0
        self.lost: tuple[bytes, int] | None = None
        self.failure: str | None = None
        self._root = root
        self._hints = hints
        self._counting = counting
        self._refused: dict[bytes, None] = {}
        self._books = threading.Lock()
        self._folders: dict[WatchDescriptor, bytes] = {}
        self._adrift: tuple[int, list[WatchDescriptor]] = (0, [])

    @classmethod
    def _create_inotify_fd(cls) -> int:
        fd = super()._create_inotify_fd()
        os.set_inheritable(fd, False)
        return fd

    def start(self) -> None:
        """As ever, but where memory runs out before the thread begins, for which ``Thread.start`` waits for ever.

        Raises:
            OSError: There is no memory for it.
        """

        def start() -> None:
            with contextlib.suppress(RuntimeError, MemoryError):
                super(_Reader, self).start()

        starting = begin(start)
        if starting is not None:
            starting.wait(_BEGINS_WITHIN)
        if not self.is_alive():
            raise OSError(errno.ENOMEM, "there is no memory for the thread that reads events")

    def run(self) -> None:
        try:
            super().run()
        except Exception as exc:  # noqa: BLE001 - nobody stands above a thread; trouble() tells it
            self.failure = f"the thread that reads events has ended: {exc!r}"
        finally:
            self._is_reading = False  # or a stop would leave the descriptors to a thread that is no more

    def _read_event_buffer(self, event_buffer_size: int) -> bytes:
        read = super()._read_event_buffer(event_buffer_size)
        if not read and self.should_keep_running():
            raise OSError(errno.EBADF, "the descriptor for events is closed")  # watchdog would ask again without end
        return read

    def on_thread_stop(self) -> None:
        # Not while a watch is being added: that could meet another file under the closed descriptor's number.
        if self._books.acquire(timeout=_STOP):
            try:
                super().on_thread_stop()
            finally:
                self._books.release()

    def watch_all(self) -> None:
        """Watch the whole tree.

        Raises:
            OSError: The root cannot be watched.
        """
        with self._books:
            self._watch(b"")

    def retry_refused(self) -> None:
        """Watch folders that could not be opened before, if now they can; not while the thread is busy."""
        if self._refused and self._books.acquire(blocking=False):
            try:
                for rel in list(self._refused)[:_RETRIES]:
                    del self._refused[rel]  # noted again, at the end, if it still cannot be
                    watched = len(self._folders)
                    self._watch(rel)
                    if len(self._folders) > watched:
                        self._hints.folder(rel, deep=True)
            finally:
                self._books.release()

    def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
        """Wait for events, mark what they point at and keep the books; called by the thread again and again.

        An object and a lock for each event would cost more than all the rest of a storm. None is left to be handled.
        """
        buffer = self._read_event_buffer(event_buffer_size)
        marked: dict[bytes, set[bytes]] = {}
        with self._books:
            for wd, mask, cookie, name in self._parse_event_buffer(buffer):
                if mask & InotifyConstants.IN_ISDIR or not name or self._adrift[1]:  # those of a watch have no name
                    self._hints.files(marked)  # in their order: a folder may get another name now
                    marked = {}
                    if not self.should_keep_running():
                        break
                    self._take_in(InotifyEvent(wd, mask, cookie, name))
                elif (folder := self._folders.get(wd)) is not None:
                    if folder in marked:
                        marked[folder].add(name)
                    else:
                        marked[folder] = {name}
            self._hints.files(marked)
        return []

    def _take_in(self, event: InotifyEvent) -> None:
        if event.is_queue_overflow:
            self._recover()
            return
        cookie, watches = self._adrift
        if watches and not (event.is_moved_to and event.cookie == cookie):
            self._adrift = (0, [])
            self._release(watches)
        folder = self._folders.get(event.wd)
        if event.is_ignored:
            self._folders.pop(event.wd, None)
            if folder == b"":
                # The same folder may stand there at once, with the same number, and give no events.
                self.failure = f"{printable(self._root)} was deleted or unmounted"
        if folder is None:
            return
        if not event.name:
            if not folder:
                self._hints.everything()  # the root was deleted or unmounted
        elif event.is_directory:
            self._handle_folder(event, folder, join(folder, event.name))
        else:
            self._hints.file(folder, event.name)

    def _handle_folder(self, event: InotifyEvent, parent: bytes, rel: bytes) -> None:
        if event.is_create or event.is_moved_to:
            self._watch(rel)
        else:
            if event.is_moved_from:
                # Renamed, its watches are found again by the other half, which comes next. Moved out of the tree, they
                # would stay, and make events, for good.
                self._adrift = (event.cookie, self._forget(rel))
            self._hints.folder(parent, deep=False)
        # After the watches: what came before is found by the look, what comes later makes events.
        self._hints.folder(rel, deep=True)

    def _recover(self) -> None:
        """After an overflow, make the books what the disk says, without touching the watches that are right.

        A folder may have appeared, gone or been renamed unseen. Asked for a second watch on a folder, the kernel
        answers with the number of the first and makes no event. So ask for all, and release those that did not come up.
        """
        self.overflows += 1
        self.lost = None
        before = self._forget(b"")
        try:
            self._watch(b"")
        except OSError as exc:
            self.failure = f"events were lost, and the folder cannot be watched again: {exc.strerror or exc}"
        self._release(before)
        self._hints.everything()

    def _watch(self, top: bytes) -> None:
        """Watch a folder and all below it; raises OSError for the root alone."""
        try:
            root_fd = open_root(self._root)
        except OSError:
            if not top:
                raise
            self._refuse(top)
            return
        try:
            walking = walk(root_fd, top, folders_only=True, counting=self._counting, entering=self._add)
            with contextlib.closing(walking) as listings:
                for listing in listings:
                    if not self.should_keep_running():
                        return
                    if b"" in listing.unreadable:
                        if not listing.rel:
                            raise OSError(errno.EIO, listing.unreadable[b""])
                        self._refuse(listing.rel)
        finally:
            os.close(root_fd)

    def _refuse(self, rel: bytes) -> None:
        if len(self._refused) < _REFUSED:
            self._refused[rel] = None

    def _add(self, folder_fd: int, rel: bytes) -> None:
        if not self.should_keep_running():
            return
        # By descriptor: no length limit of paths, and what is watched is what is listed, or its links counted, next.
        wd = inotify_add_watch(self._inotify_fd, b"/proc/self/fd/%d" % folder_fd, _MASK)
        if wd != -1:
            self._folders[wd] = rel
            return
        code = ctypes.get_errno()
        if not rel:
            raise OSError(code, os.strerror(code))
        if self.lost is None:
            self.lost = (rel, code)

    def _forget(self, top: bytes) -> list[WatchDescriptor]:
        below = top + b"/"
        watches = [wd for wd, rel in self._folders.items() if not top or rel == top or rel.startswith(below)]
        for wd in watches:
            del self._folders[wd]
        return watches

    def _release(self, watches: list[WatchDescriptor]) -> None:
        """Give back those that no folder of the tree has taken up again."""
        for wd in watches:
            if wd not in self._folders:
                inotify_rm_watch(self._inotify_fd, wd)
