"""``artifactd run``: the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifactd import log
from artifactd.cli import common
from artifactd.config import Config
from artifactd.service import Service
from artifactd.settings import service_config

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(epilog="Example: [bold]artifactd run /data/drop[/]")
def run(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            show_default=False,
            help="Watch this folder alone: with its settings where it is configured, else with every default.",
        ),
    ] = None,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    settle: common.SettleOption = None,
    log_format: common.LogFormatOption = None,
    log_level: common.LogLevelOption = None,
) -> None:
    """Run the service in the foreground: what comes to rest in the watched folders is delivered.

    By default a run is a folder: /data/drop/EXPERIMENT/RUN/…
    Without a server (MLFLOW_TRACKING_URI or a config file), runs are kept in
    the embedded store, which [bold]artifactd ui[/] shows.

    SIGTERM and Ctrl-C finish the files in hand and stop; SIGHUP reads the
    configuration again.
    """

    def load() -> Config:
        return service_config(
            config, state_dir, directory=directory, settle=settle, log_format=log_format, log_level=log_level
        )

    settings = load()
    log.configure(settings.log.format, settings.log.level)
    Service(settings, load).run()
