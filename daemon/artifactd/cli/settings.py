"""How a command finds its settings: flags, config file, environment, or the ledger where there is no file."""

from __future__ import annotations

import os
from pathlib import Path

from artifactd.config import Config, ConfigError, load_config, parse_duration
from artifactd.errors import UsageError

_NOWHERE = Path("/nonexistent")
"""Stands for a watched folder where none is needed to read the rest of the configuration."""


def service_config(
    file: Path | None,
    state_dir: Path | None,
    *,
    directory: Path | None = None,
    settle: str | None = None,
    log_format: str | None = None,
    log_level: str | None = None,
) -> Config:
    """The configuration of a command that watches or delivers.

    Args:
        file: ``--config``.
        state_dir: ``--state-dir``.
        directory: DIR, to be watched alone.
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
    config = load_config(file, directory=directory, overrides=overrides)
    quiet = duration(settle, "--settle")
    if quiet is None:
        return config
    return config.model_copy(update={"watch": tuple(w.model_copy(update={"settle": quiet}) for w in config.watch)})


def reader_config(file: Path | None, state_dir: Path | None) -> Config:
    """The configuration of a command that only looks: without any config file, one that watches nothing.

    Raises:
        ConfigError: It is wrong.
    """
    overrides = {"state_dir": _absolute(state_dir)}
    try:
        return load_config(file, overrides=overrides)
    except ConfigError as exc:
        # Whoever runs `artifactd run DIR` has no file, and the ledger knows what is watched.
        if file is not None or any((p.file, p.key) != ("the command line", "watch") for p in exc.problems):
            raise
    return load_config(None, directory=_NOWHERE, overrides=overrides).model_copy(update={"watch": ()})


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
