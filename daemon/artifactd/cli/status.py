"""``artifactd status``: how everything stands, from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from artifactd.causes import coded
from artifactd.cli import common, tables
from artifactd.errors import Kind
from artifactd.ledger import FileView, Report, State
from artifactd.paths import within
from artifactd.settings import reader_config
from artifactd.standing import Standing, next_try, read

if TYPE_CHECKING:
    from artifactd.ledger import Runaway, WatchView
    from artifactd.ledger.runviews import RunView

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


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
            from artifactd.cli.overview import as_table  # noqa: PLC0415 (`--json` does without rich)

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
            {"path": tables.path(w.path), "mode": w.mode, "healthy": w.healthy, "detail": detail(w, now)}
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


def detail(watch: WatchView, now: Standing) -> str:
    """What is to be said of how a watched folder is."""
    runaways = [r for r in now.runaways if within(r.path, watch.path)]
    told = [f"rewritten without end, so spaced out: {', '.join(map(_runaway, runaways))}"] if runaways else []
    return "; ".join([*filter(None, [coded(watch.detail)]), *told])


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
            "next_try": tables.iso(block.again),
        }


def _failure(file: FileView) -> dict[str, Any]:
    return {
        "path": tables.path(file.path),
        "error": coded(file.error or ""),
        "kind": file.kind if file.kind in set(Kind) else str(Kind.PERMANENT),
        "attempts": file.attempts,
        "next_try": tables.iso(next_try(file)),
    }


def life(run: RunView) -> str:
    """How a run stands: its status, since when, and why."""
    if run.status == "RUNNING":
        sign = f"; last sign of life {tables.clock(run.since)}: {run.reason}" if run.since and run.reason else ""
        return run.status + ("; its own job ends it" if run.kept else "") + sign
    since = "" if run.since is None else f" since {tables.clock(run.since)}"
    return f"{run.status}{since}" + (f": {run.reason}" if run.reason else "")
