"""``artifactd status``: how everything stands, from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.errors import Kind
from artifactd.ledger import FileView, Report, State
from artifactd.paths import within
from artifactd.settings import reader_config
from artifactd.standing import Standing, next_try, read

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from artifactd.ledger import Runaway, WatchView
    from artifactd.ledger.runviews import RunView

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_RUNS_SHOWN = 20
_BESIDE_NAMES = 68
"""Columns that the rest of a run's row takes."""
_WITH_IDS = 100
"""Columns of a terminal from which on there is room for run ids beside long names."""
_FAILURES_SHOWN = 20


@app.command(epilog="Example: [bold]artifactd status --watch[/]")
def status(
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    json_: common.JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until q or Ctrl-C.")] = False,
) -> None:
    """Show counts, lag, runs, failures with their reasons, and the health of the watches.

    Reads the ledger alone: it works beside a running service, without one,
    and offline.
    """
    folder = reader_config(config, state_dir).state_dir
    report = Report(folder)
    try:
        if watch:
            from artifactd.cli import watch as again  # noqa: PLC0415 (for this alone)

            again.watch(report, folder, as_json=json_)
        elif json_:
            common.print_json(as_data(read(report, folder)))
        else:
            console = common.out()
            console.print(as_table(read(report, folder), folder, console.width))
    finally:
        report.close()


def as_data(now: Standing) -> dict[str, Any]:
    """What `--json` prints; the keys are part of the outside contract."""
    return {
        "pending": now.count(State.DUE),
        "uploading": now.count(State.UPLOADING),
        "stored": now.count(State.STORED),
        "failed": now.count(State.FAILED),
        "ignored": now.count(State.IGNORED),
        "oldest_pending_seconds": round(now.lag(), 1),
        "bytes_sent": now.totals.bytes_sent,
        "bytes_unique": now.totals.bytes_unique,
        "watches": [
            {"path": tables.path(w.path), "mode": w.mode, "healthy": w.healthy, "detail": _detail(w, now)}
            for w in now.watches
        ],
        "runs": [
            {
                "experiment": r.experiment,
                "run": r.run,
                "run_id": r.run_id,
                "status": r.status or None,
                "stored": r.stored,
                "pending": r.pending,
                "failed": r.failed,
                "since": tables.iso(r.since),
                "reason": r.reason or None,
            }
            for r in now.runs
        ],
        "failures": [*_held_back(now), *map(_failure, now.failures)],
    }


def _detail(watch: WatchView, now: Standing) -> str:
    runaways = [r for r in now.runaways if within(r.path, watch.path)]
    told = [f"rewritten without end, so spaced out: {', '.join(map(_runaway, runaways))}"] if runaways else []
    return "; ".join([*filter(None, [watch.detail]), *told])


def _runaway(file: Runaway) -> str:
    again = "" if file.due_at is None else f", next {tables.until(file.due_at)}"
    return f"{tables.path(file.path)} (sent {file.sends} times in a row, {tables.size(file.sent_bytes)}{again})"


def _held_back(now: Standing) -> Iterator[dict[str, Any]]:
    """A server or run that takes nothing now stands for all the files that wait for it."""
    for what, block in now.held.items():
        yield {
            "path": what,
            "error": coded(block.error),
            "kind": block.kind,
            "attempts": block.attempts,
            "next_try": tables.iso(block.next_try),
        }


def _failure(file: FileView) -> dict[str, Any]:
    return {
        "path": tables.path(file.path),
        "error": coded(file.error or ""),
        "kind": file.kind if file.kind in set(Kind) else str(Kind.PERMANENT),
        "attempts": file.attempts,
        "next_try": tables.iso(next_try(file)),
    }


# -- for people --------------------------------------------------------------------------------------------------


def as_table(now: Standing, folder: Path, width: int) -> RenderableType:
    """What people see, in so many columns."""
    parts: list[RenderableType] = [head(now, folder)]
    if now.watches:
        parts += ["", watches(now)]
    if now.runs:
        parts += ["", _runs(now, width)]
    for what, block in now.held.items():
        parts += ["", Text(f"Held back: {what}", style="bold yellow")]
        parts.append(
            tables.details(
                [
                    ("because", coded(block.error)),
                    (
                        "next try",
                        f"{tables.until(block.next_try)}, after {tables.number(block.attempts, 'try', 'tries')}",
                    ),
                    ("what to do", block.cure),
                ]
            )
        )
    if now.failures:
        parts += ["", Text("Not delivered", style="bold red"), *_failures(now)]
    return Group(*parts)


def head(now: Standing, folder: Path) -> Text:
    """Who works, and the counts."""
    waiting = f"{now.count(State.DUE):,} waiting"
    if now.totals.oldest_due is not None:
        waiting += f" ({tables.size(now.totals.pending_bytes)}, the oldest for {tables.span(now.lag())})"
    counts = [waiting]
    if now.count(State.UPLOADING):
        counts.append(f"{now.count(State.UPLOADING):,} uploading")
    counts.append(f"{now.count(State.STORED):,} stored ({tables.size(now.totals.stored_bytes)})")
    counts += [f"{now.count(State.FAILED):,} failed", f"{now.count(State.IGNORED):,} ignored"]
    text = Text()
    if now.service is None:
        text.append("No service is running", style="bold yellow")
    else:
        text.append(now.service, style="bold green")
        text.append(" is working")
    text.append(f" · state folder {folder}\n")
    text.append(" · ".join(counts))
    sent, unique = now.totals.bytes_sent, now.totals.bytes_unique
    if unique:
        text.append(f"\nSent {tables.size(sent)} for {tables.size(unique)} of different content")
        text.append(f" (each byte {sent / unique:.2f} times)")
    return text


def watches(now: Standing) -> Table:
    """The watched folders, and how they are."""
    table = tables.table("Watched folder", "Mode", "Health", fold=("Watched folder", "Health"))
    for watch in now.watches:
        health = Text("ok" if watch.healthy else "degraded", style="green" if watch.healthy else "yellow")
        if detail := _detail(watch, now):
            health.append(f": {detail}", style="default")
        table.add_row(tables.path(watch.path), watch.mode or "-", health)
    return table


def _runs(now: Standing, width: int) -> Table:
    numbers = ("Stored", "Size", "Waiting", "Failed")
    open_ones = [r for r in now.runs if r.pending or r.failed or r.error]
    latest = now.runs[-_RUNS_SHOWN:]
    shown = [r for r in open_ones if r not in latest][: 2 * _RUNS_SHOWN] + latest
    names = [(tables.name(run.experiment), tables.name(run.run)) for run in shown]
    # Side by side they would be broken into slivers: then they share one column, which is as wide as both.
    apart = sum(max(map(cell_len, column)) for column in zip(*names, strict=True)) + _BESIDE_NAMES <= width
    heads = ("Experiment", "Run") if apart else ("Experiment/Run",)
    ids = ("Run ID",) if apart or width >= _WITH_IDS else ()
    table = tables.table(*heads, "Status", *numbers, *ids, right=numbers, fold=heads)
    for run, name in zip(shown, names, strict=True):
        failed = Text(f"{run.failed:,}", style="red" if run.failed else "")
        table.add_row(
            *(name if apart else ("/".join(name),)), run.status or "not made yet", f"{run.stored:,}",
            tables.size(run.stored_bytes),
            f"{run.pending:,}", failed, *([(run.run_id or "-")[:8]] if ids else []),
        )  # fmt: skip
    if ended := [r for r in shown if r.status in ("FAILED", "KILLED") and r.reason]:
        table.caption = "\n".join(tables.name(f"{r.experiment}/{r.run}: {life(r)}") for r in ended[:_FAILURES_SHOWN])
        table.caption_justify = "left"
    if len(shown) < len(now.runs):
        more = f"… and {tables.number(len(now.runs) - len(shown), 'more run')}: --json has all"
        table.caption = f"{table.caption}\n{more}" if table.caption else more
        table.caption_justify = "left"
    return table


def life(run: RunView) -> str:
    """How a run stands: its status, since when, and why."""
    if run.status == "RUNNING":
        sign = f"; last sign of life {tables.clock(run.since)}: {run.reason}" if run.since and run.reason else ""
        return run.status + ("; its own job ends it" if run.kept else "") + sign
    since = "" if run.since is None else f" since {tables.clock(run.since)}"
    return f"{run.status}{since}" + (f": {run.reason}" if run.reason else "")


def _failures(now: Standing) -> Iterator[RenderableType]:
    for file in now.failures[:_FAILURES_SHOWN]:
        again = next_try(file)
        yield Text("  " + tables.path(file.path), overflow="fold")
        yield tables.details(
            [
                ("error", coded(file.error or "")),
                ("tries", str(file.attempts) if file.attempts else ""),
                ("next try", "" if again is None else tables.until(again)),
                ("what to do", file.cure or ""),
            ],
            indent=4,
        )
    more = len(now.failures) - _FAILURES_SHOWN
    if more > 0:
        yield Text(f"  … and {more:,} more: --json has {'all' if len(now.failures) < 1000 else 'a thousand'}")
