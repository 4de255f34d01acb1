"""``artifactd retry``: failed files become due again."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from artifactd.cli import common, tables
from artifactd.errors import UsageError
from artifactd.ledger import Report
from artifactd.ledger.report import holder
from artifactd.settings import reader_config

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(epilog="Example: [bold]artifactd retry /data/drop/vision/run-7[/]")
def retry(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", show_default=False, help="Files, or folders with all in them."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All files that failed.")] = False,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
) -> None:
    """Make failed files due again, and try at once what is held back.

    A running service picks it up within seconds; without one, the next
    [bold]run[/] or [bold]sync[/] does.
    """
    if bool(paths) == everything:
        what = "both PATH and --all are given" if everything else "nothing is named"
        raise UsageError(what, "Name files or folders, or give --all")
    folder = reader_config(config, state_dir).state_dir
    report = Report(folder)
    try:
        done = [report.retry(report.own_path(os.fsencode(path))) for path in paths or ()] or [report.retry(None)]
    finally:
        report.close()
    due, unmended = sum(d.due for d in done), sum(d.unmended for d in done)
    common.out().print(f"{tables.number(due, 'file')} due again" if due else "No file had failed there")
    if unmended:
        common.say(
            f"{tables.number(unmended, 'file')} cannot be mended by a try: `artifactd explain` says what is in the way"
        )
    if due and holder(folder) is None:
        common.say("No service is running: send them with `artifactd sync`, or start `artifactd run`")
