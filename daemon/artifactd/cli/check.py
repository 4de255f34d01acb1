"""``artifactd check``: is everything in order, before anything depends on it?"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.cli.as_unit import AsOption, run_as
from artifactd.config import Config, WatchConfig, masked
from artifactd.errors import ArtifactdError, UsageError
from artifactd.ledger import LedgerError, Report
from artifactd.ledger.report import holder
from artifactd.secrets import mask
from artifactd.settings import experiments_of, refuse_moved_store, service_config
from artifactd.text import printable
from artifactd.tracking.environment import require_engine
from artifactd.tracking.probe import probe
from artifactd.tracking.trial import Question, Step
from artifactd.watching.mounts import distrust, mount_of, watch_limit
from artifactd.whose import make_folders

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_AS = "Run this as the service's user; as a unit would: artifactd check --as UNIT"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at; `seconds` is None for what takes no time."""

    what: str
    subject: str
    ok: bool
    detail: str
    cure: str = ""
    seconds: float | None = None
    warnings: tuple[str, ...] = ()


@app.command(epilog="Example: [bold]artifactd check --as artifactd[/]")
def check(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", show_default=False, help="As for [bold]artifactd run[/]."),
    ] = None,
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    json_: common.JsonOption = False,
    as_: AsOption = None,
    notify: Annotated[
        bool,
        typer.Option("--notify", help="Also have the service's messages tried: one is sent, marked as a test."),
    ] = False,
) -> None:
    """See whether the configuration, the watched folders, the server and the stores work.

    Writes one small object into each store, in an experiment of its own,
    lists it, reads it back and removes it.

    Exits with 0 when all is in order, else with 1.
    """
    if as_ is not None:
        given = {"": directory, "--config": config, "--state-dir": state_dir, "--json": json_, "--notify": notify}
        raise typer.Exit(run_as(as_, "check", given))
    settings = service_config(config, state_dir, directory=directory)
    if notify and not settings.notify.wanted:
        raise UsageError(
            "--notify: nobody would be told, since [notify] names no command and no webhook",
            "Write one of them; what stands in the service's environment alone must be in this one, too",
        )
    if not json_:
        _print_config(settings)
    rows = list(_rows(settings, quiet=json_))
    if notify:
        rows += _told(settings, quiet=json_)
    in_order = all(row.ok for row in rows)
    if json_:
        checks = [dataclasses.asdict(row) for row in rows]
        notices = list(map(str, settings.notices()))
        data = {"in_order": in_order, "config": masked(settings), "notices": notices, "checks": checks}
        common.print_json(data)
    else:
        _print(rows, settings)
    raise typer.Exit(0 if in_order else 1)


# -- looking -----------------------------------------------------------------------------------------------------


def _rows(config: Config, *, quiet: bool) -> Iterator[Row]:
    state = _state_folder(config)
    yield state
    for watch in config.watch:
        yield _watch(watch)
    if not state.ok and config.embedded:
        return
    try:
        require_engine(config.tracking_uri)
    except ArtifactdError as exc:
        yield Row("tracking store", mask(config.tracking_uri), False, exc.problem, exc.cure)
        return
    question = Question(
        config.tracking_uri,
        str(config.embedded_artifacts) if config.embedded else None,
        config.mlflow.artifact_location,
        _experiments(config),
        str(config.state_dir),
    )
    console = common.messages()
    if quiet or not console.is_terminal:
        yield from map(_probed, probe(question))
        return
    with console.status("Writing one small object into each store and reading it back …"):
        yield from map(_probed, probe(question))


def _told(config: Config, *, quiet: bool) -> list[Row]:
    from artifactd.notify.rehearsal import rehearse  # noqa: PLC0415 (a check that tells nobody does without)

    console = common.messages()
    waiting = contextlib.nullcontext() if quiet or not console.is_terminal else console.status("Sending a test …")
    rows = []
    with waiting:
        for told in rehearse(config):
            seconds = round(told.seconds, 2)
            if told.error is None:
                rows.append(Row("message", told.name, True, "a test was sent, and taken", seconds=seconds))
            else:
                reason, cure = mask(told.error.problem), mask(told.error.cure)
                rows.append(Row("message", told.name, False, reason, cure, seconds))
    return rows


def _probed(step: Step) -> Row:
    names = {"server": "tracking server" if step.subject.startswith("http") else "tracking store", "store": "artifacts"}
    seconds = round(step.seconds, 2)
    return Row(names[step.what], step.subject, step.ok, step.detail, step.cure, seconds, tuple(map(str, step.warnings)))


def _state_folder(config: Config) -> Row:
    folder = config.state_dir
    subject = printable(os.fsencode(folder))
    try:
        make_folders(folder, 0o700)
    except OSError as exc:
        return Row(
            "state folder", subject, False, f"it cannot be made: {exc.strerror}",
            "Make it and give it to the service's user, or set state_dir",
        )  # fmt: skip
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Row("state folder", subject, False, "this user may not write to it", _AS)
    try:
        refuse_moved_store(config)
    except ArtifactdError as exc:
        return Row("state folder", subject, False, exc.problem, exc.cure)
    space = os.statvfs(folder)
    detail = f"{tables.size(space.f_bavail * space.f_frsize)} free"
    service = holder(folder)
    return Row("state folder", subject, True, detail if service is None else f"{detail}; in use by {service}")


def _watch(watch: WatchConfig) -> Row:
    subject = printable(os.fsencode(watch.path))
    if not watch.path.is_dir():
        return Row(
            "watched folder", subject, False, "it is not there", "Make it, or mount it; the service waits for it"
        )
    if not os.access(watch.path, os.R_OK | os.X_OK):
        return Row(
            "watched folder", subject, False, "this user may not read it",
            f"Give the service's user access (group, ACL). {_AS}",
        )  # fmt: skip
    fstype = mount_of(os.fsencode(watch.path)).fstype
    reason = distrust(fstype)
    if watch.mode == "scan":
        how = "scan, as configured"
    elif watch.mode == "events":
        how = "events, as configured" + (f", although {reason}" if reason else "")
    elif reason is not None:
        how = f"scan every {watch.scan_interval:g} s, since {reason}"
    else:
        limit = watch_limit()
        how = "events" + ("" if limit is None else f", for up to {limit:,} folders (the kernel's limit for this user)")
    return Row("watched folder", subject, True, f"{fstype or 'unknown filesystem'}; {how}")


def _experiments(config: Config) -> tuple[str, ...]:
    with contextlib.suppress(LedgerError), contextlib.closing(Report(config.state_dir)) as report:
        return experiments_of(config, report)
    return experiments_of(config, None)


# -- showing -----------------------------------------------------------------------------------------------------


def _print(rows: list[Row], config: Config) -> None:
    console = common.out()
    table = tables.table("", "What", "Where", "Time", "Found", right=("Time",), fold=("Where", "Found"))
    for row in rows:
        mark = Text("ok", style="green") if row.ok else Text("FAILED", style="bold red")
        found = Text(row.detail if row.ok else coded(row.detail))
        if row.cure and not row.ok:
            found.append(f"\n{row.cure}", style="bold")
        for warning in row.warnings:
            found.append(f"\nMind: {warning}", style="yellow")
        table.add_row(mark, row.what, row.subject, "" if row.seconds is None else tables.span(row.seconds), found)
    console.print(table)
    for notice in config.notices():
        common.say(f"Note: {notice}")


def _print_config(config: Config) -> None:
    console = common.out()
    console.print(
        Text(f"# The effective configuration, from {config.source}, secrets masked", style="dim"), soft_wrap=True
    )
    for line in _toml(masked(config)):
        console.print(line, soft_wrap=True)
    console.print()


def _toml(table: dict[str, Any], name: str = "") -> Iterator[str]:
    """The table as TOML, plain keys before the tables in it; what is not set is left out."""
    for key, value in table.items():
        if value not in (None, []) and not _is_table(value):
            yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in table.items():
        full = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, dict):
            lines = list(_toml(value, full))
            yield from ("", f"[{full}]", *lines) if lines else ()
        elif _is_table(value):
            for item in value:
                yield from ("", f"[[{full}]]", *_toml(item, full))


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
