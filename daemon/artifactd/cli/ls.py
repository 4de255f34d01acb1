"""``artifactd ls``: what a run, or the runs of a folder, hold."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from artifactd.cli import common, tables
from artifactd.cli.back import MEANS, WHAT, back, waiting
from artifactd.ledger import VersionView
from artifactd.wayback.find import Found
from artifactd.wayback.pull import select
from artifactd.wayback.shelf import Entry

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(
    epilog="Example: [bold]artifactd ls /data/drop/vision/run-7[/] · [bold]artifactd ls vision/run-7 'plots/*.png'[/]"
    " · [bold]artifactd ls models:/detector@champion[/]"
)
def ls(
    what: Annotated[str, typer.Argument(metavar=WHAT, help=MEANS)],
    artifact_path: Annotated[
        str | None,
        typer.Argument(metavar="ARTIFACT_PATH", help="An artifact, a folder, or a glob as 'plots/*.png'; else all."),
    ] = None,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    json_: common.JsonOption = False,
    versions: Annotated[
        bool,
        typer.Option("--versions", help='Each content that a file had, with on_change = "version"; from the ledger.'),
    ] = False,
) -> None:
    """List artifacts as the store holds them, with the files that they came from where the ledger knows."""
    with back(config, state_dir) as looking:
        runs = looking.find(what)
        if versions:
            _list_versions([(run, run.versions(looking.report)) for run in runs], json_=json_)
            return
        shelf = looking.shelf()
        with waiting("Listing …"):
            found = [(run, shelf.entries(run, looking.report)) for run in runs]
    if artifact_path is not None:
        chosen = {id(entry) for entry in select([e for _, entries in found for e in entries], artifact_path)}
        found = [(run, kept) for run, entries in found if (kept := [e for e in entries if id(e) in chosen])]
    if json_:
        common.print_json([_data(entry) for _, entries in found for entry in entries])
        return
    console = common.out()
    for number, (run, entries) in enumerate(found):
        _head(run, number, len(found))
        known = any(entry.file is not None for entry in entries)
        columns = ("Size", "Artifact path", "File") if known else ("Size", "Artifact path")
        table = tables.table(*columns, right=("Size",), fold=("Artifact path", "File"))
        for entry in entries:
            cells = (tables.size(entry.size), tables.path(entry.artifact_path.encode()), _source(entry))
            table.add_row(*cells[: len(columns)])
        if entries:
            console.print(table)
        else:
            common.say("It holds no artifacts")


def _list_versions(found: list[tuple[Found, list[VersionView]]], *, json_: bool) -> None:
    if json_:
        common.print_json([_version(run, version) for run, versions in found for version in versions])
        return
    for number, (run, versions) in enumerate(found):
        _head(run, number, len(found))
        if not versions:
            common.say('No versions are kept of its files: that takes on_change = "version" in their watch')
            continue
        table = tables.table(
            "Version",
            "Size",
            "Stored",
            "Artifact path",
            "File",
            right=("Version", "Size"),
            fold=("Artifact path", "File"),
        )
        for v in versions:
            table.add_row(
                str(v.number), tables.size(v.size), tables.clock(v.stored_at), tables.path(v.artifact_path.encode()),
                tables.short(v.path),
            )  # fmt: skip
        common.out().print(table)


def _version(run: Found, version: VersionView) -> dict[str, Any]:
    return {
        "file": tables.path(version.path),
        "version": version.number,
        "artifact_path": version.artifact_path,
        "size": version.size,
        "sha256": version.digest.hex(),
        "stored_at": tables.iso(version.stored_at),
        "run_id": run.run_id,
    }


def _head(run: Found, number: int, of: int) -> None:
    if of > 1:
        common.out().print(("\n" if number else "") + f"{run.title} ({run.run_id})", style="bold", soft_wrap=True)


def _source(entry: Entry) -> str:
    return "" if entry.file is None else tables.short(entry.file.path)


def _known(entry: Entry) -> str | None:
    digest = entry.file.digest if entry.file is not None else entry.digest
    return digest.hex() if digest else None


def _data(entry: Entry) -> dict[str, Any]:
    view = entry.run.views[0] if entry.run.views else None
    return {
        "artifact_path": entry.artifact_path,
        "size": entry.size,
        "file": None if entry.file is None else tables.path(entry.file.path),
        "sha256": _known(entry),
        "run_id": entry.run.run_id or None,
        "experiment": view.experiment if view else None,
        "run": view.run if view else None,
        "model": entry.run.title if entry.run.model is not None else None,
    }
