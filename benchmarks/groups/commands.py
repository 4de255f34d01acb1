"""What it takes to start a command that asks, beside Python itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from costs import timed
from dropping import write_files
from rows import OURS, Goal, Row, interleaved
from setting import Setting

from support import environment

_BARE = "python -c pass"
_HEAVY = ("mlflow", "pandas", "numpy")


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each command."""
    base = setting.folder("commands")
    with ExitStack() as ends:
        service = setting.service("commands", setting.form("local"), ends)
        service.drop(write_files(base / "some", 20, 100))
        config = ["--config", str(service.program.config)]
        commands = {
            "status": ["status", "--json", *config],
            "explain": ["explain", *config, str(service.run / "some" / "0.bin")],
            "--help": ["--help"],
        }
        for name, words in commands.items():
            call = [sys.executable, "-m", "artifactd", *words]
            calls = {
                OURS: partial(_started, [sys.executable, "-m", "artifactd", *words]),
                _BARE: partial(_started, [sys.executable, "-c", "pass"]),
            }
            sides = interleaved(setting.scale.command_rounds, calls)
            note = f"imports {', '.join(_imported(call)) or 'neither MLflow nor pandas nor numpy'}"
            yield Row(
                "commands", f"artifactd {name}", "ms", sides, [Goal("beyond", 250, _BARE)], limit=_BARE, note=note
            )


def _started(call: list[str], _round: int) -> float:
    """Milliseconds."""
    return 1000 * timed(call, **environment())


def _imported(call: list[str]) -> list[str]:
    """Which of the heavy packages a command imports."""
    traced = [call[0], "-X", "importtime", *call[1:]]
    told = subprocess.run(traced, check=True, capture_output=True, text=True, env=environment()).stderr
    return [name for name in _HEAVY if re.search(rf"(?m)\| +{name}$", told)]
