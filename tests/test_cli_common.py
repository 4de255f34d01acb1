"""What holds for every command: help, options, exit codes, colours, ends."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd import __version__
from artifactd.cli import _COMMANDS, common, tables
from cli_support import Book, call, own_environment
from support import environment


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    book = Book(tmp_path)
    book.write("e/r/a")
    book.look()
    book.deliver()
    yield book
    book.close()


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_has_help_with_an_example_and_the_common_options(command: str) -> None:
    done = call(command, "--help")
    assert done.exit_code == 0
    assert f"Usage: artifactd {command}" in done.stdout.replace("root", "artifactd")
    assert f"Example: artifactd {command} " in done.stdout
    assert "--state-dir" in done.stdout
    assert "--config" in done.stdout
    assert "bool" not in done.stdout, "flags take no value"


def test_the_commands_help_is_that_of_the_overview() -> None:
    overview = call("--help").stdout
    assert "bool" not in overview
    for command, line in _COMMANDS.items():
        assert command in overview
        assert line[:30] in overview


def test_version_and_completion() -> None:
    assert call("--version").stdout == f"artifactd {__version__}\n"
    assert "--install-completion" in call("--help").stdout
    shown = subprocess.run(
        [sys.executable, "-m", "artifactd"],
        env=environment(_ARTIFACTD_COMPLETE="complete_bash", COMP_WORDS="artifactd st", COMP_CWORD="1"),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert shown.stdout.split() == ["status"]
    shown = subprocess.run(
        [sys.executable, "-m", "artifactd"],
        env=environment(_ARTIFACTD_COMPLETE="complete_bash", COMP_WORDS="artifactd status --w", COMP_CWORD="2"),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert shown.stdout.split() == ["--watch"]


@pytest.mark.parametrize(
    "wrong",
    [["nonsense"], ["--nonsense"], ["status", "--nonsense"], ["explain"], ["ls"], ["pull", "x"], ["status", "extra"]],
)
def test_what_does_not_exist_is_exit_2(wrong: list[str]) -> None:
    done = call(*wrong)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr


def test_every_mistake_of_a_config_is_told_with_exit_2(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[[watch]]\npath = "/data/drop"\nsetle = "1s"\n[upload]\nworkers = "many"\n')
    for command in (
        ["status"],
        ["run"],
        ["sync"],
        ["check"],
        ["explain", "x"],
        ["retry", "--all"],
        ["ls", "x"],
        ["ui"],
    ):
        done = call(*command, "--config", config)
        assert (done.exit_code, done.stdout) == (2, ""), command
        assert "watch[0].setle" in done.stderr
        assert "upload.workers" in done.stderr


_NOT_FOR_READERS = {
    "mlflow", "pandas", "numpy", "asyncio", "ssl", "argparse", "yaml", "structlog", "watchdog", "artifactd.manifest",
    "artifactd.ledger.deliveries", "artifactd.reading.trainer", "artifactd.reading.events", "artifactd.reading.model",
}  # fmt: skip


def test_status_help_and_explain_need_no_mlflow(book: Book) -> None:
    for args in (
        ["--help"],
        ["status", "--state-dir", str(book.state)],
        ["status", "--json", "--state-dir", str(book.state)],
        ["explain", str(book.drop), "--state-dir", str(book.state)],
        ["explain", "--json", str(book.drop), "--state-dir", str(book.state)],
    ):
        code = (
            f"import sys; sys.argv = ['artifactd', *{args!r}]\n"
            "from artifactd.cli import main\n"
            "try: main()\n"
            "except SystemExit as exc: assert not exc.code, exc.code\n"
            f"bad = {_NOT_FOR_READERS!r} & sys.modules.keys()\n"
            f"if {'--json' in args}: bad |= {{'rich'}} & sys.modules.keys()\n"
            "assert not bad, bad\n"
            f"import gc; assert gc.isenabled() or {'--help' in args}\n"
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout


def test_colours_on_a_terminal_alone_and_never_under_no_color(book: Book) -> None:
    command = [sys.executable, "-m", "artifactd", "status", "--state-dir", str(book.state)]
    assert "\x1b[" not in subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    assert "\x1b[" in on_terminal(command, environment(TERM="xterm-256color"))
    assert "\x1b[" not in on_terminal(command, environment(TERM="xterm-256color", NO_COLOR="1"))


def on_terminal(command: list[str], env: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    env.pop("COLUMNS", None)
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # EIO: the terminal's other end is closed
            break
        if not more:
            break
        said += more
    os.close(ours)
    assert process.wait(10) == 0
    return said.decode()


def test_nothing_that_a_server_says_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A window's title, a cleared screen, colours, writing from right to left; and half a character is no error."""
    evil = "\x1b]0;mine\x07 \x1b[2J \x9b31m \u202e \ud800 ok"
    common.say(f"artifactd: {evil}\n  next line")
    common.out().print(tables.details([("error", evil)]))
    said = capsys.readouterr()
    for text in said:
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\ud800"} & set(text)
        assert "\\x1b]0;mine" in text
        assert "\\x1b[2J" in text
        assert " ok" in text
    assert said.err.splitlines()[1] == "  next line"


def test_a_reader_that_goes_away_is_no_trouble(book: Book, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for args in (["status", "--json"], ["status"], ["sync", str(tmp_path / "empty"), "--json"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "artifactd", *args, "--state-dir", str(book.state)],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr as stream:
            errors = stream.read()
        assert (process.wait(20), errors) == (141, b"")
