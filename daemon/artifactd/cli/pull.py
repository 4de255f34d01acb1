"""``artifactd pull``: artifacts back to files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from artifactd.cli import common, tables
from artifactd.cli.back import WHAT, back, waiting
from artifactd.cli.progress import Bar
from artifactd.errors import ArtifactdError, UsageError
from artifactd.text import printable
from artifactd.wayback.fetch import Moved
from artifactd.wayback.pull import pull as bring
from artifactd.wayback.pull import select

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


class _Pull(TyperCommand):
    """What may be left out stands in the middle, which no parser of arguments can say."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", WHAT, "[ARTIFACT_PATH]", "DEST"]


@app.command(cls=_Pull, epilog="Example: [bold]artifactd pull /data/drop/vision/run-7 plots ./back[/]")
def pull(
    what: Annotated[str, typer.Argument(metavar=WHAT, help="A run id, or a folder at, above or inside a run folder.")],
    artifact_path: Annotated[
        str | None,
        typer.Argument(metavar="[ARTIFACT_PATH]", help="What to take: an artifact or a folder; else all of it."),
    ] = None,
    dest: Annotated[
        str | None, typer.Argument(metavar="DEST", help="The folder to put it in, made if it is not there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there with another content.")] = False,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
) -> None:
    """Download artifacts, under the names that the files had.

    Nothing is written outside of DEST. What comes is compared with what the
    ledger knows. A file that is there with the same content is left alone,
    one with another content is replaced with --force only.
    """
    wanted, into = (artifact_path, dest) if dest is not None else (None, artifact_path)
    if into is None:
        raise UsageError("DEST is missing", "Name the folder to put the files in, as: artifactd pull RUN ./back")
    folder = Path(into)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "Name the folder to put the files in")
    with back(config, state_dir) as looking:
        runs = looking.find(what)
        shelf = looking.shelf()
        with waiting("Listing …"):
            entries = [entry for run in runs for entry in shelf.entries(run, looking.report)]
        if wanted is not None:
            entries = select(entries, wanted)
        with Bar("Downloading") as bar:

            def show(moved: Moved) -> None:
                bar.show(moved.files, moved.of_files, moved.bytes, moved.of_bytes)

            try:
                done = bring(shelf, entries, folder, force=force, show=show)
            except OSError as exc:
                where = printable(os.fsencode(folder))
                raise ArtifactdError(
                    f"{where} cannot be written to: {exc.strerror}", "Free space, or give another destination"
                ) from exc
    console = common.out()
    parts = [f"{tables.number(done.files, 'file')} written ({tables.size(done.bytes)})"]
    if done.equal:
        parts.append(f"{done.equal:,} there already")
    if done.problems:
        parts.append(f"{len(done.problems):,} not")
    console.print(", ".join(parts), soft_wrap=True)
    for problem in done.problems:
        console.print(Text("  " + tables.path(problem.artifact_path.encode()), style="red"), soft_wrap=True)
        console.print(tables.details([("reason", problem.reason), ("what to do", problem.cure)], indent=4))
    raise typer.Exit(1 if done.problems else 0)
