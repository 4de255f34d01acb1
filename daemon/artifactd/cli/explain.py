"""``artifactd explain``: where a file stands, and why."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from artifactd.causes import coded
from artifactd.cli import codes, common, tables
from artifactd.cli.status import life
from artifactd.config import Config, layout_of
from artifactd.explain import FAILED, IGNORED, MISSING, OUTSIDE, STORED, WAITING, Answer, Explainer, Summary, Watch
from artifactd.ledger import Report
from artifactd.ledger.report import holder
from artifactd.ledger.runviews import RunView
from artifactd.settings import ledger_of, reader_config, watches_of

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_NO_ID = "found or made with the first upload"
_STYLES = {STORED: "green", WAITING: "yellow", FAILED: "red", IGNORED: "dim", MISSING: "magenta", OUTSIDE: "magenta"}


@app.command(epilog="Example: [bold]artifactd explain /data/drop/vision/run-7/model.pt[/]")
def explain(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files or folders; they need not exist. Or codes of errors, as AD301."),
    ],
    config: common.ConfigOption = None,
    state_dir: common.StateDirOption = None,
    json_: common.JsonOption = False,
) -> None:
    """Say where a file stands, and why: the rule, the run, the artifact path, what it waits for, the last error.

    Asks no server: it answers offline, beside a running service or without
    one. For a folder it sums up. Of a code, as it stands behind an error, it
    prints the page: what happened, why, and what to do.
    """
    pages = [codes.page(word) for word in paths if codes.is_code(word)]
    files = [path for path in paths if not codes.is_code(path)]
    answers = _answers(files, reader_config(config, state_dir)) if files else []
    if json_:
        common.print_json([{"type": "code", **asdict(page)} for page in pages] + [_data(answer) for answer in answers])
        return
    for number, answer in enumerate([*pages, *answers]):
        if number:
            common.out().print()
        match answer:
            case codes.Page():
                codes.show(answer)
            case Answer():
                _show(answer)
            case Summary():
                _show_folder(answer)


def _answers(paths: Sequence[str], settings: Config) -> list[Answer | Summary]:
    with ledger_of(settings) as report:
        explainer = Explainer(_watches(settings, report), report, service=holder(settings.state_dir), now=time.time())
        return [explainer.explain(os.path.abspath(os.fsencode(path))) for path in paths]


def _watches(config: Config, report: Report | None) -> list[Watch]:
    return [Watch(os.fsencode(w.path), layout_of(w), w.settle) for w in watches_of(config, report)]


def _show(answer: Answer) -> None:
    from rich.text import Text  # noqa: PLC0415 (`--json` does without)

    console = common.out()
    head = Text(tables.path(answer.path))
    head.append(": ").append(answer.state, style=f"bold {_STYLES[answer.state]}")
    console.print(head, soft_wrap=True)
    run = tables.name(answer.run or "")
    if run:
        run += f" ({answer.run_id or _NO_ID})"
    parent = ""
    if answer.parent is not None:
        name, ident = answer.parent
        parent = f"{tables.name(name)} ({ident or _NO_ID})"
    stored = ""
    if answer.stored_at is not None:
        stored = f"{tables.size(answer.stored_size or 0)}, {tables.clock(answer.stored_at)}"
        stored += f", SHA-256 {answer.digest.hex()[:16]}…" if answer.digest else ""
    told = "" if answer.told_at is None else f"to its run, as {answer.told_as}, {tables.clock(answer.told_at)}"
    console.print(
        tables.details(
            [
                ("waits for" if answer.state == WAITING else "reason", answer.reason),
                ("last error", coded(answer.error)),
                ("next", tables.until(answer.until) if answer.until is not None else ""),
                ("tries", str(answer.attempts) if answer.attempts else ""),
                ("what to do", answer.cure),
                ("rule", answer.rule),
                ("experiment", tables.name(answer.experiment or "")),
                ("run", run),
                ("parent run", parent),
                ("run is", "" if answer.life is None else life(answer.life)),
                ("artifact path", tables.name(answer.artifact_path or "")),
                ("stored", stored),
                ("told", told),
                *(("note", note) for note in answer.notes),
            ]
        )
    )


def _show_folder(answer: Summary) -> None:
    console = common.out()
    total = sum(answer.counts.values())
    head = f"{tables.path(answer.path)}: {'more than ' if answer.partial else ''}{tables.number(total, 'file')}"
    console.print(head, soft_wrap=True)
    counts = ", ".join(f"{answer.counts[s]:,} {s}" for s in (STORED, WAITING, FAILED, IGNORED) if s in answer.counts)
    runs = [
        f"{tables.name(f'{run.experiment}/{run.run}')} ({run.run_id or _NO_ID}){_life(run)}" for run in answer.runs[:5]
    ]
    runs += [f"… and {len(answer.runs) - 5:,} more: `artifactd status`"] if len(answer.runs) > 5 else []
    console.print(
        tables.details(
            [
                ("state", counts or "nothing is in it"),
                ("rule", answer.rule),
                *(("run" if not number else " ", run) for number, run in enumerate(runs)),
                ("note", "It was not looked at yet: this is what the rules say" if answer.unseen and total else ""),
            ]
        )
    )
    for example in answer.examples:
        console.print()
        _show(example)
    rest = answer.counts.get(WAITING, 0) + answer.counts.get(FAILED, 0) - len(answer.examples)
    if rest > 0:
        console.print(f"\n… and {rest:,} more that are not stored")


def _life(run: RunView) -> str:
    return f", {life(run)}" if run.status else ""


def _data(answer: Answer | Summary) -> dict[str, Any]:
    if isinstance(answer, Summary):
        return {
            "path": tables.path(answer.path),
            "type": "folder",
            "watch": tables.path(answer.watch),
            "rule": answer.rule or None,
            "counts": {state: answer.counts.get(state, 0) for state in (STORED, WAITING, FAILED, IGNORED)},
            "runs": [
                {
                    "experiment": r.experiment,
                    "run": r.run,
                    "run_id": r.run_id,
                    "status": r.status or None,
                    "since": tables.iso(r.since),
                    "reason": r.reason or None,
                }
                for r in answer.runs
            ],
            "not_stored": [_data(example) for example in answer.examples],
            "seen": not answer.unseen,
        }
    return {
        "path": tables.path(answer.path),
        "type": "file",
        "state": answer.state,
        "reason": answer.reason or None,
        "waits_for": answer.reason if answer.state == WAITING else None,
        "error": coded(answer.error) or None,
        "kind": answer.kind,
        "next_try": tables.iso(answer.until),
        "attempts": answer.attempts,
        "cure": answer.cure or None,
        "watch": None if answer.watch is None else tables.path(answer.watch),
        "rule": answer.rule or None,
        "experiment": answer.experiment,
        "run": answer.run,
        "run_id": answer.run_id,
        "parent": None if answer.parent is None else {"run": answer.parent[0], "run_id": answer.parent[1]},
        "run_status": (answer.life.status or None) if answer.life is not None else None,
        "run_reason": (answer.life.reason or None) if answer.life is not None else None,
        "artifact_path": answer.artifact_path,
        "size": answer.size,
        "sha256": answer.digest.hex() if answer.digest else None,
        "stored_bytes": answer.stored_size,
        "stored_at": tables.iso(answer.stored_at),
        "told_as": answer.told_as,
        "told_at": tables.iso(answer.told_at),
        "notes": list(answer.notes),
    }
