"""artifactd in Python: what ``sync``, ``status`` and ``explain`` do, for notebooks and training code.

Everything reaches MLflow in processes of its own: nothing of it is imported, or changed, where this is called.
`config` and `state_dir` everywhere are those of the commands (``--config``, ``--state-dir``): without them the
environment and the usual files count. What goes wrong is an ``artifactd.errors.ArtifactdError`` that says what to do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from artifactd.ahead import ask_run
from artifactd.config import Config, WatchConfig, layout_of
from artifactd.errors import ArtifactdError, FailedError, NotStoredError, Unstored, UsageError, WaitTimeoutError
from artifactd.explain import Watch, wait_of
from artifactd.ledger import FileView, Report, State
from artifactd.onepass import PATIENCE, Result, run_pass
from artifactd.secrets import mask
from artifactd.settings import (
    as_known,
    holding,
    inside,
    ledger_of,
    own_path,
    reader_config,
    service_config,
    watches_of,
)  # fmt: skip
from artifactd.standing import next_try, read
from artifactd.text import printable
from artifactd.waiting import Look, service_at, until_stored
from artifactd.wayback.find import find_runs

Folder: TypeAlias = str | os.PathLike[str]

_NAMED = 5
"""Files that an error names in its text; its ``files`` has all."""


@contextmanager
def _in_words() -> Iterator[None]:
    """What this user may not open, mostly another's state folder, is an error that says what to do, too."""
    try:
        yield
    except PermissionError as exc:
        from artifactd.doctor.surroundings import refused  # noqa: PLC0415 (only this error needs it)

        raise refused(exc) from None


@dataclass(frozen=True, slots=True)
class Synced:
    """What a pass came to.

    Attributes:
        stored: Files stored by it.
        stored_bytes: Their bytes.
        unchanged: Files that were looked at and held the content that is stored.
        failed: Files that failed, and why.
        left: Files that still wait, and for what.
        runs: Run folders whose changed settings or end the server was not told.
        away: Watched folders that could not be looked at.
        seconds: How long it took.
        by: The running service that did it; None when this call did.
    """

    stored: int
    stored_bytes: int
    unchanged: int
    failed: tuple[Unstored, ...]
    left: tuple[Unstored, ...]
    runs: tuple[str, ...]
    away: tuple[str, ...]
    seconds: float
    by: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all is stored."""
        return not (self.failed or self.left or self.runs or self.away)


@dataclass(frozen=True, slots=True)
class Stored:
    """A folder of which all is stored: its files, their bytes, and the seconds that were waited for it."""

    files: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Attributes:
        run_id: Its id in MLflow.
        experiment: The experiment's name.
        name: The run's name.
        status: RUNNING, FINISHED, …: the server's word where it is asked, else what artifactd heard last.
        folder: Its run folder.
        url: Its page in the server's UI; None where there is no server, or it was not asked or did not answer.
    """

    run_id: str
    experiment: str
    name: str
    status: str
    folder: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run with its counts of files; `run_id` is None while it is not made yet."""

    experiment: str
    run: str
    run_id: str | None
    status: str | None
    stored: int
    pending: int
    failed: int


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """A watched folder: how it is watched (events, scan), and what is wrong."""

    path: str
    mode: str
    healthy: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Status:
    """How everything stands; the fields are those of ``artifactd status --json``, and the service at work."""

    service: str | None
    pending: int
    uploading: int
    stored: int
    failed: int
    ignored: int
    oldest_pending_seconds: float
    bytes_sent: int
    bytes_unique: int
    watches: tuple[WatchStatus, ...]
    runs: tuple[RunStatus, ...]
    failures: tuple[Unstored, ...]


@_in_words()
def sync(
    directory: Folder | None = None,
    *,
    config: Folder | None = None,
    state_dir: Folder | None = None,
    settle: str | None = None,
    deadline: float | None = None,
) -> Synced:
    """Deliver what is at rest, once, as ``artifactd sync``; where a service works, wait until it has done so.

    Args:
        directory: Only this folder: with the settings of the watch that holds it, else with every default.
        config: The TOML file.
        state_dir: The state folder.
        settle: Quiet time before a file counts as at rest, as ``"5s"``.
        deadline: The most seconds it may take; by default it ends when nothing is left, or nothing moves any more.

    Returns:
        What was stored, and what failed or is left: that is no exception here.

    Raises:
        ArtifactdError: It cannot start: wrong configuration, no such folder, no watch.
    """
    only = _path(directory)
    settings = service_config(
        _path(config), _path(state_dir), directory=only, usual=True, settle=settle, log_level="error"
    )
    settings = as_known(settings, only)
    begun = time.monotonic()
    service = service_at(settings.state_dir, deadline)
    if service is None:
        return _synced(run_pass(settings, only=inside(only, settings), deadline=deadline), settings)
    looks: list[Look] = []
    first: list[Look] = []
    for watch, path in _covering(settings, only):
        seen: list[Look] = []
        patience = max(PATIENCE, 2 * watch.settle)
        rest = None if deadline is None else max(0.0, deadline - (time.monotonic() - begun))
        looks.append(
            until_stored(
                settings.state_dir, watch, path, deadline=rest, patience=patience, despite_failures=True,
                show=seen.append,
            )
        )  # fmt: skip
        first.append(seen[0])
    return Synced(
        max(0, sum(look.stored for look in looks) - sum(look.stored for look in first)),
        max(0, sum(look.stored_bytes for look in looks) - sum(look.stored_bytes for look in first)),
        sum(look.stored for look in first),
        tuple(file for look in looks for file in look.failed),
        tuple(file for look in looks for file in look.left),
        (), (), time.monotonic() - begun, service,
    )  # fmt: skip


@_in_words()
def status(*, config: Folder | None = None, state_dir: Folder | None = None) -> Status:
    """Counts, lag, runs, failures and the health of the watches, from the ledger alone, as ``artifactd status``.

    Raises:
        ArtifactdError: There is no ledger yet, or the configuration is wrong.
    """
    folder = reader_config(_path(config), _path(state_dir)).state_dir
    with _report(folder) as report:
        now = read(report, folder)
    return Status(
        service=now.service,
        pending=now.count(State.DUE),
        uploading=now.count(State.UPLOADING),
        stored=now.count(State.STORED),
        failed=now.count(State.FAILED),
        ignored=now.count(State.IGNORED),
        oldest_pending_seconds=round(now.lag(), 1),
        bytes_sent=now.totals.bytes_sent,
        bytes_unique=now.totals.bytes_unique,
        watches=tuple(WatchStatus(printable(w.path), w.mode, w.healthy, w.detail) for w in now.watches),
        runs=tuple(
            RunStatus(r.experiment, r.run, r.run_id, r.status or None, r.stored, r.pending, r.failed) for r in now.runs
        ),
        failures=(
            *(Unstored(what, "it is held back", b.error, b.next_step, b.kind, b.again) for what, b in now.held.items()),
            *(_unstored(file, next_try(file)) for file in now.failures),
        ),
    )


@_in_words()
def wait(
    directory: Folder,
    timeout: float | None = None,
    *,
    config: Folder | None = None,
    state_dir: Folder | None = None,
) -> Stored:
    """Block until all of a folder is stored by the running service, and its run was told its end if it has a marker.

    Args:
        directory: A run folder, one above it or one inside it.
        timeout: The most seconds to wait; None for no limit.
        config: The TOML file.
        state_dir: The state folder.

    Raises:
        FailedError: A file failed; it is named with the reason.
        WaitTimeoutError: The time is over; ``files`` has what is left, and why.
        NotStoredError: No service works here, and files are left.
        ArtifactdError: No such folder, no watch holds it, or the configuration is wrong.
    """
    settings = reader_config(_path(config), _path(state_dir))
    folder = Path(os.path.abspath(directory))
    if not folder.is_dir():
        raise UsageError(f"{printable(os.fsencode(folder))} is no folder", "Name a folder that is there")
    begun = time.monotonic()
    ((watch, path),) = _covering(settings, folder)
    now = until_stored(settings.state_dir, watch, path, deadline=timeout)
    if now.failed or now.left:
        raise _not_stored(path, now, settings, time.monotonic() - begun, timeout)
    return Stored(now.stored, now.stored_bytes, time.monotonic() - begun)


@_in_words()
def run_for(
    directory: Folder, *, config: Folder | None = None, state_dir: Folder | None = None, offline: bool = False
) -> Run:
    """The run that a folder is delivered to.

    Args:
        directory: A run folder, or one inside it.
        config: The TOML file.
        state_dir: The state folder.
        offline: Ask no server (which takes some seconds): no URL then, and the status that artifactd heard last.

    Raises:
        ArtifactdError: No run is known for it yet, or it holds several.
    """
    settings = reader_config(_path(config), _path(state_dir))
    with _report(settings.state_dir) as report:
        found = find_runs(report, os.fsencode(os.path.abspath(directory)), mask(settings.tracking_uri))
    own = [run for run in found if run.views and not run.place]
    if len(found) > 1 and len(own) == 1:  # a sweep's own run, with the runs in it
        found = own
    if len(found) > 1:
        raise ArtifactdError(
            f"{printable(os.fsencode(directory))} holds {len(found)} runs", "Name the folder of one of them"
        )
    view = found[0].views[0]
    run = Run(found[0].run_id, view.experiment, view.run, view.status, printable(view.folder))
    if offline or not settings.tracking_uri.startswith(("http://", "https://")):
        return run
    try:
        made = ask_run(settings, run.run_id)
    except ArtifactdError:
        return run  # what is known without the server is an answer, too
    return Run(
        run.run_id, run.experiment, run.name, made.status, run.folder, page(settings, made.experiment_id, run.run_id)
    )


def page(config: Config, experiment_id: str, run_id: str) -> str | None:
    """A run's page in the server's UI; None where the runs are in a database without one."""
    parts = urlsplit(config.tracking_uri)
    if parts.scheme not in ("http", "https"):
        return None
    server = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"


# -- inside ------------------------------------------------------------------------------------------------------


def _covering(settings: Config, folder: Path | None) -> list[tuple[Watch, bytes]]:
    with ledger_of(settings) as report:
        watches = watches_of(settings, report)
    if folder is None:
        return [(_rules(w), os.fsencode(w.path)) for w in watches]
    watch, path = holding(os.fsencode(folder), watches)
    return [(_rules(watch), path)]


def _rules(watch: WatchConfig) -> Watch:
    return Watch(os.fsencode(watch.path), layout_of(watch), watch.settle)


def _not_stored(path: bytes, now: Look, settings: Config, seconds: float, timeout: float | None) -> NotStoredError:
    where = printable(path)
    if now.failed:
        first = now.failed[0]
        return FailedError(f"{len(now.failed)} of {where} failed:\n{_lines(now.failed)}", first.cure, now.failed)
    what = f"{len(now.left)} of {where} left:\n{_lines(now.left)}"
    if timeout is not None and seconds >= timeout:
        return WaitTimeoutError(f"not stored within {timeout:g} s, {what}", "`artifactd explain` says more", now.left)
    return NotStoredError(
        f"no artifactd works with {settings.state_dir}, {what}",
        "Start `artifactd run`, or send what is due with artifactd.sync()", now.left,
    )  # fmt: skip


def _lines(files: tuple[Unstored, ...]) -> str:
    more = [f"  … and {len(files) - _NAMED} more"] if len(files) > _NAMED else []
    return "\n".join([*(f"  {file}" for file in files[:_NAMED]), *more])


def _synced(result: Result, config: Config) -> Synced:
    now = time.time()
    return Synced(
        result.progress.stored, result.progress.stored_bytes, result.progress.skipped,
        tuple(_unstored(file, None) for file in result.failed),
        tuple(_left(file, config, now) for file in result.left),
        tuple(map(printable, result.runs)), tuple(map(printable, result.away)), result.seconds,
    )  # fmt: skip


def _left(file: FileView, config: Config, now: float) -> Unstored:
    found = own_path(file.path, config.watch)
    waits = wait_of(file, None if found is None else found[0].settle, now)
    return Unstored(printable(file.path), waits.reason, waits.error, waits.cure, waits.kind, waits.until)


def _unstored(file: FileView, again: float | None) -> Unstored:
    reason = "it failed" if file.state is State.FAILED else "its next try"
    return Unstored(printable(file.path), reason, file.error or "", file.next_step, file.kind, again)


@contextmanager
def _report(state_dir: Path) -> Iterator[Report]:
    report = Report(state_dir)
    try:
        yield report
    finally:
        report.close()


def _path(of: Folder | None) -> Path | None:
    return None if of is None else Path(os.path.abspath(os.path.expanduser(of)))
