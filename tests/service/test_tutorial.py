"""docs/tutorial.md, as a reader follows it: each block in its order, in an empty folder, from the first to the last."""

from __future__ import annotations

import doctest
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import environment, wait_for

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SECOND_TERMINAL = ("artifactd run", "artifactd ui")


class Reader:
    """Somebody with two terminals, in the folder that the page names.

    In the first one, what a step exports is there for the next. In the second one a program runs until the next begins.
    """

    def __init__(self, home: Path) -> None:
        self.here = home / "artifactd-tutorial"
        self.here.mkdir()
        self._exported = home / "exported"
        self._said = home / "second"
        self._second: subprocess.Popen[bytes] | None = None
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environ = environment(HOME=str(home), PATH=path, COLUMNS="160")
        self._exported.touch()

    def follow(self, block: str) -> None:
        """Do what stands behind each prompt, and compare what it prints."""
        for step in re.split(r"(?m)^\$ ", block)[1:]:
            command, _, wanted = step.partition("\n")
            said = self._begin(command) if command.startswith(SECOND_TERMINAL) else self._do(command)
            alike = doctest.OutputChecker().check_output(wanted, said, LIKE)
            assert alike, f"$ {command}\n{said}\ninstead of\n{wanted}"

    def _do(self, command: str) -> str:
        script = f'. "{self._exported}"; {command}\nended=$?; export -p > "{self._exported}"; exit $ended'
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.here, env=self._environ, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _begin(self, command: str) -> str:
        self.end()
        with self._said.open("wb") as said:
            self._second = subprocess.Popen(
                ["bash", "-c", f'. "{self._exported}"; exec {command}'], cwd=self.here, env=self._environ, stdout=said,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        if "ui" not in command:
            return ""
        wait_for(lambda: "Ctrl-C" in self._said.read_text(), "MLflow's UI answers", 60)
        return self._said.read_text()

    def end(self) -> None:
        """Press Ctrl-C in the second terminal."""
        if self._second is not None:
            os.killpg(self._second.pid, signal.SIGINT)
            assert self._second.wait(30) in (0, 130), self._said.read_text()
            self._second = None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.end()


def followed(reader: Reader, *, ui: bool) -> None:
    for language, text in BLOCKS:
        named = re.match(r"# ([\w.]+)\n", text)
        if named is not None:
            (reader.here / named[1]).write_text(text, encoding="utf-8")
        elif language == "console" and (ui or "$ artifactd ui" not in text):
            reader.follow(text)
    assert (reader.here / "back" / "plots" / "loss.svg").exists()


def test_the_tutorial(reader: Reader) -> None:
    """One test: each step stands on those before it. MLflow's UI takes as long as half of them: the next one has it."""
    followed(reader, ui=False)


@pytest.mark.wide
def test_the_tutorial_with_its_look_at_the_ui(reader: Reader) -> None:
    followed(reader, ui=True)


def test_all_but_the_installation_is_run() -> None:
    others = [language for language, text in BLOCKS if language != "console" and not re.match(r"# [\w.]+\n", text)]
    assert others == ["sh"]
