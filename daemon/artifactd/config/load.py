"""Reads the configuration from everywhere it may stand, and says everything that is wrong with it at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_config_path
from pydantic import ValidationError

from artifactd.config.fields import WRITTEN
from artifactd.config.model import Config, WatchConfig, default_state_dir
from artifactd.config.places import Places, absolute_path, clashes, is_inside
from artifactd.config.problems import ConfigError, Loc, Mistake, Problem, dotted
from artifactd.config.sources import (
    DIRECTORY,
    FILE_VARIABLE,
    Source,
    environment,
    flags,
    merge,
    place_of,
    surroundings,
    toml_file,
)
from artifactd.config.translate import mistakes
from artifactd.config.uris import check_artifact_location, check_tracking_uri, embedded_uri

T = TypeVar("T")

SYSTEM_FILE = Path("/etc/artifactd/config.toml")


def load_config(
    file: Path | None,
    *,
    directory: Path | None = None,
    usual: bool = False,
    overrides: Mapping[str, Any] | None = None,
    unwatched: bool = False,
) -> Config:
    """Read the effective configuration: flags before environment before file before defaults.

    Args:
        file: The TOML file. None reads no file when ``directory`` is given, else ``$ARTIFACTD_CONFIG``, the user's
            ``artifactd/config.toml`` or ``/etc/artifactd/config.toml``.
        directory: The one folder to watch: if it is a configured one or lies in it, that watch is kept as it is and
            the others go; else it is watched with the defaults.
        usual: With ``directory``, read one of these files all the same if it watches that folder.
        overrides: Flags as nested tables; None means not given.
        unwatched: A configuration that names no folder to watch will do.

    Returns:
        The configuration; its ``source`` names the file.

    Raises:
        ConfigError: With every mistake there is.
    """
    here = None if directory is None else Path(os.path.abspath(directory))
    path = file or (_find_file() if here is None else _file_that_watches(here) if usual else None)
    variables, problems = environment(os.environ)
    sources = [flags(overrides or {}), variables]
    unreadable: list[Problem] = []
    if path is not None:
        from_file, unreadable = toml_file(path)
        sources.append(from_file)
    elif here is not None:
        sources.append(Source({"watch": {0: {"path": here}}}, {("watch", 0, "path"): (DIRECTORY, None)}))
    sources.append(surroundings(os.environ))
    data, gaps = merge(sources)
    config, wrong = _validate(data)
    if not unwatched and not unreadable and here is None and data.get("watch", []) == []:
        wrong.append((("watch",), _nothing_to_watch(path)))
    wrong += clashes(_places(data))
    problems += unreadable + gaps + _problems(wrong, sources)
    if config is None or problems:
        raise ConfigError(problems)
    if here is not None:
        config = _narrowed(config, here)
    config._source = "defaults" if path is None else str(path)
    return config


def _find_file() -> Path | None:
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    usual = (user_config_path("artifactd", appauthor=False) / "config.toml", SYSTEM_FILE)
    return next((path for path in usual if path.exists()), None)


def _file_that_watches(here: Path) -> Path | None:
    """The usual file, where one of its folders is or holds DIR: a folder of another's is nobody else's to deliver."""
    with contextlib.suppress(OSError):  # it may not even be looked for
        if (path := _find_file()) is not None:
            source, _ = toml_file(path)
            folder = os.path.realpath(here)
            watched = _places(merge([source])[0]).watches
            if any(is_inside(folder, os.path.realpath(root)) for _, root in watched):
                return path
    return None


def _nothing_to_watch(path: Path | None) -> Mistake:
    if path is None:
        return Mistake("there is no config file, and no folder is named", "give DIR, or a file with --config")
    return Mistake("no folder is watched", 'write [[watch]] with path = "/data/drop", or give DIR')


def _validate(data: dict[str, Any]) -> tuple[Config | None, list[tuple[Loc, Mistake]]]:
    try:
        return Config.model_validate(data, context=WRITTEN), []
    except ValidationError as error:
        return None, list(mistakes(error))


def _problems(wrong: Iterable[tuple[Loc, Mistake]], sources: Sequence[Source]) -> list[Problem]:
    problems = []
    for loc, mistake in wrong:
        file, line = place_of(loc, sources)
        problems.append(Problem(file, dotted(loc), mistake.wrong, mistake.instead, line))
    return problems


def _places(data: dict[str, Any]) -> Places:
    """Take what can be used, whatever else is wrong: each mistake is told, not the first alone."""
    state_dir = _usable(absolute_path, data["state_dir"]) if "state_dir" in data else default_state_dir()
    mlflow = data.get("mlflow")
    mlflow = mlflow if isinstance(mlflow, dict) else {}
    if "tracking_uri" in mlflow:
        tracking_uri = _usable(check_tracking_uri, mlflow["tracking_uri"])
    else:
        tracking_uri = None if state_dir is None else embedded_uri(state_dir)
    watches = data.get("watch")
    paths = [
        (("watch", index, "path"), _usable(absolute_path, watch.get("path")))
        for index, watch in enumerate(watches if isinstance(watches, list) else ())
        if isinstance(watch, dict)
    ]
    return Places(
        watches=[(loc, path) for loc, path in paths if path is not None],
        state_dir=state_dir,
        tracking_uri=tracking_uri,
        artifact_location=_usable(check_artifact_location, mlflow.get("artifact_location")),
    )


def _usable(check: Callable[[Any], T], value: object) -> T | None:
    try:
        return check(value) if isinstance(value, str | os.PathLike) else None
    except Mistake:
        return None


def _narrowed(config: Config, here: Path) -> Config:
    folder = os.path.realpath(here)
    for watch in config.watch:
        if is_inside(folder, os.path.realpath(watch.path)):
            return config.model_copy(update={"watch": (watch,)})
    places = Places([((), here)], config.state_dir, config.tracking_uri, config.mlflow.artifact_location)
    if wrong := list(clashes(places)):
        raise ConfigError(Problem(DIRECTORY, "", mistake.wrong, mistake.instead) for _, mistake in wrong)
    return config.model_copy(update={"watch": (WatchConfig(path=here),)})
