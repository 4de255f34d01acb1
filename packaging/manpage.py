"""Writes artifactd(1) in roff to stdout, from the commands' own help: it cannot say anything else than they do."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import Any

import typer

from artifactd import __version__
from artifactd.cli import app

_TYPE = re.compile(r" <[a-z\[\]]+>$")
_MARKUP = re.compile(r"\[(/|bold|dim|/bold|/dim)\]")

_FILES = (
    ("/etc/artifactd/config.toml", "the configuration of the service; every key is in config.example.toml"),
    ("~/.config/artifactd/config.toml", "that of a user, which goes before it"),
    ("/etc/artifactd/environment", "credentials for MLflow and the stores, as KEY=value lines, for the service"),
    ("/var/lib/artifactd", "the service's ledger and embedded store; ~/.local/state/artifactd is a user's"),
    ("artifactd.toml", "in a run folder: what it says of its run"),
)
_CODES = (
    ("0", "done, all in order"),
    ("1", "something is not in order"),
    ("2", "wrong usage or configuration"),
    ("3", "sync, exec: something failed, or is left"),
    ("75", "sync, exec: what is left waits for a server that cannot be reached"),
)


def roff(text: str) -> str:
    """Text that stands for itself: rich's markup is dropped, and what roff takes for a command is escaped."""
    text = _MARKUP.sub("", text).replace("\\[", "[")
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return re.sub(r"(?m)^([.])", r"\\&\1", text)


def page(group: Any, moment: float) -> str:
    """The whole page.

    Args:
        group: The commands, as click knows them.
        moment: When it was made (seconds since 1970).
    """
    day = time.strftime("%Y-%m-%d", time.gmtime(moment))
    lines = [
        f'.TH ARTIFACTD 1 "{day}" "artifactd {__version__}" "User Commands"',
        ".SH NAME",
        "artifactd \\- MLflow\\(aqs drop folder",
        ".SH SYNOPSIS",
        ".B artifactd",
        "COMMAND [OPTION]... [ARGUMENT]...",
        ".SH DESCRIPTION",
        roff(
            "A service on a training host: every file that comes to rest in a watched folder becomes an artifact of "
            "the right MLflow run, exactly as it is on disk. Outages, crashes and restarts cost time, never a file."
        ),
        ".SH COMMANDS",
    ]
    with group.make_context("artifactd", ["status"], resilient_parsing=True) as ctx:
        for name in group.list_commands(ctx):
            _, command, _ = group.resolve_command(ctx, [name])
            lines += _command(name, command, ctx)
    for title, rows in (("FILES", _FILES), ("EXIT STATUS", _CODES)):
        lines.append(f".SH {title}")
        for term, text in rows:
            lines += [".TP", f".B {roff(term)}", roff(text)]
    lines += [".SH SEE ALSO", roff("/usr/share/doc/artifactd has the README, all pages and config.example.toml.")]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any, parent: Any) -> list[str]:
    with command.make_context(name, [], parent=parent, resilient_parsing=True) as ctx:
        pieces = " ".join(command.collect_usage_pieces(ctx))
        records = [record for record in (parameter.get_help_record(ctx) for parameter in command.params) if record]
    lines = [f".SS {roff(f'artifactd {name} {pieces}')}"]
    for paragraph in (command.help or "").split("\n\n"):
        lines += [roff(" ".join(paragraph.split())), ".PP"]
    for term, text in records:
        # Of what type an argument is for Python says nothing to who reads this.
        name = _TYPE.sub("", " ".join(str(term).split()))
        lines += [".TP", f".B {roff(name)}", roff(" ".join(str(text).split()))]
    if command.epilog:
        lines += [".PP", roff(command.epilog)]
    return lines


if __name__ == "__main__":
    sys.stdout.write(page(typer.main.get_command(app), float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))
