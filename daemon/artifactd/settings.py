"""How commands and notebooks find their settings: flags, config file, environment, or the ledger where no file is."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from artifactd.config import Config, ConfigError, WatchConfig, load_config, parse_duration
from artifactd.config.uris import sqlite_file
from artifactd.errors import ArtifactdError, UsageError
from artifactd.ledger import LedgerError, Report
from artifactd.paths import join, within
from artifactd.text import printable


def service_config(
    file: Path | None,
    state_dir: Path | None,
    *,
    directory: Path | None = None,
    usual: bool = False,
    settle: str | None = None,
    log_format: str | None = None,
    log_level: str | None = None,
) -> Config:
    """The configuration of a command that watches or delivers.

    Args:
        file: ``--config``.
        state_dir: ``--state-dir``.
        directory: DIR, to be watched alone.
        usual: As for ``load_config``.
        settle: ``--settle``, for every watched folder.
        log_format: ``--log-format``.
        log_level: ``--log-level``.

    Raises:
        UsageError: It is wrong, or DIR is not there.
    """
    if directory is not None and not directory.is_dir():
        what = "is not a folder" if directory.exists() else "does not exist"
        raise UsageError(f"{directory} {what}", "Name the folder to watch, or make it first")
    overrides = {"state_dir": _absolute(state_dir), "log": {"format": log_format, "level": log_level}}
    config = load_config(file, directory=directory, usual=usual, overrides=overrides)
    quiet = duration(settle, "--settle")
    if quiet is None:
        return config
    return config.model_copy(update={"watch": tuple(w.model_copy(update={"settle": quiet}) for w in config.watch)})


def reader_config(file: Path | None, state_dir: Path | None, *, strict: bool = False) -> Config:
    """The configuration of a command that only looks: it may watch nothing, unless it is a file that was named.

    Args:
        file: ``--config``.
        state_dir: ``--state-dir``.
        strict: Any file that names no folder to watch is wrong, as it is for the service.

    Raises:
        ConfigError: It is wrong.
    """
    overrides = {"state_dir": _absolute(state_dir)}
    try:
        return load_config(file, overrides=overrides)
    except ConfigError as exc:
        # Whoever runs `artifactd run DIR` has no file, or the one that a package brought and nobody filled in yet; the
        # ledger knows what is watched.
        no_file = all((p.file, p.key) == ("the command line", "watch") for p in exc.problems)
        if file is not None or (strict and not no_file):
            raise
    return load_config(None, overrides=overrides, unwatched=True)


def job_config(file: Path | None, state_dir: Path | None, *, settle: str | None = None) -> Config:
    """The configuration of a command that delivers into what is watched already; as ``reader_config``.

    Raises:
        UsageError: It is wrong.
    """
    quiet = duration(settle, "--settle")
    config = reader_config(file, state_dir)
    if quiet is None:
        return config
    with contextlib.suppress(LedgerError), contextlib.closing(Report(config.state_dir)) as report:
        config = config.model_copy(update={"watch": watches_of(config, report)})
    return config.model_copy(update={"watch": tuple(w.model_copy(update={"settle": quiet}) for w in config.watch)})


def as_known(config: Config, directory: Path | None) -> Config:
    """Without a config file, a DIR inside a folder that the ledger knows as watched is a part of that one.

    Args:
        config: From ``service_config``.
        directory: DIR.
    """
    if directory is None or config.source != "defaults" or not (config.state_dir / "ledger.db").exists():
        return config
    here = os.path.realpath(os.fsencode(directory))
    with contextlib.closing(Report(config.state_dir)) as report:
        roots = [w.path for w in report.watches()]
    root = next((r for r in roots if within(here, os.path.realpath(r))), None)
    if root is None:
        return config
    watch = config.watch[0].model_copy(update={"path": Path(os.fsdecode(root))})
    return config.model_copy(update={"watch": (watch,)})


@contextlib.contextmanager
def ledger_of(config: Config) -> Iterator[Report | None]:
    """The ledger, for who only looks; None where there is none yet, and the configuration says what is watched.

    Raises:
        LedgerError: There is neither.
    """
    try:
        report = Report(config.state_dir)
    except LedgerError:
        if not config.watch:
            raise
        yield None
        return
    try:
        yield report
    finally:
        report.close()


def refuse_moved_store(config: Config) -> None:
    """Refuse an embedded store that was made elsewhere: MLflow notes absolute paths, and what is sent would go there.

    Once something was sent, there are runs by the new path as well, and whoever had that happen goes on.

    Raises:
        UsageError: It was made elsewhere, and that path leads to it no more.
    """
    here = sqlite_file(config.tracking_uri)
    if not config.embedded or here is None or not os.path.exists(here):
        return
    try:
        report = Report(config.state_dir)
    except LedgerError:  # what is wrong with it is told by who works with it
        return
    with contextlib.closing(report):
        known = report.targets()
    if config.tracking_uri in known:
        return
    for other in filter(None, map(sqlite_file, sorted(known))):
        if os.path.basename(other) == os.path.basename(here) and os.path.realpath(other) != os.path.realpath(here):
            old, new = (shlex.quote(os.path.dirname(place)) for place in (other, here))
            raise UsageError(
                f"the embedded store in {printable(os.fsencode(config.state_dir))} was made in {old}, and its runs keep"
                " their artifacts below that: what is sent would go there",
                f"Move it back, or have the old path lead to it: ln -s {new} {old}",
            )


def watches_of(config: Config, report: Report | None) -> tuple[WatchConfig, ...]:
    """The configured watches; without a config file those that the ledger knows, by the default rules.

    Raises:
        ArtifactdError: There is none.
    """
    watches = config.watch
    if not watches and report is not None:
        watches = tuple(WatchConfig(path=Path(os.fsdecode(w.path))) for w in report.watches())
    if not watches:
        raise ArtifactdError(
            "no folder is watched yet, so nothing can be said about any", "Name the configuration: --config FILE"
        )
    return watches


def own_path(folder: bytes, watches: tuple[WatchConfig, ...]) -> tuple[WatchConfig, bytes] | None:
    """The watch that holds a folder, and the folder as that watch names it; links above the watch are seen through."""
    folder = os.path.abspath(folder)
    real = os.path.realpath(folder)
    for watch in watches:
        root = os.fsencode(watch.path)
        for path, base in ((folder, root), (real, os.path.realpath(root))):
            if within(path, base):
                return watch, join(root, path[len(base) :].strip(b"/"))
    return None


def holding(folder: bytes, watches: tuple[WatchConfig, ...]) -> tuple[WatchConfig, bytes]:
    """As ``own_path``.

    Raises:
        UsageError: No watch holds the folder.
    """
    found = own_path(folder, watches)
    if found is None:
        watched = ", ".join(printable(os.fsencode(w.path)) for w in watches)
        raise UsageError(
            f"no watched folder holds {printable(folder)}; watched: {watched}",
            "Name or move it inside one, or add a [[watch]] for it",
        )
    return found


def experiments_of(config: Config, report: Report | None) -> tuple[str, ...]:
    """Experiments that are delivered to, as far as they are known: each may lie in a store of its own."""
    names = [watch.experiment for watch in config.watch if watch.experiment]
    names += [run.experiment for run in reversed(report.runs())] if report is not None else []
    return tuple(dict.fromkeys(names))


def inside(directory: Path | None, config: Config) -> Path | None:
    """DIR as a folder inside the one watch that `config` was narrowed to; None when it is the whole of it."""
    if directory is None:
        return None
    watch = config.watch[0].path
    rel = os.path.relpath(os.path.realpath(directory), os.path.realpath(watch))
    return None if rel == "." else watch / rel


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(os.path.expanduser(path)))


def duration(text: str | None, option: str) -> float | None:
    """Seconds, from what a person wrote behind an option.

    Raises:
        UsageError: It is no duration.
    """
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise UsageError(f"{option}: {exc}") from None
