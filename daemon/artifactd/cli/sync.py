"""``artifactd sync``: one pass over what is at rest."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from artifactd import log
from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.cli.progress import Bar
from artifactd.config import Config
from artifactd.explain import wait_of
from artifactd.ledger import FileView
from artifactd.onepass import Progress, Result, run_pass
from artifactd.settings import as_known, duration, inside, service_config

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_SHOWN = 50


@app.command(epilog="Example: [bold]artifactd sync /data/drop --deadline 25s[/]")
def sync(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            show_default=False,
            help="Only this folder: with the settings of the watch that holds it, else with every default.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="TIME", show_default=False, help="The most it may take, as 25s."),
    ] = None,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    settle: common.SettleOption = None,
    log_format: common.LogFormatOption = None,
    log_level: common.LogLevelOption = None,
    json_: common.JsonOption = False,
) -> None:
    """Deliver what is at rest, once, and say what was stored, what failed and what is left.

    Exits with 0 when all is stored, 3 when something failed or is left,
    75 when the server cannot be reached.
    """
    most = duration(deadline, "--deadline")
    settings = service_config(
        config,
        state_dir,
        directory=directory,
        usual=True,
        settle=settle,
        log_format=log_format,
        log_level=log_level or "warning",
    )
    settings = as_known(settings, directory)
    with Bar("Delivering", quiet=json_) as bar:
        log.configure(settings.log.format, settings.log.level)  # now, so that its lines go above the bar

        def show(progress: Progress) -> None:
            done = progress.stored + progress.skipped
            whole = progress.stored_bytes + progress.pending_bytes
            bar.show(done, done + progress.pending, progress.stored_bytes, whole)

        result = run_pass(settings, only=inside(directory, settings), deadline=most, show=show)
    if json_:
        common.print_json(_data(result))
    else:
        _print(result, settings)
    raise typer.Exit(result.exit_code)


def _print(result: Result, config: Config) -> None:
    console = common.out()
    done = result.progress
    parts = [f"{tables.number(done.stored, 'file')} stored ({tables.size(done.stored_bytes)})"]
    if done.skipped:
        parts.append(f"{done.skipped:,} unchanged")
    parts += [f"{len(result.failed):,} failed", f"{len(result.left):,} left"]
    console.print(", ".join(parts) + f", in {tables.span(result.seconds)}", soft_wrap=True)
    for path, reason in result.away.items():
        console.print(f"Nothing of {tables.path(path)} was looked at: {coded(reason)}", soft_wrap=True)
    for path in result.runs:
        because = result.blockage or result.held.get(path)
        why = "" if because is None else f": {coded(because.error)}"
        console.print(f"The run of {tables.path(path)} was not told its settings or its end{why}", soft_wrap=True)
    if result.failed:
        console.print(Text("\nFailed", style="bold red"))
        _print_groups(
            [(file, [("error", coded(file.error or "")), ("what to do", file.cure or "")]) for file in result.failed]
        )
    if result.left:
        console.print(Text("\nLeft, for the next pass", style="bold yellow"))
        waits = [(file, wait_of(file, _settle(file, config), time.time())) for file in result.left]
        _print_groups(
            [
                (file, [("waits for", wait.reason), ("last error", coded(wait.error)), ("what to do", wait.cure)])
                for file, wait in waits
            ]
        )


def _print_groups(files: Sequence[tuple[FileView, list[tuple[str, str]]]]) -> None:
    """Say each reason once, with the files that it holds for."""
    console = common.out()
    groups: dict[tuple[tuple[str, str], ...], list[bytes]] = {}
    for file, why in files:
        groups.setdefault(tuple(why), []).append(file.path)
    for reasons, paths in groups.items():
        console.print(tables.details(reasons))
        for path in paths[:_SHOWN]:
            console.print("    " + tables.path(path), soft_wrap=True)
        if len(paths) > _SHOWN:
            console.print(f"    … and {len(paths) - _SHOWN:,} more: --json lists all", soft_wrap=True)


def _settle(file: FileView, config: Config) -> float | None:
    path = os.fsdecode(file.path)
    return next((w.settle for w in config.watch if path.startswith(f"{w.path}/")), None)


def _data(result: Result) -> dict[str, Any]:
    return {
        "stored": result.progress.stored,
        "stored_bytes": result.progress.stored_bytes,
        "unchanged": result.progress.skipped,
        "seconds": round(result.seconds, 3),
        "failed": [
            {"path": tables.path(f.path), "error": coded(f.error or ""), "cure": f.cure or ""} for f in result.failed
        ],
        "left": [_left(file) for file in result.left],
        "runs": [tables.path(path) for path in result.runs],
        "away": [tables.path(path) for path in result.away],
    }


def _left(file: FileView) -> dict[str, Any]:
    waits = wait_of(file, None, time.time())
    return {
        "path": tables.path(file.path),
        "waits_for": waits.reason,
        "error": coded(waits.error) or None,
        "cure": waits.cure or None,
        "kind": waits.kind,
        "next_try": tables.iso(waits.until),
    }
