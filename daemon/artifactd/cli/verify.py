"""``artifactd verify``: does the store hold what was stored?"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.cli.back import WHAT, back
from artifactd.cli.progress import Bar
from artifactd.errors import UsageError
from artifactd.wayback.fetch import Moved
from artifactd.wayback.verify import Finding, Verified
from artifactd.wayback.verify import verify as compare

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(
    epilog="Example: [bold]artifactd verify /data/drop/vision --deep[/] · [bold]artifactd verify vision/run-7[/]"
)
def verify(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar=WHAT,
            show_default=False,
            help="A run id, a folder at, above or inside a run folder, or experiment/run-name; else all.",
        ),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Download everything and compare the content too.")] = False,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    json_: common.JsonOption = False,
) -> None:
    """Compare what was stored with what the store holds: missing files, wrong sizes, with --deep other content.

    On a machine that never saw the folder, the run's manifest says what was
    stored: artifactd writes it at a run's end.

    What is found wrong counts as failed from then on, so that
    [bold]artifactd retry[/] sends it again.

    Exits with 0 when all is in order, else with 1.
    """
    with back(config, state_dir) as looking:
        runs = looking.find(what)
        if any(run.model is not None for run in runs):
            raise UsageError(
                f"{what} is a model", "Name the run that it comes from: its model's files are verified too"
            )
        shelf = looking.shelf()
        with Bar("Comparing", quiet=json_) as bar:

            def show(moved: Moved) -> None:
                bar.show(moved.files, moved.of_files, moved.bytes, moved.of_bytes)

            done = compare(shelf, looking.report, runs, deep=deep, show=show)
    if json_:
        common.print_json(_data(done))
    else:
        _print(done, deep=deep)
    raise typer.Exit(1 if done.findings else 0)


def _print(done: Verified, *, deep: bool) -> None:
    console = common.out()
    how = "content, size and name" if deep else "name and size"
    compared = f"{tables.number(done.files, 'file')} ({tables.size(done.bytes)}) in {tables.number(done.runs, 'run')}"
    if not done.findings:
        console.print(f"All in order: {compared} compared by {how}", soft_wrap=True)
        return
    console.print(
        f"{tables.number(len(done.findings), 'finding')}: {compared} compared by {how}\n",
        style="bold red",
        soft_wrap=True,
    )
    table = tables.table("Found", "Where", fold=("Found", "Where"))
    for finding in done.findings:
        table.add_row(coded(finding.error), Text(tables.short(finding.path) if finding.path else finding.run))
    console.print(table)
    console.print()
    for cure in dict.fromkeys(finding.cure for finding in done.findings if not finding.again):
        console.print(cure, soft_wrap=True)
    if any(finding.again for finding in done.findings):
        console.print(
            "What is still in its folder counts as failed now: artifactd retry PATH… (or --all) sends it again"
        )


def _data(done: Verified) -> dict[str, Any]:
    return {
        "runs": done.runs,
        "files": done.files,
        "bytes": done.bytes,
        "findings": [_finding(finding) for finding in done.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "run": finding.run,
        "path": tables.path(finding.path),
        "artifact_path": finding.artifact_path,
        "error": coded(finding.error),
        "cure": finding.cure,
        "retry_sends_it": finding.again,
    }
