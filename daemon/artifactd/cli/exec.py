"""``artifactd exec``: a command with a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from artifactd import log
from artifactd.ahead import Made
from artifactd.api import page
from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.config import Config
from artifactd.errors import ArtifactdError, Unstored
from artifactd.execute import Place, choose, deliver, execute
from artifactd.secrets import mask
from artifactd.settings import duration, job_config
from artifactd.text import printable
from artifactd.waiting import Look

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_SHOWN = 20


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: [bold]artifactd exec --experiment vision --capture -- python train.py --lr 0.1[/]",
)
def exec_(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The program and its arguments, after --.")],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            show_default=False,
            help="The run folder [dim](else a new one in the first watched folder, by its layout)[/]",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment",
            metavar="NAME",
            show_default=False,
            help="The experiment [dim](else $MLFLOW_EXPERIMENT_NAME, else Default)[/]",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="NAME", show_default=False, help="The run's name [dim](else date and time)[/]"),
    ] = None,
    capture: Annotated[
        bool,
        typer.Option("--capture", help="Also write its output into stdout.log and stderr.log of the folder, live."),
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="TIME",
            show_default=False,
            help="The most that delivery may take after its end, as 5m [dim](else until nothing moves any more)[/]",
        ),
    ] = None,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    settle: common.SettleOption = None,
) -> None:
    """Run a command whose files become a run: makes the folder and the run, marks the end, and delivers.

    The command finds the folder in ARTIFACTD_RUN_DIR and the run in
    MLFLOW_RUN_ID, beside MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_ID.
    Exit code 0 finishes the run (.done), any other fails it (.failed).
    Without a running service the folder is delivered at the end, with one
    it is waited for.

    Exits with the command's own code, 128 + n when signal n ended it. When
    that is 0: 3 if something failed or is left, 75 if the server cannot be
    reached.
    """  # fmt: skip
    most = duration(deadline, "--deadline")
    settings = job_config(config, state_dir, settle=settle)
    log.configure(settings.log.format, "error")
    place = choose(settings, directory, experiment, run)

    def begins(made: Made | None, trouble: ArtifactdError | None) -> None:
        _announce(settings, place, made, trouble)

    code = execute(place, command, capture=capture, begins=begins)
    try:
        now = deliver(place, deadline=most)
    except (ArtifactdError, OSError, KeyboardInterrupt) as exc:
        if code:
            why = mask(str(exc)) or "interrupted"
            common.say(f"artifactd: {printable(place.path)} is not delivered: {why}")
            raise typer.Exit(code) from None
        raise
    _say(place, now)
    raise typer.Exit(code or now.exit_code)


def _announce(config: Config, place: Place, made: Made | None, trouble: ArtifactdError | None) -> None:
    if made is not None:
        where = page(config, made.experiment_id, made.run_id)
        common.say(f"artifactd: run {made.run_id} from {printable(place.path)}{f': {where}' if where else ''}")
        return
    why = "" if trouble is None else f": {coded(mask(trouble.problem))}\n  {mask(trouble.cure)}"
    common.say(f"artifactd: without MLFLOW_RUN_ID, files of {printable(place.path)} are delivered later{why}")


def _say(place: Place, now: Look) -> None:
    if not now.left and not now.failed:
        common.say(f"artifactd: {tables.number(now.stored, 'file')} stored ({tables.size(now.stored_bytes)})")
        return
    counts = f"{now.stored:,} stored, {len(now.failed):,} failed, {len(now.left):,} left"
    common.say(f"artifactd: of {printable(place.path)} {counts}")
    _list("failed", now.failed)
    _list("waits for", now.left)


def _list(head: str, files: Sequence[Unstored]) -> None:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for file in files:
        groups.setdefault((file.reason, file.error, file.cure), []).append(file.path)
    for (reason, error, cure), paths in groups.items():
        said = error if head == "failed" else ": ".join(filter(None, (reason, error)))
        common.say(f"  {head}: {coded(mask(said))}" + (f"\n    {cure}" if cure else ""))
        for path in paths[:_SHOWN]:
            common.say(f"    {path}")
        if len(paths) > _SHOWN:
            common.say(f"    … and {len(paths) - _SHOWN:,} more: `artifactd status`")
