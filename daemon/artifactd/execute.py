"""A command with a run of its own: the folder, the run, the command, the marker, and then the delivery.

Training comes first: what goes wrong with the run or the delivery is said, and never keeps the command from running.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from artifactd import job, log
from artifactd.ahead import Made, make_run, placed_at
from artifactd.config import Config, WatchConfig, layout_of
from artifactd.errors import ArtifactdError, UsageError
from artifactd.explain import Watch
from artifactd.ledger import LedgerError, Report, StateLock
from artifactd.ledger.report import holder
from artifactd.onepass import PATIENCE, run_pass
from artifactd.paths import join
from artifactd.runfolder import MARKERS, adopted_run_id
from artifactd.settings import holding, ledger_of, watches_of
from artifactd.text import printable
from artifactd.tracking.environment import require_engine
from artifactd.waiting import Look, look, service_at, until_stored
from artifactd.watching.claim import Claim, TakenError
from artifactd.whose import make_folders

_DEFAULT_EXPERIMENT = "Default"
"""MLflow's own."""

_SERVICE_MAKES_WITHIN = 15.0
"""Seconds in which a service should have made the run of a folder that has files already."""

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""The shell's codes."""

_TOLD = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
"""What a command would inherit of another run is taken away."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command's files go.

    Attributes:
        config: The effective configuration, narrowed to the watch.
        watch: The watch that holds the folder.
        folder: The run folder, relative to the watched one.
    """

    config: Config
    watch: WatchConfig
    folder: bytes

    @property
    def path(self) -> bytes:
        """The run folder, absolute."""
        return join(os.fsencode(self.watch.path), self.folder)


class CannotStartError(ArtifactdError):
    """The command cannot be started; the exit code is the shell's."""

    def __init__(self, command: str, why: str, code: int) -> None:
        super().__init__(f"{command}: {why}", "Name a program that is in PATH, or its path")
        self.exit_code = code


def choose(config: Config, directory: Path | None, experiment: str | None, run: str | None) -> Place:
    """Choose the run folder; makes nothing.

    Args:
        config: The effective configuration.
        directory: The folder that is wanted; None for a new one in the first watched folder.
        experiment: Name of its experiment's folder; None for ``$MLFLOW_EXPERIMENT_NAME``, else ``Default``.
        run: Name of its own; None for the time of now.

    Raises:
        ArtifactdError: There is no such place by the rules of the watch, or names and layout do not go together.
    """
    with ledger_of(config) as report:
        watches = watches_of(config, report)
    if directory is None:
        watch, folder = watches[0], _by_layout(watches[0], experiment, run)
    else:
        if experiment is not None or run is not None:
            raise UsageError("--dir says which folder it is", "Leave --experiment and --run out, or --dir")
        watch, path = holding(os.fsencode(directory), watches)
        folder = path[len(os.fsencode(watch.path)) :].strip(b"/")
    if not folder:
        raise UsageError(
            f"by the layout {watch.layout} the watched folder itself is the run", "Give --dir a folder of another watch"
        )
    placed_at(watch, folder)
    return Place(config.model_copy(update={"watch": (watch,)}), watch, folder)


def _by_layout(watch: WatchConfig, experiment: str | None, run: str | None) -> bytes:
    given = {"experiment": experiment, "run": run}
    usual = {
        "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or _DEFAULT_EXPERIMENT,
        "run": f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
    }
    levels = [] if watch.layout == "." else watch.layout.split("/")
    for name, value in given.items():
        if value is not None and f"{{{name}}}" not in levels:
            raise UsageError(f"the layout {watch.layout} has no {{{name}}}", f"Leave --{name} out, or give --dir")
    parts = []
    for level in levels:
        name = level[1:-1]
        if not level.startswith("{"):
            parts.append(level)
        elif name not in given:
            raise UsageError(f"the layout {watch.layout} also names {{{name}}}", "Name the run folder with --dir")
        else:
            value = given[name] if given[name] is not None else usual[name]
            if not value or "/" in value or "\0" in value or value in {".", ".."}:
                raise UsageError(f"{value!r} is no name of a folder", f"Give --{name} a name without '/'")
            parts.append(value)
    return os.fsencode("/".join(parts))


def execute(
    place: Place,
    command: Sequence[str],
    *,
    capture: bool,
    begins: Callable[[Made | None, ArtifactdError | None], None],
) -> int:
    """Make folder and run, run the command, and write the marker.

    Args:
        place: From ``choose``.
        command: Program and arguments.
        capture: Write its output into the folder, too.
        begins: Called before the command starts, with its run, or with the reason why it has none.

    Returns:
        The command's exit code, 128 + n for signal n.

    Raises:
        ArtifactdError: The folder cannot be had, or the command not started.
    """
    if shutil.which(command[0]) is None:
        there = os.path.exists(command[0])
        why = "it cannot be executed" if there else "there is no such program"
        raise CannotStartError(command[0], why, _NOT_EXECUTABLE if there else _NOT_FOUND)
    require_engine(place.config.tracking_uri)
    with _own(place.path):
        try:
            made, trouble = _make(place)
            begins(made, trouble)
            code = job.run(
                command, _environment(place, made), capture=Path(os.fsdecode(place.path)) if capture else None
            )
        except OSError as exc:
            _mark(place.path, _NOT_EXECUTABLE)
            raise CannotStartError(command[0], exc.strerror or str(exc), _NOT_EXECUTABLE) from exc
        except BaseException as exc:
            # The run may be there: what ends before it begins has failed.
            _mark(place.path, exc.code if isinstance(exc, SystemExit) and isinstance(exc.code, int) else 130)
            raise
        _mark(place.path, code)
    return code


def deliver(place: Place, *, deadline: float | None) -> Look:
    """Deliver the folder, or where a service works, wait until it has done so.

    Args:
        place: From ``choose``.
        deadline: Most seconds; None ends when nothing moves any more.

    Returns:
        How the folder stands then.

    Raises:
        ArtifactdError: The delivery cannot start.
    """
    watch = Watch(os.fsencode(place.watch.path), layout_of(place.watch), place.watch.settle)
    state_dir = place.config.state_dir
    begun = time.monotonic()
    while True:
        rest = None if deadline is None else max(0.0, deadline - (time.monotonic() - begun))
        if service_at(state_dir, rest) is not None:
            patience = max(PATIENCE, 2 * watch.settle)
            return until_stored(
                state_dir, watch, place.path, deadline=rest, patience=patience, despite_failures=True
            )  # fmt: skip
        try:
            run_pass(place.config, only=Path(os.fsdecode(place.path)), deadline=rest)
        except ArtifactdError:
            if holder(state_dir) is None:
                raise
        else:
            return look(state_dir, watch, place.path)


# -- folder ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _own(path: bytes) -> Iterator[None]:
    """Make the folder, and have it alone until the end."""
    try:
        os.makedirs(path, exist_ok=True)
        st = os.stat(path)
        claim = Claim(st.st_dev, st.st_ino)
    except TakenError as exc:
        raise ArtifactdError(f"{printable(path)} is in use: {exc}", "Wait for its end, or give another folder") from exc
    except OSError as exc:
        raise ArtifactdError(
            f"{printable(path)} cannot be made: {exc.strerror}", "Give this user the right to write there, or --dir"
        ) from exc
    try:
        for marker in MARKERS:
            if os.path.lexists(join(path, marker)):
                raise UsageError(
                    f"the run of {printable(path)} has ended: it holds {marker.decode()}",
                    "Give another folder, or remove that file",
                )
        yield
    finally:
        claim.release()


def _mark(path: bytes, code: int) -> None:
    """Say how the command ended; its own word is not overwritten, and `.failed` wins over it."""
    name, text = (b".failed", f"{code}\n") if code else (b".done", "")
    if not code and any(os.path.lexists(join(path, marker)) for marker in MARKERS):
        return
    try:
        with open(join(path, name), "x", encoding="ascii") as stream:
            stream.write(text)
    except FileExistsError:
        pass
    except OSError as exc:  # a full disk, or the command removed its folder: its code is what counts now
        log.get().error("the run's end cannot be marked", path=printable(join(path, name)), reason=exc.strerror)


# -- run ---------------------------------------------------------------------------------------------------------


def _make(place: Place) -> tuple[Made | None, ArtifactdError | None]:
    """The folder's run; a second one is impossible, so where another may be making it now there is none for us."""
    with contextlib.ExitStack() as stack:
        known = _known(place)
        if known is None and os.listdir(place.path) and adopted_run_id(os.path.basename(place.folder)) is None:
            # Its files are seen: a service may be about to make the run, and MLflow has no unique key for runs.
            known = _made_by_service(place, stack)
        try:
            return make_run(place.config, place.watch, place.folder, known), None
        except ArtifactdError as exc:
            return None, exc


def _made_by_service(place: Place, stack: contextlib.ExitStack) -> str | None:
    """The run's id from the service; None once no service can make it before we let go of `stack`."""
    deadline = time.monotonic() + _SERVICE_MAKES_WITHIN
    make_folders(place.config.state_dir, 0o700)
    while True:
        lock = StateLock(place.config.state_dir)
        try:
            lock.acquire("artifactd exec")
        except ArtifactdError:
            if (known := _known(place)) is not None:
                return known
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            stack.callback(lock.release)
            return _known(place)


def _known(place: Place) -> str | None:
    try:
        report = Report(place.config.state_dir)
    except LedgerError:
        return None
    try:
        return next((r.run_id for r in report.runs_at(place.path) if r.folder == place.path and r.run_id), None)
    finally:
        report.close()


def _environment(place: Place, made: Made | None) -> Mapping[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _TOLD}
    environment["ARTIFACTD_RUN_DIR"] = os.fsdecode(place.path)
    environment["MLFLOW_TRACKING_URI"] = place.config.tracking_uri
    if made is not None:
        environment["MLFLOW_RUN_ID"] = made.run_id
        environment["MLFLOW_EXPERIMENT_ID"] = made.experiment_id
    else:
        environment["MLFLOW_EXPERIMENT_NAME"] = placed_at(place.watch, place.folder).experiment
    return environment
