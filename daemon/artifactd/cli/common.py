"""What every command shares: options, the two consoles, how errors end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from artifactd.causes import coded
from artifactd.errors import ArtifactdError, DeliveryError, Kind
from artifactd.text import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", show_default=False,
        help="The TOML file [dim](else $ARTIFACTD_CONFIG, or config.toml in ~/.config/artifactd or /etc/artifactd)[/]",
    ),
]  # fmt: skip
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir", metavar="DIR", show_default=False,
        help="The state folder [dim](else as configured, or ~/.local/state/artifactd)[/]",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SettleOption = Annotated[
    str | None,
    typer.Option(
        "--settle", metavar="TIME", show_default=False, help="Quiet time before a file counts as at rest, as 5s."
    ),
]
LogFormatOption = Annotated[
    Literal["auto", "console", "json", "journald"] | None,
    typer.Option("--log-format", metavar="FORMAT", help="How log lines look: auto, console, json or journald."),
]
LogLevelOption = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option("--log-level", metavar="LEVEL", help="The least level logged: debug, info, warning or error."),
]

_AGAIN = "Try it again later; `artifactd check` looks at what is in the way"
_WIDE = 4096
"""Columns where no terminal sets a limit: what programs read is never broken."""

# -- consoles ----------------------------------------------------------------------------------------------------


def out() -> Console:
    """The console of data."""
    return _console(stderr=False)


def messages() -> Console:
    """The console of messages."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console  # noqa: PLC0415 (`--help` and `--json` do without)

    class Quiet(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise  # noqa: PLE0704 (called while a BrokenPipeError is handled: `guarded` ends it)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            # The last place before the terminal: what servers say comes here by many ways.
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Quiet(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if terminal else _WIDE,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def say(text: str, style: str | None = None) -> None:
    """Print a message, unbroken, so that paths can be copied."""
    messages().print(text, style=style, soft_wrap=True)


def print_json(data: object) -> None:
    """Print data for programs."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


# -- ends --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """End what ends a command: errors in words, Ctrl-C and a reader that went away in silence."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except DeliveryError as exc:
        transient = exc.failure.kind is Kind.TRANSIENT
        say(f"artifactd: {coded(exc.problem)}\n  {_AGAIN if transient else exc.cure}")
        raise typer.Exit(exc.exit_code) from None
    except ArtifactdError as exc:
        from artifactd.secrets import mask  # noqa: PLC0415 (compiles many patterns, which only errors need)

        first, end, rest = mask(str(exc)).partition("\n")
        say(f"artifactd: {coded(first)}{end}{rest}")
        raise typer.Exit(exc.exit_code) from None
    except MemoryError:
        say("artifactd: out of memory\n  Give it more, or let it watch less; nothing is lost, and a start recovers")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Python flushes at its end, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
    except PermissionError as exc:
        from artifactd.doctor.surroundings import refused  # noqa: PLC0415 (only this error needs it)

        say(f"artifactd: {refused(exc)}")
        raise typer.Exit(1) from None


def end_well(number: int, _frame: FrameType | None) -> NoReturn:
    """Let SIGTERM run what ends a command."""
    raise SystemExit(128 + number)
