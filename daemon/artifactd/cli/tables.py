"""Numbers, times, paths and tables as people read them. Knows nothing of what they mean."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from artifactd.text import printable, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((60.0, 1, "s"), (3600.0, 60, "min"), (48 * 3600.0, 3600, "h"))
_BREAK_AFTER = re.compile(r"([/_.-])")


def size(count: float) -> str:
    """Bytes, as ``3.4 MiB``."""
    if count < 1023.95:
        return f"{count:.0f} B"
    power = 0
    while count >= 1023.95 and power < len(_UNITS):
        count /= 1024
        power += 1
    return f"{count:.1f} {_UNITS[power - 1]}"


def number(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun, as ``1 file`` and ``1,200 files``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def span(seconds: float) -> str:
    """A length of time, as ``0.4 s``, ``42 s``, ``12 min``, ``5 h``, ``3 d``."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, unit, name in _SPANS:
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def clock(at: float) -> str:
    """A moment in local time: the time of day, with the date unless it is today. `at` is in unix seconds."""
    moment = datetime.datetime.fromtimestamp(at).astimezone()
    today = datetime.datetime.now().astimezone().date() == moment.date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"


def until(at: float) -> str:
    """A moment to wait for, as ``in 12 s (17:30:02)``; ``now`` once it has come. `at` is in unix seconds."""
    left = at - time.time()
    return "now" if left <= 0 else f"in {span(left)} ({clock(at)})"


def iso(at: float | None) -> str | None:
    """A moment for machines: ISO 8601 in UTC, as ``2026-01-31T16:30:02Z``. `at` is in unix seconds."""
    if at is None:
        return None
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def path(of: bytes) -> str:
    """A path that is safe to print."""
    return printable(of)


def name(of: str) -> str:
    """A run's, experiment's or artifact's name that is safe to print."""
    return printable(of.encode("utf-8", "surrogateescape"))


def short(of: bytes, base: bytes | None = None) -> str:
    """A path, relative to `base` (by default the current folder) when it lies below."""
    if base is None:
        base = os.getcwdb()
    inside = base != b"/" and of.startswith(base + b"/")
    return printable(of[len(base) + 1 :] if inside else of)


@dataclass(frozen=True, slots=True)
class Tail:
    """A name in one row of as many columns as there are; where it is too long, its end, by which it is told apart."""

    name: str

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """What fits."""
        from rich.cells import cell_len  # noqa: PLC0415 (`--json` does without)
        from rich.text import Text  # noqa: PLC0415 (as above)

        shown = self.name
        if cell_len(shown) > options.max_width:
            shown = shown[-options.max_width :]
            while shown and cell_len(shown) >= options.max_width:
                shown = shown[1:]
            shown = f"…{shown}"
        yield Text(shown, no_wrap=True)

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        """It takes what it is given."""
        from rich.cells import cell_len  # noqa: PLC0415 (as above)
        from rich.measure import Measurement  # noqa: PLC0415 (as above)

        return Measurement(min(cell_len(self.name), 8), max(cell_len(self.name), 1))


def table(*headers: str, right: Iterable[str] = (), fold: Iterable[str] = ()) -> Table:
    """An empty table without lines.

    Args:
        headers: One a column.
        right: Headers of columns of numbers, which stand to the right and are never broken.
        fold: Headers of columns whose text may be broken where the terminal is narrow.
    """
    from rich.table import Table  # noqa: PLC0415 (`--json` does without)

    right, fold = set(right), set(fold)
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        made.add_column(header, justify=justify, no_wrap=header not in fold, overflow="fold")
    return made


def details(pairs: Sequence[tuple[str, str]], indent: int = 2) -> Table:
    """Names and values, one pair a line; pairs without value are left out."""
    from rich.table import Table  # noqa: PLC0415 (as above)

    made = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            made.add_row(" " * indent + name, breakable(value))
    return made


def breakable(value: str) -> Text:
    """Text for a narrow column."""
    from rich.text import Text  # noqa: PLC0415 (as above)

    return Text(visible(value), overflow="fold")  # before it is measured
