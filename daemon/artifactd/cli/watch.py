"""``artifactd status --watch``: how everything stands, as it changes. Imported for that alone."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from artifactd.causes import code_of, coded
from artifactd.cli import common, overview, status, tables
from artifactd.cli.keys import Keyboard
from artifactd.errors import Kind
from artifactd.ledger import Blockage, FileView, Report, State
from artifactd.ledger.runviews import RunView
from artifactd.standing import Standing, next_try, read

_EVERY = 1.0
_AT_LEAST_EVERY = 5.0
"""Seconds after which a ledger that did not change is asked again: whether a service works does not show in it."""

_DUTY = 0.1
"""The part of a core that questions may take: a ledger of a million files is asked less often."""

_WINDOW = 10.0
"""Seconds over which a rate is taken."""

SORTS: tuple[tuple[str, Callable[[RunView], object]], ...] = (
    ("open first", lambda run: (-(run.pending + run.failed), -run.row)),
    ("newest first", lambda run: -run.row),
    ("by name", lambda run: (run.experiment, run.run)),
    ("biggest first", lambda run: -run.stored_bytes),
)
SHOWS: tuple[tuple[str, Callable[[RunView], bool]], ...] = (
    ("all runs", lambda _run: True),
    ("not all stored", lambda run: bool(run.pending or run.failed or run.error)),
    ("failed", lambda run: bool(run.failed or run.error or run.status in ("FAILED", "KILLED"))),
)

_KEYS = "q quit · s sort · f show · / find · tab failures · ↑↓"

_OF_RUNS = {"Run": 0, "Status": 0, "Progress": 60, "Stored": 0, "Size": 72, "Waiting": 50, "Failed": 0}
"""What is told of a run, and from how many columns of a terminal on: names that cannot be told apart help nobody."""

_OF_FAILURES = {"Failures": 0, "Error": 0, "Code": 0, "Tries": 72, "Next try": 56}
"""Likewise of a failure. The code has a column of its own: behind an error that is cut nobody would see it."""

R = TypeVar("R", RunView, FileView)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is looked at.

    Attributes:
        sort: Index of ``SORTS``.
        show: Index of ``SHOWS``.
        text: What experiment, name or path must hold, whatever the case.
        typing: Keys are letters of it now.
        failures: Failures have the room, and not the runs.
        top: The first row shown.
    """

    sort: int = 0
    show: int = 0
    text: str = ""
    typing: bool = False
    failures: bool = False
    top: int = 0

    def after(self, key: str) -> Choice | None:
        """What is looked at once this key is pressed; None: nothing any more."""
        if self.typing:
            return self._typed(key)
        match key:
            case "q":
                return None
            case "s":
                return replace(self, sort=(self.sort + 1) % len(SORTS), top=0)
            case "f":
                return replace(self, show=(self.show + 1) % len(SHOWS), top=0)
            case "/":
                return replace(self, typing=True)
            case "escape":
                return replace(self, text="", top=0)
            case "tab":
                return replace(self, failures=not self.failures, top=0)
            case "home":
                return replace(self, top=0)
            case "up" | "k" | "down" | "j" | "page up" | "page down":
                step = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}[key]
                return replace(self, top=max(0, self.top + step))
        return self

    def runs(self, runs: Sequence[RunView]) -> list[RunView]:
        """Those that are wanted, in order."""
        fits, by = SHOWS[self.show][1], SORTS[self.sort][1]
        chosen = [run for run in runs if fits(run) and self._has(f"{run.experiment}/{run.run}")]
        return sorted(chosen, key=by)  # type: ignore[arg-type]  # each is of one kind

    def files(self, files: Sequence[FileView]) -> list[FileView]:
        """Those that are wanted."""
        return [file for file in files if self._has(tables.path(file.path))]

    def _has(self, text: str) -> bool:
        return self.text.casefold() in text.casefold()

    def _typed(self, key: str) -> Choice:
        match key:
            case "enter":
                return replace(self, typing=False)
            case "escape":
                return replace(self, typing=False, text="", top=0)
            case "back":
                return replace(self, text=self.text[:-1], top=0)
        return replace(self, text=self.text + key, top=0) if len(key) == 1 else self


class Rates:
    """How fast it goes, from what the ledger says at moments."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, stored: int, sent: int) -> None:
        """What it says now.

        Args:
            now: Monotonic seconds.
            stored: Files.
            sent: Bytes since the ledger was made.
        """
        self._past.append((now, stored, sent))
        while len(self._past) > 2 and now - self._past[1][0] >= _WINDOW:
            self._past.popleft()

    def now(self) -> tuple[float, float]:
        """Files and bytes a second."""
        if len(self._past) < 2:
            return 0.0, 0.0
        (begun, stored, sent), (now, stored_now, sent_now) = self._past[0], self._past[-1]
        span = max(now - begun, 0.001)
        return max(0, stored_now - stored) / span, max(0, sent_now - sent) / span


@dataclass(frozen=True, slots=True)
class Screen:
    """All that is shown at one moment, for whatever size the terminal has."""

    now: Standing
    folder: Path
    choice: Choice
    rates: tuple[float, float]
    keys: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many rows as there is room for."""
        height = options.height or console.height
        free = options.update(height=None)
        foot = console.render_lines(self._foot(), free)[:1]
        top = console.render_lines(self._top(), free)
        lines = top[: max(3, height // 2)]
        room = height - len(lines) - len(foot) - 1
        lines.append([])
        for renderable, part in self._lists(max(1, room), free.max_width):
            lines += console.render_lines(renderable, free)[:part]
        lines = lines[: height - len(foot)]
        lines += [[]] * (height - len(foot) - len(lines))
        for number, line in enumerate([*lines, *foot]):
            if number:
                yield Segment.line()
            yield from line

    def _top(self) -> RenderableType:
        parts: list[RenderableType] = [overview.head(self.now, self.folder), self._rate()]
        parts += [_held(what, block) for what, block in list(self.now.held.items())[:3]]
        well = [watch for watch in self.now.watches if watch.healthy]
        if len(well) == len(self.now.watches):
            how = "all well" if self.now.service is not None else "not watched now"
            parts.append(Text(f"{tables.number(len(well), 'watched folder')}, {how}"))
        else:
            parts.append(overview.watches(replace(self.now, watches=[w for w in self.now.watches if not w.healthy])))
        return Group(*parts)

    def _rate(self) -> Text:
        files, sent = self.rates
        if not files and not sent:
            going = self.now.count(State.UPLOADING)
            still = f"; {tables.number(going, 'upload is', 'uploads are')} under way" if going else ""
            return Text(f"Nothing was stored in the last seconds{still}", style="dim")
        text = f"{files:,.1f} files/s · {tables.size(sent)}/s"
        totals = self.now.totals
        # A file counts once it is stored. Of one that takes longer than the window, the rate knows nothing.
        if totals.pending_bytes and totals.largest_due <= sent * _WINDOW:
            text += f" · about {tables.span(totals.pending_bytes / sent)} left"
        return Text(text, style="bold")

    def _lists(self, room: int, width: int) -> Iterator[tuple[RenderableType, int]]:
        runs, files = self.choice.runs(self.now.runs), self.choice.files(self.now.failures)
        if self.choice.failures:
            shown = _from(files, self.choice.top)[:room]
            whole = Group(Text("Failures", style="bold"), *map(overview.failure, shown))
            yield whole if shown else Text("No such failure", style="dim"), room
            return
        of_files = min(len(files) + 2, max(room // 3, 3)) if files else 0
        yield _runs(_from(runs, self.choice.top), room - of_files, width), room - of_files
        if files:
            yield Group("", _failures(files, of_files - 1, width)), of_files

    def _foot(self) -> Text:
        choice = self.choice
        if choice.typing:
            return Text(f"Find: {choice.text}▏  enter keeps it, escape ends it", no_wrap=True, style="reverse")
        said = f"{SHOWS[choice.show][0]}, {SORTS[choice.sort][0]}"
        if choice.text:
            said += f', with "{choice.text}"'
        return Text(
            f"{said} · {_KEYS if self.keys else 'Ctrl-C ends it'}", style="dim", no_wrap=True, overflow="ellipsis"
        )


def _from(rows: list[R], top: int) -> list[R]:
    return rows[min(top, max(0, len(rows) - 1)) :]


def _runs(runs: Sequence[RunView], room: int, width: int) -> RenderableType:
    if not runs:
        return Text("No such run", style="dim")
    heads = [head for head, least in _OF_RUNS.items() if width >= least]
    table = tables.table(*heads, right=("Stored", "Size", "Waiting", "Failed"))
    table.expand = True
    table.columns[0].ratio = 3
    if "Progress" in heads:
        table.columns[2].ratio, table.columns[2].min_width = 2, 5
    for run in runs[: max(1, room - 1)]:
        whole = run.stored + run.pending + run.failed
        cells: dict[str, RenderableType] = {
            "Run": tables.Tail(tables.name(f"{run.experiment}/{run.run}")),
            "Status": run.status or "not made yet",
            "Progress": ProgressBar(total=max(1, whole), completed=run.stored if whole else 1),
            "Stored": f"{run.stored:,} of {whole:,}",
            "Size": tables.size(run.stored_bytes),
            "Waiting": f"{run.pending:,}",
            "Failed": Text(f"{run.failed:,}", style="red" if run.failed else ""),
        }
        table.add_row(*map(cells.__getitem__, heads))
    return table


def _held(what: str, block: Blockage) -> Text:
    error, again = coded(block.error), overview.next_of(block)
    text = Text("Held back: ", style="bold yellow")
    text.append(error if error.startswith(what) else f"{what}: {error}", style="not bold default")
    # What time alone mends has no next step but to wait.
    step = "" if block.kind == Kind.TRANSIENT else f"; {block.next_step}"
    return text.append(f"{f'; next try {again}' if again else ''}{step}", style="not bold default")


def _failures(files: Sequence[FileView], room: int, width: int) -> RenderableType:
    """A row each."""
    heads = [head for head, least in _OF_FAILURES.items() if width >= least]
    table = tables.table(*heads, right=("Tries",))
    table.expand = True
    table.columns[0].ratio, table.columns[1].ratio = 2, 3
    table.columns[1].overflow = "ellipsis"
    for file in files[: max(1, room - 1)]:
        again = next_try(file)
        by = "by artifactd retry" if file.needs_retry else "" if again is None else tables.until(again)
        cells: dict[str, RenderableType] = {
            "Failures": tables.Tail(tables.path(_end(file.path))),
            "Error": Text(file.error or ""),
            "Code": code_of(file.error or "") or "",
            "Tries": str(file.attempts or ""),
            "Next try": by,
        }
        table.add_row(*map(cells.__getitem__, heads))
    return table


def _end(path: bytes) -> bytes:
    """The last two names of a path: its folder and itself."""
    return b"/".join(path.split(b"/")[-2:])


def watch(report: Report, folder: Path, *, as_json: bool) -> None:
    """Show it until Ctrl-C, or q: on a terminal as a screen, else by a table (or a line of JSON) for each change."""
    console = common.out()
    if console.is_terminal and not console.is_dumb_terminal and not as_json:
        _on_screen(console, report, folder)
        return
    last = None
    for now in _moments(report, folder):
        data = status.as_data(now)
        shown = {**data, "oldest_pending_seconds": 0, "service": now.service}
        if shown != last:
            last = shown
            if as_json:
                sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
            else:
                console.print(overview.as_table(now, folder, console.width))
                console.print()
            sys.stdout.flush()
        time.sleep(_EVERY)


def _on_screen(console: Console, report: Report, folder: Path) -> None:
    choice, rates = Choice(), Rates()
    moments = _moments(report, folder)
    now, shown_at = next(moments), time.monotonic()
    rates.add(shown_at, now.count(State.STORED), now.totals.bytes_sent)
    with Keyboard() as keyboard, Live(console=console, auto_refresh=False, screen=True, redirect_stdout=False) as live:
        while True:
            live.update(Screen(now, folder, choice, rates.now(), keyboard.there), refresh=True)
            for key in keyboard.pressed(max(0.0, shown_at + _EVERY - time.monotonic())):
                changed = choice.after(key)
                if changed is None:
                    return
                choice = changed
            if keyboard.left:
                keyboard.left = False
                _stand_back(live, keyboard)
            if time.monotonic() >= shown_at + _EVERY:
                now, shown_at = next(moments), time.monotonic()
                rates.add(shown_at, now.count(State.STORED), now.totals.bytes_sent)


def _stand_back(live: Live, keyboard: Keyboard) -> None:
    """Stop, as Ctrl-Z asks for, with the terminal as it was found, until somebody says to go on."""
    live.stop()
    keyboard.give_back()
    os.kill(os.getpid(), signal.SIGSTOP)
    keyboard.take()
    live.start()


def _moments(report: Report, folder: Path) -> Iterator[Standing]:
    """How it stands whenever it is asked; the ledger is asked in full only when it changed, and not for too much."""
    now, version, asked, not_before = None, -1, 0.0, 0.0
    while True:
        seen, begun = report.version(), time.monotonic()
        wanted = seen != version or begun - asked > _AT_LEAST_EVERY
        if now is None or (wanted and begun >= not_before):
            before = time.thread_time()
            now, version = read(report, folder), seen
            asked = time.monotonic()
            not_before = asked + (time.thread_time() - before) / _DUTY
        yield now
