"""``artifactd pull``: artifacts back to files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.cli.back import MEANS, WHAT, back, waiting
from artifactd.cli.progress import Bar
from artifactd.errors import ArtifactdError, UsageError
from artifactd.text import printable
from artifactd.wayback.fetch import Moved
from artifactd.wayback.pull import Pulled, all_but_manifests, select
from artifactd.wayback.pull import pull as bring
from artifactd.wayback.tree import Restored, restore

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


class _Pull(TyperCommand):
    """What may be left out stands in the middle, which no parser of arguments can say."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", WHAT, "[ARTIFACT_PATH]", "DEST"]


@app.command(
    cls=_Pull,
    epilog="Example: [bold]artifactd pull vision/run-7 'plots/*.png' ./back[/] · "
    "[bold]artifactd pull models:/detector/3 ./model[/] · "
    "[bold]artifactd pull --tree 0123456789abcdef0123456789abcdef /data/drop/vision/run-7[/]",
)
def pull(
    what: Annotated[str, typer.Argument(metavar=WHAT, help=MEANS)],
    artifact_path: Annotated[
        str | None,
        typer.Argument(
            metavar="[ARTIFACT_PATH]", help="What to take: an artifact, a folder or a glob; else all of it."
        ),
    ] = None,
    dest: Annotated[
        str | None, typer.Argument(metavar="DEST", help="The folder to put it in, made if it is not there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there with another content.")] = False,
    tree: Annotated[
        bool,
        typer.Option("--tree", help="Restore run folders as they were: files, times, modes, empty folders."),
    ] = False,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
) -> None:
    """Download artifacts, under the names that the files had.

    Nothing is written outside of DEST. What comes is compared with the digests
    that the ledger or the run's manifest has. A file that is there with the
    same content is left alone, so that a pull which was cut short goes on
    where it was; one with another content is replaced with --force only.

    With --tree, DEST becomes the run's folder, as its manifest describes it. A
    note in it, .artifactd-run, says which run it is: a service that watches it
    sends nothing.
    """
    wanted, into = (artifact_path, dest) if dest is not None else (None, artifact_path)
    if into is None:
        raise UsageError("DEST is missing", "Name the folder to put the files in, as: artifactd pull RUN ./back")
    folder = Path(into)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "Name the folder to put the files in")
    if tree and wanted is not None:
        raise UsageError("--tree restores a run folder whole", f"Leave out --tree, or {wanted}")
    with back(config, state_dir) as looking:
        runs = looking.find(what)
        if tree and any(run.model is not None or run.only is not None for run in runs):
            raise UsageError("--tree restores whole run folders", "Name a run, or leave out --tree")
        shelf = looking.shelf()
        with waiting("Listing …"):
            found = [(run, shelf.entries(run, looking.report)) for run in runs]
        entries = [entry for _, of in found for entry in of]
        entries = all_but_manifests(entries) if wanted is None else select(entries, wanted)
        with Bar("Downloading") as bar:

            def show(moved: Moved) -> None:
                bar.show(moved.files, moved.of_files, moved.bytes, moved.of_bytes)

            try:
                if tree:
                    restored = restore(shelf, found, folder, force=force, show=show)
                    done = restored.pulled
                else:
                    restored = None
                    done = bring(entries, folder, force=force, show=show)
            except OSError as exc:
                where = printable(os.fsencode(folder))
                raise ArtifactdError(
                    f"{where} cannot be written to: {exc.strerror}", "Free space, or give another destination"
                ) from exc
    _print(done, restored)
    raise typer.Exit(1 if done.problems else 0)


def _print(done: Pulled, restored: Restored | None) -> None:
    console = common.out()
    parts = [f"{tables.number(done.files, 'file')} written ({tables.size(done.bytes)})"]
    if done.equal:
        parts.append(f"{done.equal:,} there already")
    if done.problems:
        parts.append(f"{len(done.problems):,} not")
    console.print(", ".join(parts), soft_wrap=True)
    for remark in restored.remarks if restored is not None else ():
        common.say(remark)
    for problem in done.problems:
        console.print(Text("  " + tables.path(problem.artifact_path.encode()), style="red"), soft_wrap=True)
        console.print(tables.details([("reason", coded(problem.reason)), ("what to do", problem.cure)], indent=4))
