"""Somebody who reads docs/tutorial.md and does what stands there, block by block, and compares what is printed.

Nothing but the standard library: where the Debian package is tried, there is no environment of the tests.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCKS: list[tuple[str, str]] = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
"""Language and text, in the order of the page."""

_LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_SECOND_TERMINAL = ("artifactd run", "artifactd ui")
_ANSWERS_WITHIN = 60.0


def name_of(text: str) -> str:
    """The file that a block is to be saved as, by its first line; "" for one that is none."""
    named = re.match(r"# ([\w.]+)\n", text)
    return named[1] if named is not None else ""


class Reader:
    """Somebody with two terminals.

    Where a step goes to, and what it exports, is there for the next. In the second terminal a program runs until the
    next one begins.

    Args:
        said: A file for what the second terminal prints.
        environ: What both terminals start with. HOME in it is where they begin.
        within: What runs a shell elsewhere, in another root or as another user; nothing: here, as whoever calls.
    """

    def __init__(self, said: Path, environ: Mapping[str, str], within: Sequence[str] = ()) -> None:
        self._said = said
        self._environ = environ
        self._within = within
        self._second: subprocess.Popen[bytes] | None = None

    def save(self, text: str) -> None:
        """Save a block as the file that its first line names."""
        self._do(f"cat >{name_of(text)}", text)

    def type(self, block: str) -> None:
        """Do what a block without prompts says, as one that is pasted: its first error ends it."""
        self._do(f"set -e\n{block}\nset +e", timeout=600)

    def ask(self, command: str) -> str:
        """What a command prints that the page names within its prose."""
        return self._do(command)

    def follow(self, block: str) -> None:
        """Do what stands behind each prompt, and compare what it prints."""
        for step in re.split(r"(?m)^\$ ", block)[1:]:
            command, _, wanted = step.partition("\n")
            said = self._begin(command) if command.startswith(_SECOND_TERMINAL) else self._do(command)
            alike = doctest.OutputChecker().check_output(wanted, said, _LIKE)
            assert alike, f"$ {command}\n{said}\ninstead of\n{wanted}"

    def _do(self, command: str, given: str = "", timeout: float = _ANSWERS_WITHIN) -> str:
        kept = """{ export -p; echo 'cd "$PWD"'; } >~/.left"""
        done = subprocess.run(
            self._shell(f"{command}\nended=$?; {kept}; exit $ended"), env=dict(self._environ), input=given,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _begin(self, command: str) -> str:
        self.end()
        with self._said.open("wb") as said:
            self._second = subprocess.Popen(
                self._shell(f"exec {command}"), env=dict(self._environ), stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        if "ui" not in command:
            return ""
        return self._answer()

    def _answer(self) -> str:
        """What the UI says when it is there: it goes on until Ctrl-C."""
        end = time.monotonic() + _ANSWERS_WITHIN
        while "Ctrl-C" not in (said := self._said.read_text()):
            assert time.monotonic() < end, f"MLflow's UI does not answer: {said}"
            time.sleep(0.1)
        return said

    def _shell(self, script: str) -> list[str]:
        return [*self._within, "bash", "-c", f"cd; touch ~/.left; . ~/.left; {script}"]

    def end(self) -> None:
        """Press Ctrl-C in the second terminal."""
        if self._second is not None:
            os.killpg(self._second.pid, signal.SIGINT)
            assert self._second.wait(30) in (0, 130), self._said.read_text()
            self._second = None
