"""The service: starts the engine, turns it, reloads, stops. Knows signals and the service manager, nothing of files.

Crash-only: an error that is not for the engine to handle ends the process; the service manager starts it again, and
starting is recovering.
"""

from __future__ import annotations

import faulthandler
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

from artifactd import __version__, log
from artifactd.causes import code_of, coded
from artifactd.config import Config
from artifactd.engine import REST, Engine
from artifactd.errors import ArtifactdError
from artifactd.exposition import Exposition
from artifactd.ledger import Held
from artifactd.notify.bell import Bell
from artifactd.secrets import mask
from artifactd.systemd import Notifier
from artifactd.text import printable
from artifactd.watched import Watched

STOP_WITHIN = 20.0
"""Seconds that uploads in hand get at a stop; the unit's TimeoutStopSec is a little more."""

HANG = 300
"""Seconds that one turn may take: then the process says where it stands and ends, also where no service manager asks it
for signs of life. A stop or a reload gives uploads ``STOP_WITHIN``, and a watchdog is quicker."""

_STATUS_EVERY = 2.0

_LONGEST = 150
"""Characters of each name and each reason in the status line, which has 512."""

_NAMED = 2
"""Watched folders that it names."""


class Service:
    """The long-running process.

    Args:
        config: The effective configuration.
        load: Reads the configuration anew, for SIGHUP; raises ``ArtifactdError`` when it is wrong.
        notifier: The line to the service manager.
    """

    def __init__(self, config: Config, load: Callable[[], Config], notifier: Notifier | None = None) -> None:
        self._config = config
        self._load = load
        self._notifier = notifier or Notifier()
        self._bell = Bell(config)
        interval = self._notifier.watchdog_interval
        self._ping_every = None if interval is None else interval / 2
        self._next_ping = 0.0
        self._stop = False
        self._reload = False
        self._refused = ""
        self._log = log.get()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            ArtifactdError: The service cannot start.
        """
        engine = Engine(self._config, "artifactd run")
        self._exposition = Exposition(self._config.state_dir, engine.figures, lambda: engine.watched)
        handlers = {
            signal.SIGTERM: self._on_stop, signal.SIGINT: self._on_stop, signal.SIGHUP: self._on_reload
        }  # fmt: skip
        old = {number: signal.signal(number, self._waking(engine, handler)) for number, handler in handlers.items()}
        try:
            self._announce()
            self._exposition.use(self._config.metrics)
            self._loop(engine)
            self._notifier.stopping()
            self._log.info("stopping", uploads_in_hand=engine.busy)
            engine.drain(time.monotonic() + STOP_WITHIN)
            waiting, failed = engine.ledger.backlog()
            self._bell.close()
            self._log.info("stopped", still_due=waiting, failed=failed)
        finally:
            self._exposition.close()
            engine.close()
            faulthandler.cancel_dump_traceback_later()
            for number, handler in old.items():
                signal.signal(number, handler)

    def _loop(self, engine: Engine) -> None:
        longest = min(REST, self._ping_every or REST)
        ready = False
        next_status = next_alarm = 0.0
        while not self._stop:
            if self._reload:
                self._reload = False
                self._take_config(engine)
            now = time.monotonic()
            if now >= next_alarm:
                # A thread of its own that needs nothing of Python: it also ends a process whose every thread hangs.
                faulthandler.dump_traceback_later(HANG, exit=True)
                next_alarm = now + HANG / 10
            could = engine.turn(longest)
            now = time.monotonic()
            self._exposition.turned(now)
            if not ready and all(w.begun for w in engine.watched):
                ready = True
                self._exposition.ready()
                self._log.info("ready")
                self._notifier.ready()
            self._ping()
            self._bell.look(lambda: self._say(engine))
            if could and now >= next_status:
                self._say(engine)
                next_status = now + _STATUS_EVERY

    def _ping(self) -> None:
        """Sent by the loop that does the work, so that a stuck loop is a missing ping."""
        now = time.monotonic()
        if self._ping_every is not None and now >= self._next_ping:
            self._notifier.watchdog()
            self._next_ping = now + self._ping_every

    def _say(self, engine: Engine) -> str:
        """Show how it stands in ``systemctl status``, and give it to the bell: a message has what was shown then."""
        line = self._refused + status_line(engine)
        self._notifier.status(self._bell.line(line))
        return line

    def _take_config(self, engine: Engine) -> None:
        self._notifier.reloading()
        try:
            config = self._load()
            if config.state_dir != self._config.state_dir:
                raise ArtifactdError("state_dir cannot change while the service runs", "Restart the service for that")
        except ArtifactdError as exc:
            self._log.error("the new configuration is wrong, the old one stays", reason=exc.problem, next_step=exc.cure)
            # The line in the log is soon far up, and whoever reloaded was told that it went well.
            self._refused = coded(f"the new configuration is wrong, the old one stays ({_cut(exc.problem)})") + ", "
        else:
            self._refused = ""
            if not engine.limit(config):
                engine.drain(time.monotonic() + STOP_WITHIN, self._ping)
                engine.use(config)
            self._config = config
            self._bell.use(config)
            log.configure(config.log.format, config.log.level)
            self._exposition.use(config.metrics)
            self._announce("reloaded")
        self._notifier.ready()

    def _announce(self, event: str = "started") -> None:
        config = self._config
        self._log.info(
            event, version=__version__, config=config.source, state_dir=str(config.state_dir),
            target=mask(config.tracking_uri),
        )  # fmt: skip
        for watch in config.watch:
            self._log.info(
                "watching",
                path=printable(str(watch.path).encode("utf-8", "surrogateescape")),
                layout=watch.layout,
            )
        for notice in config.notices():
            self._log.warning("not wholly in effect", notice=str(notice))

    def _waking(self, engine: Engine, handler: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        def handle(_number: int, _frame: FrameType | None) -> None:
            handler()
            engine.wake()

        return handle

    def _on_stop(self) -> None:
        self._stop = True

    def _on_reload(self) -> None:
        self._reload = True


def status_line(engine: Engine) -> str:
    """One line for ``systemctl status``: what waits, what failed, what is held back, what is watched badly."""
    left, failed = engine.ledger.backlog()
    going, watched = engine.ledger.uploading(), engine.watched
    parts = [f"{left - going} waiting"] if left > going else []
    if going:
        parts.append(f"{going} uploading")
    if not left:
        parts.append(_still(watched, failed))
    if failed:
        parts.append(f"{failed} failed")
    parts += map(_held, engine.ledger.held())
    troubles = [f"watch: {_cut(printable(w.path))}: {_brief(w.trouble)}" for w in watched if w.trouble is not None]
    parts += troubles[:_NAMED]
    if len(troubles) > _NAMED:
        parts.append(f"watch: {len(troubles) - _NAMED} more folders")
    return ", ".join(parts)


def _still(watched: Sequence[Watched], failed: int) -> str:
    """What to say where nothing waits: what failed is not stored, and of a folder that is away nobody knows."""
    if not all(w.scanned or w.away for w in watched):
        return "first scan under way"
    return "nothing waits" if failed or any(w.away for w in watched) else "all stored"


def _held(held: Held) -> str:
    if held.run is None:
        return f"{held.kind}: {_brief(held.error)}"
    return f"{held.number} run{'s' * (held.number > 1)} held back: {_cut(printable(held.run))}: {_brief(held.error)}"


def _brief(error: str) -> str:
    """An error that leaves room for others in the line, with its code whatever its length."""
    code = code_of(error)
    return _cut(error) + (f" [{code}]" if code else "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
