"""The service's bell: looks now and then at what is wrong and tells it, in a thread that the loop never waits for.

What it looks at is the ledger, beside the service, and the state folder's filesystem. An error here costs a message,
and never a delivery: it is logged, and the next look is made as if nothing had been.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from artifactd import log
from artifactd.aside import Aside, begin
from artifactd.config import Config, NotifyConfig
from artifactd.config.notify import shown_webhook
from artifactd.errors import ArtifactdError
from artifactd.ledger.needs import Needs, read_needs, stamp
from artifactd.notify import send
from artifactd.notify.keeping import Kept, load, save
from artifactd.notify.message import as_json
from artifactd.notify.pace import Memory, next_news, see, told, tried
from artifactd.notify.troubles import Disk, Trouble, find, still_waiting
from artifactd.systemd import one_line
from artifactd.text import printable

EVERY = 15.0
"""Seconds between two looks at least."""

DUTY = 0.05
"""The part of a core that looks may take: where much is wrong, they come less often."""

ASK_ANYWAY = 300.0
"""Seconds after which a ledger that nobody wrote into is asked again: time alone makes a file late."""

_STUCK = 600.0
"""Seconds after which a look that goes on is said to hang; all that is waited for has a shorter time."""

_WORTH = 60.0
"""Seconds of waiting that are written down. Files come and go all the time, and each writing is a sync of the disk."""

_SHOWN = frozenset({"disk", "lag"})
"""What the status line has from here: the service's own line names what failed, is held back, or is watched badly."""


@dataclass(frozen=True, slots=True)
class Place:
    """One who is told.

    Attributes:
        ident: Another one for another command or webhook: who was told nothing is not told that it is over.
        name: For the log.
        send: Sends a message; raises ``NotSentError``.
    """

    ident: str
    name: str
    send: Callable[[bytes], object]


class Bell:
    """What the service holds: it calls ``look`` with each turn of its loop, and that returns at once.

    Args:
        config: The effective configuration.
        every: Seconds between two looks at least.
    """

    def __init__(self, config: Config, *, every: float = EVERY) -> None:
        self._every = every
        self._next = time.monotonic() + every
        self._under_way: Aside | None = None
        self._began = 0.0
        self._kept: Kept | None = None
        self._written = Kept()
        self._needs = Needs()
        self._asked: tuple[object, float] | None = None
        self._silent: set[str] = set()
        self._shown: tuple[str, ...] = ()
        self._log = log.get()
        self._config = config

    def use(self, config: Config) -> None:
        """Tell by this configuration from the next look on."""
        self._config = config

    def look(self, status: Callable[[], str]) -> None:
        """Begin a look if it is time for one.

        Args:
            status: Gives the service's own line, and is called in this thread.
        """
        now = time.monotonic()
        if not self._config.notify.wanted or now < self._next:
            return
        if self._under_way is not None and not self._under_way.over:
            if now - self._began > _STUCK:
                self._once("hang", "a look at what is to be told hangs", "See whether the disk or a server hangs")
            return
        said, config = status(), self._config
        self._began, self._next = now, now + self._every
        self._under_way = begin(lambda: self._safely(config, said))

    def line(self, status: str) -> str:
        """The service's own line, with what the last look found besides."""
        return ", ".join([status, *(self._shown if self._config.notify.wanted else ())])

    def close(self, seconds: float = 2.0) -> None:
        """Give what is under way a moment to end; whatever it does then, it is as after a crash."""
        if self._under_way is not None:
            self._under_way.wait(seconds)

    # -- in its thread -------------------------------------------------------------------------------------------

    def _safely(self, config: Config, status: str) -> None:
        before = time.thread_time()
        try:
            self._turn(config, status)
        except ArtifactdError as exc:
            self._once("look", f"what is wrong cannot be told: {exc.problem}", exc.cure)
        except Exception:  # noqa: BLE001 (what goes wrong here must not end deliveries)
            if "look" not in self._silent:
                self._log.exception("what is wrong cannot be told")
            self._silent.add("look")
        else:
            self._silent.discard("look")
        self._silent.discard("hang")
        self._next = max(self._next, time.monotonic() + (time.thread_time() - before) / DUTY)

    def _turn(self, config: Config, status: str) -> None:
        now = time.time()
        kept = self._kept
        if kept is None:
            kept = self._written = load(config.state_dir)
        needs = self._ask(config.state_dir, now)
        waiting = still_waiting(kept.waiting, needs, now)
        troubles = find(needs, disk_of(config.state_dir), config.notify, waiting, now)
        self._shown = tuple(t.line for t in sorted(troubles, key=lambda t: t.place) if t.kind in _SHOWN)
        places = list(places_of(config.notify))
        # Who is told no more is forgotten.
        kept = Kept({place.ident: kept.memories.get(place.ident, Memory()) for place in places}, waiting)
        for place in places:
            kept = _with(kept, place, see(kept.memories[place.ident], troubles, config.notify.on, now))
            kept = self._tell(config, place, kept, troubles, self.line(status))
        self._keep(config.state_dir, kept, now)

    def _ask(self, state_dir: Path, now: float) -> Needs:
        """What the ledger says; as it was at the last look, where nobody wrote into it since."""
        written, at = stamp(state_dir), time.monotonic()
        if self._asked is None or self._asked[0] != written or at - self._asked[1] > ASK_ANYWAY:
            self._asked = None  # should it fail
            self._needs = read_needs(state_dir, now)
            self._asked = written, at
        return self._needs

    def _tell(self, config: Config, place: Place, kept: Kept, troubles: frozenset[Trouble], status: str) -> Kept:
        memory, now = kept.memories[place.ident], time.time()
        news = next_news(memory, troubles, now, config.notify.every)
        if news is None:
            return kept
        # Before it goes out: whatever happens meanwhile, the next one is a period away.
        kept = _with(kept, place, tried(memory, now))
        self._keep(config.state_dir, kept, now)
        body = as_json(
            news, host=socket.gethostname(), state_dir=printable(os.fsencode(config.state_dir)), status=one_line(status)
        )
        try:
            place.send(body)
        except send.NotSentError as exc:
            self._once(place.ident, f"not told: {exc.problem}", exc.cure, again_in=config.notify.every)
            return kept
        if place.ident in self._silent:
            self._silent.discard(place.ident)
            self._log.info("messages go out again", to=place.name)
        self._log.info(
            "message sent", to=place.name, troubles=len(news.troubles) + news.more,
            new=sum(one.new for one in news.troubles), resolved=len(news.resolved),
        )  # fmt: skip
        return _with(kept, place, told(kept.memories[place.ident], news))

    def _keep(self, state_dir: Path, kept: Kept, now: float) -> None:
        self._kept = kept
        durable = Kept(
            {ident: memory for ident, memory in kept.memories.items() if memory != Memory()},
            {root: since for root, since in kept.waiting.items() if now - since >= _WORTH},
        )
        if durable == self._written:
            return
        try:
            save(state_dir, durable)
        except OSError as exc:  # a full disk is among what is to be told
            self._once(
                "keep", f"what was told cannot be written down: {exc.strerror}",
                "Make space in the state folder: after a restart it would be told once more",
            )  # fmt: skip
            return
        self._silent.discard("keep")
        self._written = durable

    def _once(self, what: str, event: str, next_step: str, **more: object) -> None:
        """Said when it begins, and not again until it is over."""
        if what not in self._silent:
            self._silent.add(what)
            self._log.warning(event, next_step=next_step, **more)


def places_of(config: NotifyConfig) -> Iterator[Place]:
    """Who is told by this configuration."""
    if config.command:
        command = config.command
        name = printable(os.fsencode(command[0]))
        yield Place(_ident("command", *command), name, lambda body: send.run(command, body))
    if config.webhook is not None:
        url, key_file = config.webhook, config.secret_file
        yield Place(_ident("webhook", url), shown_webhook(url), lambda body: send.post(url, body, key_file))


def disk_of(folder: Path) -> Disk | None:
    """How full a folder's filesystem is; None where it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Disk(printable(os.fsencode(folder)), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def _ident(kind: str, *words: str) -> str:
    """Tells one from another without what may be a secret in it."""
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    return f"{kind}:{hashlib.sha256(text).hexdigest()[:16]}"


def _with(kept: Kept, place: Place, memory: Memory) -> Kept:
    return replace(kept, memories={**kept.memories, place.ident: memory})
