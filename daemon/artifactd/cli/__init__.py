"""The commands: words and tables, one file each; how anything is done is known below.

A command's module is imported when the command is called: ``artifactd --help`` and the completion of names need
none of them.
"""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from artifactd import __version__
from artifactd.cli.common import end_well, guarded

_COMMANDS = {
    "run": "Run the service in the foreground.",
    "sync": "Deliver what is at rest, once, and say what became of it.",
    "exec": "Run a command whose files become a run.",
    "check": "See whether the configuration, the server and the stores work.",
    "doctor": "Look at what goes wrong in practice, and how it is mended.",
    "explain": "Say where a file stands, and why.",
    "status": "Show counts, lag, runs, failures and the health of the watches.",
    "retry": "Make failed files due again.",
    "verify": "Compare what was stored with what the store holds.",
    "ls": "List the artifacts of a run or folder.",
    "pull": "Download the artifacts of a run or folder.",
    "ui": "Open MLflow's UI on the embedded store, or tell where it is.",
    "install-unit": "Write the unit that has systemd start this program.",
}


class Commands(TyperGroup):
    """The group: looks a command's module up when it is called, and ends every error well."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the stand-in, which only has a name and a line of help, by the command."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if stand_in is None or stand_in.name not in _COMMANDS:
            return name, stand_in, rest
        module = importlib.import_module(f"artifactd.cli.{stand_in.name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = stand_in.name
        _without_value(command.get_params(ctx))
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return name, command, rest

    def get_params(self, ctx: Any) -> Any:
        """The group's own options."""
        return _without_value(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with guarded():
            return super().invoke(ctx)


def _without_value(parameters: Any) -> Any:
    """Have the help of flags show no value: typer would write ``<bool>`` behind them, that of ``--help`` included."""
    for parameter in parameters:
        if parameter.param_type_name == "option" and parameter.is_flag:
            parameter.metavar = ""
    return parameters


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    epilog="Watch a folder with every default: [bold]artifactd run /data/drop[/]",
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"artifactd {__version__}")
        raise typer.Exit


@app.callback()
def artifactd(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda value: _version(wanted=value), is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """MLflow's drop folder: what comes to rest in a watched folder becomes an artifact of the right run."""


def _stand_in() -> None:
    """Never called: ``Commands.resolve_command`` puts the command in its place."""


for _name, _help in _COMMANDS.items():
    app.command(_name, help=_help)(_stand_in)


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a replaced stream has its own ways
    signal.signal(signal.SIGTERM, end_well)
    # An eighth of a command's start is its looks at what stays for good; it is back when the command is there.
    gc.disable()
    app(prog_name="artifactd")
