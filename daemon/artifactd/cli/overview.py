"""How everything stands, for people: what ``artifactd status`` shows, once or as it changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from artifactd.causes import coded
from artifactd.cli import tables
from artifactd.cli.status import detail, life
from artifactd.ledger import Blockage, FileView, State
from artifactd.ledger.report import MOST_FAILURES
from artifactd.standing import Standing, next_try

_RUNS_SHOWN = 20
_BESIDE_NAMES = 68
"""Columns that the rest of a run's row takes."""
_WITH_IDS = 100
"""Columns of a terminal from which on there is room for run ids beside long names."""
_FAILURES_SHOWN = 20


def as_table(now: Standing, folder: Path, width: int) -> RenderableType:
    """What people see, in so many columns."""
    parts: list[RenderableType] = [head(now, folder)]
    if now.watches:
        parts += ["", watches(now, steps=True)]
    if now.runs:
        parts += ["", _runs(now, width)]
    for what, block in now.held.items():
        parts += ["", Text(f"Held back: {what}", style="bold yellow")]
        parts.append(
            tables.details(
                [("because", coded(block.error)), ("next try", next_of(block)), ("what to do", block.next_step)]
            )
        )
    if now.failures:
        parts += ["", Text("Not delivered", style="bold red"), *_failures(now)]
    return Group(*parts)


def next_of(block: Blockage) -> str:
    """When what is held back is tried again, after how many tries; empty when somebody has to act first."""
    if block.again is None:
        return ""
    return f"{tables.until(block.again)}, after {tables.number(block.attempts, 'try', 'tries')}"


def head(now: Standing, folder: Path) -> Text:
    """Who works, and the counts."""
    waiting, going = now.count(State.DUE), now.count(State.UPLOADING)
    counts = [f"{waiting:,} waiting", *([f"{going:,} uploading"] if going else [])]
    if now.totals.oldest_due is not None:
        together = " together" if waiting and going else ""
        counts[-1] += f" ({tables.size(now.totals.pending_bytes)}{together}, the oldest for {tables.span(now.lag())})"
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


def watches(now: Standing, *, steps: bool = False) -> Table:
    """The watched folders, how they are, and with `steps` what can be done about it."""
    table = tables.table("Watched folder", "Mode", "Health", fold=("Watched folder", "Health"))
    for watch in now.watches:
        well = watch.healthy and now.service is not None
        health = Text("ok" if well else "not watched now" if watch.healthy else "degraded")
        health.stylize("green" if well else "yellow")
        if more := detail(watch, now):
            health.append(f": {more}", style="default")
        if steps and not watch.healthy:
            health.append(f"\n{watch.next_step}", style="dim")
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


def _failures(now: Standing) -> Iterator[RenderableType]:
    for file in now.failures[:_FAILURES_SHOWN]:
        yield failure(file)
    more = len(now.failures) - _FAILURES_SHOWN
    if more > 0:
        known = len(now.failures) < MOST_FAILURES
        yield Text(f"  … and {more:,} more: --json has all" if known else f"  … and more: --json has {MOST_FAILURES:,}")


def failure(file: FileView) -> RenderableType:
    """One file that failed or is tried again, with all that is known."""
    again = next_try(file)
    details = tables.details(
        [
            ("error", coded(file.error or "")),
            ("tries", str(file.attempts) if file.attempts else ""),
            ("next try", "" if again is None else tables.until(again)),
            ("what to do", file.next_step),
        ],
        indent=4,
    )
    return Group(Text("  " + tables.path(file.path), overflow="fold"), details)
