"""A command as systemd's service would run it: its user, environment, credentials, groups and view of the files.

A transient unit is given the service's own text, drop-ins included, as a drop-in for its own name: so systemd itself
makes of each line what it makes of it for the service, and nothing of that is known here. What tells how a service
starts, lasts and ends is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from artifactd.errors import ArtifactdError, UsageError

AsOption = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="UNIT", show_default=False,
        help="As this systemd service would: its user, environment, credentials. Root's, or one of your own.",
    ),
]  # fmt: skip

_OF_A_SERVICE = re.compile(
    r"^(?:Exec(?:Start|Stop|Reload|Condition)|Type|NotifyAccess|Restart|Watchdog|Timeout|RuntimeMax|RuntimeDirectory|"
    r"PIDFile|BusName|Sockets|Success|OnFailure|OnSuccess|FailureAction|Standard|TTY)\w*[ \t]*="
    r"(?:.*\\\n(?:[#;].*\n)*)*.*\n?",
    re.MULTILINE,
)
"""Lines, with those that continue them. A runtime folder would go with the command, from under the service."""

_KEPT = ("COLUMNS", "NO_COLOR", "TERM")
"""Variables of whoever looks at what is printed."""


def run_as(unit: str, command: str, given: Mapping[str, Path | bool | None]) -> int:
    """Run a command as a service's process would be run, with this process's streams.

    Args:
        unit: The service's, as systemctl takes it.
        command: The command's name.
        given: What it was given: option (``""`` for an argument) → value. Where it was not told of a configuration
            or a state folder, those of the service hold.

    Returns:
        Its exit code.

    Raises:
        UsageError: There is no such unit, or it does not start ``artifactd run``.
        ArtifactdError: There is no systemd here, or it does not start the command.
    """
    if shutil.which("systemd-run") is None:
        raise ArtifactdError("there is no systemd here", f"Without --as: runuser -u USER -- artifactd {command}")
    manager = [] if os.geteuid() == 0 else ["--user"]
    unit = unit if unit.endswith(".service") else f"{unit}.service"
    text = _said(["systemctl", *manager, "cat", "--", unit], unit)
    program, options = started(_said(["systemctl", *manager, "show", "--property=ExecStart", "--", unit], unit), unit)
    prefix, at, instance = unit.partition("@")
    name = f"{prefix.removesuffix('.service')}-{command}-{os.getpid()}{at}{instance}".removesuffix(".service")
    folder = _runtime(manager) / f"{name}.service.d"
    folder.mkdir(0o700, parents=True, exist_ok=True)  # one that was killed may have left it
    try:
        (folder / "as.conf").write_text(surroundings(text), encoding="utf-8", errors="surrogateescape")
        variables = [f"--setenv={key}" for key in _KEPT if key in os.environ]
        return subprocess.run(
            ["systemd-run", *manager, f"--unit={name}", "--quiet", "--pipe", "--wait", "--collect", *variables, "--"]
            + [word.replace("$", "$$") for word in (*program, command, *options, *_words(given))],
            check=False,
        ).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def surroundings(text: str) -> str:
    """A unit without what tells how its service starts, lasts and ends.

    Args:
        text: Its file and its drop-ins, as ``systemctl cat`` prints them.
    """
    return _OF_A_SERVICE.sub("", text)


def started(said: str, unit: str) -> tuple[list[str], list[str]]:
    """The program that a unit starts, and the options by which it names a configuration and a state folder.

    Args:
        said: ``ExecStart=`` as ``systemctl show`` prints it, specifiers resolved.
        unit: The unit's name.

    Raises:
        UsageError: It does not start ``artifactd run``.
    """
    found = re.search(r"argv\[\]=(.*?) ;", said)
    words = found[1].split() if found else []
    if "run" not in words:
        raise UsageError(f"{unit} does not start `artifactd run`", "Name the service: --as artifactd")
    at = words.index("run")
    options: list[str] = []
    for option, value in zip(words[at:], [*words[at + 1 :], ""], strict=True):
        if option in ("--config", "-c", "--state-dir"):
            options += [option, value]
        elif option.startswith(("--config=", "--state-dir=")):
            options.append(option)
    return words[:at], options


def _words(given: Mapping[str, Path | bool | None]) -> Iterator[str]:
    """As on a command line, from whatever folder it is read."""
    for option, value in given.items():
        if value is None or value is False:
            continue
        if option:
            yield option
        if isinstance(value, Path):
            yield os.path.abspath(value)


def _said(command: Sequence[str], unit: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False)
    if done.returncode != 0:
        whose = "" if os.geteuid() == 0 else " among yours; the system's are for root to ask for"
        last = done.stderr.strip().rpartition("\n")[2]
        raise UsageError(
            f"{unit} is not known to systemd{whose}: {last}", "systemctl list-units 'artifactd*' shows what is there"
        )
    return done.stdout


def _runtime(manager: Sequence[str]) -> Path:
    """Where a manager looks for units that are gone with the next boot."""
    if not manager:
        return Path("/run/systemd/system")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "systemd" / "user"
