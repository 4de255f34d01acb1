"""``artifactd status --watch``: a screen that follows, keys, and a terminal that is left as it was found."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import ledger_rows
from artifactd.cli import tables, watch
from artifactd.cli.watch import Choice, Rates, Screen
from artifactd.errors import Kind
from artifactd.ledger import Blockage, State, Wanted
from artifactd.ledger.rows import CLASH
from artifactd.standing import read
from artifactd.watching.signature import Signature
from cli_support import Book, own_environment
from support import environment, wait_for

INTO, OUT_OF = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with own_environment(tmp_path):
        book = Book(tmp_path)
        yield book
        book.close()


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, book: Book, *, columns: int = 100, lines: int = 30, term: str = "xterm-256color") -> None:
        self.ours, self.theirs = pty.openpty()
        self.size(columns, lines)
        self.before = termios.tcgetattr(self.theirs)
        env = environment(TERM=term)
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            env.pop(name, None)
        command = [sys.executable, "-m", "artifactd", "status", "--watch", "--state-dir", str(book.state)]
        self.process = subprocess.Popen(command, env=env, stdin=self.theirs, stdout=self.theirs, stderr=self.theirs)
        self.said = b""
        self.before_that = ""

    def size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """What was shown before is forgotten."""
        self.before_that = self.read()[-3000:]
        self.said = b""
        os.write(self.ours, keys.encode())

    def read(self) -> str:
        while select.select([self.ours], [], [], 0)[0]:
            self.said += os.read(self.ours, 65536)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.said.decode(errors="replace"))

    def shows(self, text: str) -> None:
        try:
            wait_for(lambda: text in self.read(), f"{text!r} is shown", 20)
        except AssertionError as exc:
            raise AssertionError(
                f"{exc}; ended: {self.process.poll()}; there is:\n{self.before_that}{self.read()}"
            ) from None

    def ended(self) -> int:
        wait_for(lambda: (self.read(), self.process.poll() is not None)[1], "it ends", 10)
        return self.process.wait()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(book: Book) -> Iterator[Any]:
    made: list[Terminal] = []

    def start(**more: Any) -> Terminal:
        made.append(Terminal(book, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_it_follows_takes_keys_and_leaves_the_terminal_as_it_was(book: Book, terminal: Any) -> None:
    book.write("vision/run-1/a")
    book.look()
    book.deliver()
    book.write("vision/run-2/unreadable")
    book.look()
    book.fail("the service's user may not read it")
    shown = terminal()
    shown.shows("vision/run-1")
    shown.shows("may not read it")
    shown.shows("AD301")
    assert INTO in shown.said
    book.write("vision/run-3/b", b"x" * 5000)
    book.look()
    book.deliver()
    shown.shows("vision/run-3")
    shown.shows("files/s")
    shown.press("/run-2\r")
    shown.shows('with "run-2"')
    shown.press("\x1b")
    shown.shows("vision/run-3")
    shown.press("f")
    shown.shows("not all stored")
    shown.press("\t")
    shown.shows("artifactd retry")
    shown.press("")
    shown.size(60, 12)
    shown.process.send_signal(signal.SIGWINCH)
    shown.shows("Failures")
    shown.press("q")
    assert shown.ended() == 0
    assert OUT_OF in shown.said
    assert b"\x1b[?25h" in shown.said
    assert termios.tcgetattr(shown.theirs) == shown.before


def test_ctrl_c_leaves_the_terminal_as_it_was(terminal: Any) -> None:
    shown = terminal()
    shown.shows("waiting")
    shown.process.send_signal(signal.SIGINT)
    assert shown.ended() == 130
    assert OUT_OF in shown.said
    assert "Traceback" not in shown.read()
    assert termios.tcgetattr(shown.theirs) == shown.before


def test_ctrl_z_gives_the_terminal_back_for_a_while(terminal: Any) -> None:
    shown = terminal()
    shown.shows("waiting")
    shown.press("")
    shown.process.send_signal(signal.SIGTSTP)
    state = Path(f"/proc/{shown.process.pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it has stopped", 10)
    shown.read()
    assert OUT_OF in shown.said
    assert termios.tcgetattr(shown.theirs) == shown.before
    shown.press("")
    shown.process.send_signal(signal.SIGCONT)
    shown.shows("waiting")
    assert INTO in shown.said
    shown.press("q")
    assert shown.ended() == 0
    assert termios.tcgetattr(shown.theirs) == shown.before


def test_where_a_terminal_can_show_no_screen_there_are_lines(book: Book, terminal: Any) -> None:
    shown = terminal(term="dumb")
    shown.shows("0 waiting")
    book.write("e/r/a")
    book.look()
    shown.shows("1 waiting")
    assert b"\x1b" not in shown.said
    shown.process.send_signal(signal.SIGTERM)
    assert shown.ended() == 143


def text_of(
    book: Book, choice: Choice, *, columns: int = 100, lines: int = 30, rates: tuple[float, float] = (1.5, 2048.0)
) -> list[str]:
    with book.report() as report:
        now = read(report, book.state)
    console = Console(width=columns, height=lines, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(Screen(now, book.state, choice, rates, True), end="")
    return console.export_text().split("\n")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50), (40, 8), (20, 3), (100, 10)])
def test_it_fits_whatever_there_is_to_show(columns: int, lines: int, book: Book) -> None:
    ledger_rows.fill(book.state, book.drop, files=300, runs=60, failed=40)
    book.write("日本語の実験/とても長い名前のラン" * 3 + "/x")
    book.look()
    for choice in (Choice(), Choice(failures=True), Choice(typing=True, text="x"), Choice(top=1000), Choice(show=2)):
        shown = text_of(book, choice, columns=columns, lines=lines)
        assert len(shown) <= lines
        from rich.cells import cell_len

        assert max(map(cell_len, shown)) <= columns


def test_the_time_that_is_left_is_told_where_it_can_be_known(book: Book) -> None:
    """A file counts once it is stored: beside one of hours, small ones say nothing of what is left."""
    for number in range(10):
        book.write(f"e/r/{number}", b"x" * 2048)
    book.look()
    assert "1.5 files/s · 2.0 KiB/s · about 10 s left" in "\n".join(text_of(book, Choice()))
    with open(book.write("e/r/huge"), "wb") as file:
        file.truncate(10 * 2**30)
    book.look()
    assert "1.5 files/s · 2.0 KiB/s" in [line.rstrip() for line in text_of(book, Choice())]


def test_what_goes_for_long_is_not_called_nothing(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    nothing = "Nothing was stored in the last seconds"
    assert nothing in [line.rstrip() for line in text_of(book, Choice(), rates=(0.0, 0.0))]
    book.ledger.claim(book.rows()[0], time.time() + 3600, 1, 2**30)
    with book.in_use():
        text = "\n".join(text_of(book, Choice(), rates=(0.0, 0.0)))
    assert f"{nothing}; 1 upload is under way" in text


def test_why_nothing_goes_is_seen_on_a_small_screen(book: Book) -> None:
    """Whose trouble it is stands once, and before the folders: half of the screen is all there is for both."""
    book.write("e/r/a")
    book.look()
    folders = [os.fsencode(book.drop), *(b"/away/%d" % n for n in range(9))]
    for path, root in book.ledger.use_roots(folders).items():
        book.ledger.describe_root(root, "waiting", healthy=path == folders[0], detail="the folder is not there")
    book.hold("http://mlflow.test cannot be reached: Connection refused")
    text = " ".join("\n".join(text_of(book, Choice(), columns=80, lines=24)).split())
    assert "Held back: http://mlflow.test cannot be reached: Connection refused [AD101]; next try in " in text
    refused = Blockage(Kind.PAUSED, "http://mlflow.test answered 401", "Correct them", 2, time.time() + 60)
    book.ledger.block_target("http://mlflow.test", refused)
    text = " ".join("\n".join(text_of(book, Choice(), columns=80, lines=24)).split())
    assert re.search(r"answered 401 \[AD102\]; next try in \S+ s \(.*\), after 2 tries; Correct them ", text)
    book.ledger.block_run(book.rows()[0], Blockage(Kind.PERMANENT, "run 12 is deleted", "Restore it", 1, time.time()))
    text = " ".join("\n".join(text_of(book, Choice(), columns=80, lines=40)).split())
    assert f"Held back: {book.drop}/e/r: run 12 is deleted; Restore it; then `artifactd retry`" in text


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_runs_and_files_can_be_told_apart_on_a_narrow_screen(columns: int, book: Book) -> None:
    """Names that begin alike end apart: the end is what stays of one that is too long."""
    for number in range(3):
        book.write(f"an-experiment-with-a-name/the-run-of-today-{number}/weights-of-epoch-{number}.safetensors")
    book.look()
    book.fail("no")
    text = "\n".join(text_of(book, Choice(), columns=columns, lines=24))
    for number in range(3):
        assert re.search(rf"^…\S*y-{number} ", text, re.MULTILINE), text
    assert re.search(r"^…\S*ors ", text, re.MULTILINE), text
    assert re.search(r"^Run +Status", text, re.MULTILINE), "no column is pressed to nothing"
    assert re.search(r"^Failures +Error +Code", text, re.MULTILINE)


def test_a_name_keeps_its_end() -> None:
    console = Console(width=6, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        for name in ("short", "longer", "lengthy", "実行のラン", ""):
            console.print(tables.Tail(name))
    assert console.export_text().split("\n")[:-1] == ["short", "longer", "…ngthy", "…ラン", ""]


def test_failures_are_read_whole_on_a_narrow_screen(book: Book) -> None:
    path = book.write("experiment/run/with-a-name-of-some-length.safetensors")
    book.look()
    book.fail("the service's user may not read it")
    text = "".join(line.strip() for line in text_of(book, Choice(failures=True), columns=60, lines=24))
    assert str(path) in text
    assert "the service's user may not read it [AD301]" in text
    assert "Give it access; then `artifactd retry`" in text
    assert "No such failure" in "".join(text_of(book, Choice(failures=True, text="elsewhere")))


def test_a_clash_is_not_said_to_be_mended_by_a_retry(book: Book) -> None:
    book.write("e/r/a")
    book.look()
    folder, _ = book.ledger.folder(book.root, b"e/r", create=False) or (0, "")
    taken = ("its artifact path a is taken by b", "Rename one of the two")
    row = Wanted(b"c", State.FAILED, Signature(1, 1, 1, 1), book.rows()[0], "", "a", 7, None, CLASH, *taken)
    book.ledger.want(folder, [row])
    for choice in (Choice(), Choice(failures=True)):
        text = "\n".join(text_of(book, choice))
        assert "is taken by b" in text
        assert "artifactd retry" not in text


def test_runs_are_sorted_filtered_and_scrolled(book: Book) -> None:
    ledger_rows.fill(book.state, book.drop, files=120, runs=60, failed=2, waiting=3)

    def names(choice: Choice) -> list[str]:
        return re.findall(r"many/(run-\d+)", "\n".join(text_of(book, choice)))

    assert names(Choice())[:5] == [f"run-{n:05}" for n in (4, 3, 2, 1, 0)]
    assert names(Choice(sort=1))[0] == "run-00059"
    assert names(Choice(sort=2, top=7))[0] == "run-00007"
    assert names(Choice(show=2))[:2] == ["run-00001", "run-00000"]
    assert names(Choice(text="RUN-00033"))[0] == "run-00033"


def test_keys_lead_from_choice_to_choice() -> None:
    choice: Choice | None = Choice()
    for key in ["s", "f", "/", "a", "q", "back", "enter", "down", "page down", "up", "tab", "x"]:
        assert choice is not None
        choice = choice.after(key)
    assert choice == Choice(sort=1, show=1, text="a", failures=True, top=0)
    assert Choice(top=3).after("up") == Choice(top=2)
    assert Choice(text="a", typing=True).after("escape") == Choice()
    assert Choice(typing=True).after("q") == Choice(typing=True, text="q")
    assert Choice().after("q") is None
    for _ in range(len(watch.SORTS)):
        assert choice is not None
        choice = choice.after("s")
    assert choice is not None
    assert choice.sort == 1


def test_rates_are_those_of_the_last_seconds() -> None:
    rates = Rates()
    assert rates.now() == (0.0, 0.0)
    for second in range(100):
        rates.add(float(second), 2 * second, 100 * second)
    assert list(rates.now()) == pytest.approx([2, 100])
    for second in range(100, 120):
        rates.add(float(second), 150, 9900)  # files were forgotten
    assert rates.now() == (0.0, 0.0)


def test_a_screen_is_imported_for_watching_alone() -> None:
    code = "import sys, artifactd.cli.status; print([m for m in ('rich.live', 'tty') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
