"""A run made ahead of its files: for ``exec``, whose command is to know the run's id from its start.

One folder, one run: the run has the key of its folder from the request that makes it, and it is made while the folder
is empty. An empty folder has no run, so nobody else makes one at the same time.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import wait

from artifactd.config import Config, WatchConfig, layout_of
from artifactd.delivery.messages import AskRun, Job, JobFailed, PrepareRun, RunReady, Target
from artifactd.delivery.pool import Pool
from artifactd.errors import ArtifactdError, DeliveryError, Kind, UnreachableError, UsageError
from artifactd.layout import Destination
from artifactd.names import RUN_NOTE
from artifactd.paths import join
from artifactd.runfolder import (
    SETTINGS_NAME,
    RunSettings,
    RunSettingsError,
    adopted_run_id,
    noted_run_id,
    parse_settings,
)
from artifactd.runs import Place, began, key_of, tags_of
from artifactd.secrets import mask
from artifactd.tracking.environment import require_engine
from artifactd.tracking.runs import PARENT_TAG, RunSpec
from artifactd.watching.inside import open_root
from artifactd.whose import make_folders

WITHIN = 60.0
"""Seconds in which the run must be there, MLflow's import included: the command does not wait for longer."""

_TRIES = 3
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Made:
    """A run as the server has it.

    Attributes:
        run_id: Its id.
        experiment_id: That of its experiment.
        status: RUNNING, FINISHED, …
    """

    run_id: str
    experiment_id: str
    status: str


def placed_at(watch: WatchConfig, folder: bytes) -> Destination:
    """Which run a run folder (relative to its watch) is.

    Raises:
        UsageError: By the rules of the watch it is none.
    """
    layout = layout_of(watch)
    why = layout.excluded_folder(folder)
    placed = layout.run(folder) if layout.run_folder(folder) == folder else None
    if why is not None or not isinstance(placed, Destination):
        reason = why or f"the layout is {watch.layout}"
        raise UsageError(
            f"{os.fsdecode(folder) or 'the watched folder'} is no run folder of {watch.path}: {reason}",
            "Name a folder as the layout has it, or leave --dir out",
        )
    return placed


def make_run(config: Config, watch: WatchConfig, folder: bytes, known: str | None = None) -> Made:
    """Find or make the run of a folder.

    Args:
        config: The effective configuration.
        watch: The watch that holds the folder.
        folder: The run folder, relative to the watched one.
        known: The run's id, if the ledger has it.

    Raises:
        DeliveryError: The server cannot be reached, or refuses.
        ArtifactdError: The folder or its artifactd.toml is wrong.
    """
    placed = placed_at(watch, folder)
    path = join(os.fsencode(watch.path), folder)
    settings = _settings(path)
    where = Place(mask(config.tracking_uri), socket.gethostname(), watch.run_scope == "fleet")
    adopted = settings.run_id or _noted(path) or adopted_run_id(os.path.basename(folder))
    embedded = config.embedded_artifacts if config.embedded else None
    tags = tags_of(where, path, placed, settings)
    if placed.parent is not None and not adopted:
        tags[PARENT_TAG] = make_run(config, watch, placed.parent).run_id
    spec = RunSpec(
        key=None if adopted else key_of(where, path),
        run_id=adopted or known,
        experiment=placed.experiment,
        artifact_location=config.mlflow.artifact_location or (embedded.as_uri() if embedded else None),
        name=settings.name or placed.run,
        tags=tags,
        params=dict(settings.params),
        named=settings.name is not None,
        fleet=(where.fleet or placed.nests) and not adopted,
        began=_began(watch, folder),
    )
    return _ask(config, PrepareRun(_target(config), 0, spec))


def ask_run(config: Config, run_id: str) -> Made:
    """How a run stands on the server.

    Raises:
        DeliveryError: The server cannot be reached, or the run is deleted or unknown.
    """
    return _ask(config, AskRun(_target(config), 0, run_id))


def _target(config: Config) -> Target:
    return Target(config.tracking_uri, config.embedded_artifacts if config.embedded else None)


def _noted(path: bytes) -> str | None:
    try:
        with open(join(path, RUN_NOTE), "rb") as stream:
            return noted_run_id(stream.read())
    except OSError:
        return None


def _began(watch: WatchConfig, folder: bytes) -> int | None:
    """As a look says it; None: now."""
    try:
        root = open_root(os.fsencode(watch.path))
    except OSError:
        return None
    try:
        return int(began(root, folder, (), None, time.time()) * 1000)
    finally:
        os.close(root)


def _settings(path: bytes) -> RunSettings:
    try:
        with open(join(path, SETTINGS_NAME), "rb") as stream:
            return parse_settings(stream.read())
    except FileNotFoundError:
        return RunSettings()
    except (OSError, RunSettingsError) as exc:
        raise ArtifactdError(f"the run folder's artifactd.toml is wrong: {exc}", "Mend it, or remove it") from exc


def _ask(config: Config, job: Job) -> Made:
    """Have a delivery process do one job: MLflow, and what it needs of the environment, stay out of this one."""
    require_engine(config.tracking_uri)
    make_folders(config.state_dir, 0o700)
    pool = Pool(1, config.tracking_uri, embedded=config.embedded_artifacts if config.embedded else None)
    deadline = time.monotonic() + WITHIN
    tries = 0
    try:
        pool.warm()
        while time.monotonic() < deadline:
            if pool.free:
                pool.submit(job)
            wait(pool.waitables(), timeout=max(0.0, min(1.0, deadline - time.monotonic())))
            for _, answer in pool.answers():
                tries += 1
                if isinstance(answer, RunReady):
                    return Made(answer.run_id, answer.experiment_id, answer.status)
                if isinstance(answer, JobFailed):
                    if answer.failure.kind is not Kind.TRANSIENT or tries == _TRIES:
                        raise DeliveryError(answer.failure)
                    time.sleep(_PAUSE)
    finally:
        pool.stop()
    raise UnreachableError(
        f"{mask(config.tracking_uri)} did not answer within {WITHIN:.0f} s", "See whether it hangs: `artifactd check`"
    )
