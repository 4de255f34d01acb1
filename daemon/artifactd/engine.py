"""The engine: roots, ledger and workers, and the one loop body that moves them. ``run`` and ``sync`` both drive it.

One thread does the work and one wait is where it rests. Everything it holds in memory can be lost at any moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

from artifactd import failpoint, log, memory, traces
from artifactd.config import Config, WatchConfig, layout_of
from artifactd.config.uris import local_folder, sqlite_file
from artifactd.delivery.backoff import Backoff
from artifactd.delivery.dispatch import Dispatcher
from artifactd.delivery.limits import Limits
from artifactd.delivery.messages import Target
from artifactd.delivery.pool import Pool
from artifactd.delivery.receipts import Delivered, Source
from artifactd.errors import ArtifactdError
from artifactd.ledger import Ledger, Order, Run, StateLock
from artifactd.look import Looker
from artifactd.metrics import Figures
from artifactd.runs import Place
from artifactd.secrets import mask
from artifactd.settings import refuse_moved_store
from artifactd.tracking.environment import require_engine
from artifactd.watched import Watched
from artifactd.whose import make_folders

TICK = 1.0
"""Seconds of the longest wait while there is something to do: limits follow the clock."""

REST = 3.0
"""Seconds of the longest wait: what ``artifactd retry`` wrote is seen within it, and a root that went. To wake up is
most of what a process costs that has nothing to do."""

LOOK_ANYWAY = 15.0
"""Seconds after which all is looked at though there was nothing to do the last time and nobody said anything since."""

SLICE = 0.05
"""Seconds of scanning between two looks at everything else, so that fresh files do not wait for a big scan."""

SET_BACK = 1.0
"""Seconds by which the wall clock must jump back to be noticed; less is waited out."""

_LEAST = 0.01
"""Seconds of the shortest wait for events to gather: a root that cannot be opened is not tried without a pause."""

IDLE_AFTER = 60.0
"""Seconds without work after which the delivery processes go, and MLflow's memory with them."""


class Engine:
    """Everything that a running artifactd is, without signals and service manager.

    Args:
        config: The effective configuration.
        what: What this process is, for whoever finds the state folder in use.
        only: Absolute folder to which looking is confined (``sync DIR`` inside a watch).
        events: False: no inotify, for a single pass.
        news: Called for each file delivered.

    Raises:
        ArtifactdError: The state folder is in use, not writable or was moved, the ledger cannot be used, or MLflow
            lacks a part.
    """

    def __init__(
        self,
        config: Config,
        what: str,
        *,
        only: Path | None = None,
        events: bool = True,
        news: Callable[[Delivered], None] = lambda _: None,
    ) -> None:
        require_engine(config.tracking_uri)
        refuse_moved_store(config)
        self._lock = StateLock(config.state_dir)
        try:
            make_folders(config.state_dir, 0o700)
            self._lock.acquire(what)
        except PermissionError:
            raise
        except OSError as exc:
            raise ArtifactdError(
                f"the state folder {config.state_dir} cannot be used: {exc.strerror}",
                "Check that its disk is writable and has space, or give another --state-dir",
            ) from exc
        self.ledger = Ledger(config.state_dir)
        self.ledger.recover()
        failpoint.reach("recover.after")
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waker = select.poll()
        self._waker.register(self._wake_fd, select.POLLIN)
        self._events = events
        self._only = only
        self._news = news
        self._traces = traces.begin(os.environ)
        self.figures = Figures(None if self._traces is None else self._traces.tell)
        self._idle_since = time.monotonic()
        self._rested_at: float | None = None
        self._written_outside = 0
        self._clock = time.time() - time.monotonic()
        self._watched: list[Watched] = []
        self._limits = Limits()
        self._pool: Pool
        self.use(config)

    def use(self, config: Config) -> None:
        """Begin to work by this configuration; also how a reload takes effect. What is under way is looked at again."""
        if self._watched:
            self.stop_delivery()
            self._close_watches()
        self.config = config
        embedded = config.embedded_artifacts if config.embedded else None
        self.target = Target(config.tracking_uri, embedded)
        self.target_name = mask(config.tracking_uri)
        self._limits.use(config.upload, time.time())
        self._pool = Pool(
            _workers(config), config.tracking_uri, (self._lock.fileno,), config.state_dir / "staging",
            self._limits.shared, config.mlflow.artifact_location or (embedded.as_uri() if embedded else None), embedded,
        )  # fmt: skip
        self.ledger.keep_target(self.target_name)
        settle = max((w.settle for w in config.watch), default=0.0)
        self.ledger.cut_waits(time.time(), settle=settle, retry=config.retry.maximum)
        self.ledger.use_order(order := Order(config.upload.order))
        roots = self.ledger.use_roots(os.fsencode(w.path) for w in config.watch)
        self._watched = [self._watch(roots[os.fsencode(w.path)], w) for w in config.watch]
        self._dispatcher = Dispatcher(
            self.ledger,
            self._pool,
            target=self.target,
            target_name=self.target_name,
            artifact_location=config.mlflow.artifact_location or (embedded.as_uri() if embedded else None),
            backoff=Backoff(config.retry.initial, config.retry.maximum, config.retry.give_up_after),
            sources={
                w.ident: Source(
                    w.config.settle,
                    w.leases,
                    w.look_again,
                    w.here,
                    w.config.on_change == "version",
                    w.note_delivered,
                    w.config.run_scope == "fleet",
                    layout_of(w.config),
                    w.config.after_upload == "delete",
                    w.model,
                )
                for w in self._watched
            },
            news=self._news,
            order=order,
            batch=self._limits.batch,
            figures=self.figures,
        )

    def limit(self, config: Config) -> bool:
        """Begin to work by this configuration if its limits, or who is told of things, are all that is new in it.

        Uploads under way go on by it. Whoever tells of trouble, and serves metrics, takes the new settings itself.

        Returns:
            False where that is not the difference, and nothing was done.
        """
        limits = {name: getattr(config.upload, name) for name in ("bandwidth_limit", "read_limit")}
        upload = self.config.upload.model_copy(update=limits)
        told = {"notify": config.notify, "metrics": config.metrics}
        changed = self.config.model_copy(update={"upload": upload, **told})
        if changed != config or config == self.config:  # who asks for what there is means a new beginning
            return False
        self.config = config
        if self._limits.use(config.upload, time.time()):
            self._pool.tell_limits()
        return True

    def _watch(self, ident: int, config: WatchConfig) -> Watched:
        path = os.fsencode(config.path)
        place = Place(mask(self.config.tracking_uri), socket.gethostname(), config.run_scope == "fleet")
        looker = Looker(
            self.ledger, ident, path, layout_of(config), config.settle, place, removes=config.after_upload == "delete"
        )
        start = b"" if self._only is None else os.path.relpath(os.fsencode(self._only), path)
        return Watched(
            ident, config, looker, self.ledger, self.wake, start=b"" if start == b"." else start, events=self._events
        )  # fmt: skip

    # -- the loop ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """End the loop's wait; from any thread or signal handler."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake_fd, 1)

    def turn(self, longest: float = REST) -> bool:
        """One turn: take what the workers said, look where something happened, hand out what is due, rest.

        Args:
            longest: Most seconds to rest.

        Returns:
            Whether there could have been something to do; False is next to free.
        """
        could = not self._at_rest()
        if could:
            self._do()
        self._rest(longest)
        return could

    def _do(self) -> None:
        outside = self.ledger.changed_outside()  # before all reading: what is written meanwhile is another turn's
        with self.ledger.transaction():  # which may wait for another process: the clock is asked after it
            now = self._mind_the_clock()
            for job, answer in (*self._pool.answers(), *self._pool.end_stuck()):
                self._dispatcher.take(job, answer, now)
            for watched in self._watched:
                watched.check()
                watched.look_at_hints(now)
                watched.scan_some(SLICE, now)
            jobs = self._dispatcher.assign(time.time())
        if jobs:
            failpoint.reach("claims.handed_out")
        self._limits.keep(time.time())
        self._dispatcher.submit(jobs)  # only once the claims are durable
        for watched in self._watched:
            watched.remove_delivered()
        self._see_to_pool()
        self._written_outside = outside

    def _at_rest(self) -> bool:
        """Whether there was nothing to do and no root to wait for lately, nor event, answer, writer or scan since."""
        return (
            self._rested_at is not None
            and time.monotonic() - self._rested_at < LOOK_ANYWAY
            and not any(w.scanning or w.stirred for w in self._watched)
            and self.ledger.changed_outside() == self._written_outside
        )

    def _mind_the_clock(self) -> float:
        """Unix seconds; where the clock was set back, all that waits for a time is moved with it."""
        now = time.time()
        clock, before = now - time.monotonic(), self._clock
        if clock < before - SET_BACK:
            log.get().warning("the clock was set back", seconds=round(before - clock, 1))
            self.ledger.move_waits(before - clock)
        self._clock = clock
        return now

    def _see_to_pool(self) -> None:
        self._rested_at = None
        if self.ledger.runs_with_due() or self._pool.busy or self._dispatcher.waiting_runs():
            self._idle_since = time.monotonic()
            self._pool.warm()
            return
        if all(w.away is None for w in self._watched):
            self._rested_at = time.monotonic()
        if self._pool.alive and time.monotonic() - self._idle_since > IDLE_AFTER:
            self._pool.stop()
            memory.give_back()
            if self.scanned and not any(w.scanning for w in self._watched):
                self.ledger.forget_found()
        if not self._pool.alive and not any(w.scanning for w in self._watched):
            self.ledger.rest()  # what looks have read of it would stay, and be more with each file that there ever was

    def _rest(self, longest: float) -> None:
        longest = min([longest, *(max(w.pause, _LEAST) for w in self._watched)])
        if self._rested_at is None:
            longest = min(longest, TICK)
        if any(w.scanning for w in self._watched):
            longest = 0.0
        elif self._pool.free and self._rested_at is None:
            now = time.time()
            soonest = self._dispatcher.next_due(now)
            if soonest is not None:
                longest = min(longest, max(soonest - now, 0.0))
        waitables = self._pool.waitables()
        # With no worker there is one thing to wait for, and all that an idle host should pay is one call of the kernel.
        ready = wait([self._wake_fd, *waitables], longest) if waitables else self._waker.poll(longest * 1000)
        if ready:
            self._rested_at = None
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def scanned(self) -> bool:
        """Whether every root was scanned in full at least once; false while one was never there."""
        return all(w.scanned for w in self._watched)

    @property
    def watched(self) -> list[Watched]:
        """The watched roots."""
        return self._watched

    @property
    def busy(self) -> int:
        """Jobs under way."""
        return self._pool.busy

    @property
    def waiting_runs(self) -> list[Run]:
        """Runs of which the server is to be told changed settings, or their end since they have all their files."""
        return self._dispatcher.waiting_runs()

    @property
    def moving(self) -> bool:
        """Whether some upload is under way that is not stuck; one that is too slow to finish soon still moves."""
        return self._pool.moving

    @property
    def starting(self) -> bool:
        """Whether delivery is still to come up; the engine ends with an error where it does not."""
        return self._pool.starting

    def drain(self, deadline: float, alive: Callable[[], None] = lambda: None) -> None:
        """Let workers finish the file in hand, take their word, and end them.

        Args:
            deadline: Monotonic seconds at which they are ended whatever they do; what is left stays due.
            alive: Called some times a second while they are waited for.
        """
        self._pool.wrap_up(self._pool.jobs())
        while self._pool.busy and time.monotonic() < deadline:
            alive()
            wait(self._pool.waitables(), timeout=min(0.2, max(0.0, deadline - time.monotonic())))
            with self.ledger.transaction():
                for job, answer in self._pool.answers():
                    self._dispatcher.take(job, answer, time.time())
        self.stop_delivery()

    def stop_delivery(self) -> None:
        """End the delivery processes now."""
        self._pool.stop()
        with self.ledger.transaction():
            self._dispatcher.put_back_all()

    def close(self) -> None:
        """Let go of everything; what was under way is due again."""
        self.stop_delivery()
        self._close_watches()
        if self._traces is not None:
            self._traces.close()
        self.ledger.close()
        self._lock.release()
        self._limits.close()
        os.close(self._wake_fd)

    def _close_watches(self) -> None:
        for watched in self._watched:
            watched.close()
        self._watched = []


def _workers(config: Config) -> int:
    """Workers for ``auto``: a server is waited for, so twice the cores; a local root is limited by the cores.

    On two cores, two bring 4 KiB files there as fast as four (1.01 times, n = 6), and take 28 MiB less.
    """
    if config.upload.workers != "auto":
        return config.upload.workers
    cores = len(os.sched_getaffinity(0))
    return max(2, min(8, cores if _is_near(config) else 2 * cores))


def _is_near(config: Config) -> bool:
    """Whether runs and artifacts are files of this host: in the embedded store, or in others that one names."""
    location = config.mlflow.artifact_location
    return config.embedded or (
        sqlite_file(config.tracking_uri) is not None and location is not None and local_folder(location) is not None
    )
