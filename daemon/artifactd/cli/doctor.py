"""``artifactd doctor``: what goes wrong in practice, each finding with what mends it."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.cli.as_unit import AsOption, run_as
from artifactd.cli.status import as_data
from artifactd.config import Config, ConfigError, masked
from artifactd.doctor import Finding, Level, Surroundings, bundle, examine, examine_without
from artifactd.doctor.checkup import report_of
from artifactd.doctor.credentials import secrets_of
from artifactd.doctor.versions import versions
from artifactd.errors import ArtifactdError, UsageError
from artifactd.ledger.schema import FILE_NAME, VERSION, written_version
from artifactd.settings import reader_config
from artifactd.standing import read

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_MARKS = {
    Level.OK: Text("ok", style="green"),
    Level.NOTICE: Text("notice", style="yellow"),
    Level.WRONG: Text("WRONG", style="bold red"),
}
_NOTE = (
    "Written by `artifactd doctor --bundle`. Secrets are masked; names of files, folders, runs, users and hosts are "
    "in it."
)


@app.command(epilog="Example: [bold]artifactd doctor --bundle support.tar.gz[/]")
def doctor(
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    json_: common.JsonOption = False,
    bundle_: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            show_default=False,
            help="Also write a support file (.tar.gz, no secrets in it): findings, configuration, status, versions.",
        ),
    ] = None,
    as_: AsOption = None,
) -> None:
    """Look at what goes wrong in practice, and say of each finding what mends it.

    Folders, filesystems, rights, space, inotify's limits, the journal; the
    server's clock, version and gateway; credentials and until when they last.
    Through a server that passes files on, it sends 5 MiB, and removes them; it
    writes nothing else. [bold]artifactd check[/] proves the way to each store.

    Exits with 0 when nothing is wrong, else with 1.
    """
    if as_ is not None:
        if bundle_ is not None:
            raise UsageError("a service may write to its own folders alone", "Give --bundle without --as")
        given = {"--config": config, "--state-dir": state_dir, "--json": json_}
        raise typer.Exit(run_as(as_, "doctor", given))
    settings, mistakes = _settings(config, state_dir)
    if bundle_ is not None:
        bundle.refuse(bundle_, [] if settings is None else [watch.path for watch in settings.watch])
    findings = list(_found(settings, mistakes, quiet=json_))
    in_order = all(finding.level is not Level.WRONG for finding in findings)
    data = {"in_order": in_order, "findings": [dataclasses.asdict(finding) for finding in findings]}
    if json_:
        common.print_json(data)
    else:
        _print(findings)
    if bundle_ is not None:
        secrets = () if settings is None else tuple(secrets_of(settings))
        bundle.write(bundle_, _members(settings, mistakes, data), secrets)
        common.say(f"Written: {tables.path(bytes(bundle_))} (look through it before you give it away)")
    raise typer.Exit(0 if in_order else 1)


# -- looking -----------------------------------------------------------------------------------------------------


def _settings(config: Path | None, state_dir: Path | None) -> tuple[Config | None, ConfigError | None]:
    """The configuration, or what is wrong with it, which is a finding here."""
    try:
        return reader_config(config, state_dir, strict=True), None
    except ConfigError as exc:
        return None, exc


def _found(settings: Config | None, mistakes: ConfigError | None, *, quiet: bool) -> Iterator[Finding]:
    if settings is None:
        yield from examine_without(mistakes) if mistakes is not None else ()
        return
    console = common.messages()
    if quiet or not console.is_terminal:
        yield from examine(settings, Surroundings())
        return
    with console.status("Looking at folders, limits and the server …"):
        yield from examine(settings, Surroundings())


# -- showing -----------------------------------------------------------------------------------------------------


def _print(findings: list[Finding]) -> None:
    table = tables.table("", "What", "Found", fold=("What", "Found"))
    for finding in findings:
        found = finding.detail if finding.level is Level.OK else coded(finding.detail)
        table.add_row(_MARKS[finding.level], finding.what, Text(found))
    console = common.out()
    console.print(table)
    if any(finding.cure for finding in findings):
        console.print("\nWhat mends it, each in one line:")
    for finding in filter(lambda finding: finding.cure, findings):
        console.print(Text(f"  {finding.what}", style="dim"), soft_wrap=True)
        # A command that a table breaks cannot be pasted.
        console.print(Text(f"    {finding.cure}", style="bold"), soft_wrap=True)
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    wrong = f"{counts[Level.WRONG]:,} wrong" if counts[Level.WRONG] else "Nothing is wrong"
    notices = f", {tables.number(counts[Level.NOTICE], 'notice')}" if counts[Level.NOTICE] else ""
    common.say(f"{wrong}{notices}. `artifactd check` proves the way to each store and back.")


# -- the support file --------------------------------------------------------------------------------------------


def _members(settings: Config | None, mistakes: ConfigError | None, findings: dict[str, Any]) -> dict[str, Any]:
    about = {"note": _NOTE, "made": tables.iso(time.time()), "versions": versions(), "platform": platform.platform()}
    members: dict[str, Any] = {"about.json": about, "findings.json": findings}
    if settings is None:
        return members | {"configuration.json": {"error": str(mistakes)}}
    return members | {
        "configuration.json": {"source": settings.source, "config": masked(settings)},
        "ledger.json": _ledger(settings.state_dir),
        "status.json": _status(settings.state_dir),
    }


def _ledger(folder: Path) -> dict[str, Any]:
    try:
        return {"schema": written_version(folder / FILE_NAME), "known_here": VERSION}
    except (ArtifactdError, OSError) as exc:
        return {"error": str(exc), "known_here": VERSION}


def _status(folder: Path) -> dict[str, Any]:
    report = report_of(folder)
    if report is None:
        return {"error": "there is no ledger of this version that can be read"}
    try:
        return as_data(read(report, folder))
    except Exception as exc:  # noqa: BLE001 (a damaged ledger is a reason to write a support file)
        return {"error": type(exc).__name__}
    finally:
        report.close()
