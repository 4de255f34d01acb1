"""How far a transfer is: a bar on a terminal, now and then a plain line off it. Both on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from artifactd.cli import common, tables

_LINE_EVERY = 5.0
"""Seconds between two plain lines."""


class _RateColumn(ProgressColumn):
    """Bytes a second."""

    def render(self, task: Task) -> Text:
        """The rate of the last seconds, once there is one."""
        return Text("" if task.speed is None else f"{tables.size(task.speed)}/s")


class Bar:
    """Shows a transfer; use as a context.

    Args:
        doing: What is done, as ``Delivering``.
        quiet: Show nothing.
    """

    def __init__(self, doing: str, *, quiet: bool = False) -> None:
        self._doing = doing
        self._begun = self._said = time.monotonic()
        self._progress: Progress | None = None
        self._quiet = quiet
        console = common.messages()
        if console.is_terminal and not quiet:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[amount]}"),
                _RateColumn(),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
                expand=True,
            )
            self._task = self._progress.add_task(doing, total=None, amount="")

    def __enter__(self) -> Bar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, files: int, of_files: int, size: int, of_size: int) -> None:
        """Say how far it is: files and bytes done, and of how many."""
        if self._progress is not None:
            amount = f"{files:,}/{tables.number(of_files, 'file')}, {tables.size(size)}/{tables.size(of_size)}"
            self._progress.update(self._task, completed=size, total=of_size or None, amount=amount)
            return
        now = time.monotonic()
        if self._quiet or now - self._said < _LINE_EVERY:
            return
        self._said = now
        rate = size / (now - self._begun)
        # The first bytes say nothing about the rest.
        left = f", {tables.span((of_size - size) / rate)} left" if size * 50 > of_size else ""
        common.say(
            f"{self._doing}: {files:,} of {tables.number(of_files, 'file')}, {tables.size(size)} of"
            f" {tables.size(of_size)}, {tables.size(rate)}/s{left}"
        )
