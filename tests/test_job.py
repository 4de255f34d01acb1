"""A command run as a part of another one: its code, its words, its input."""

from __future__ import annotations

import os
import pty
import sys
import time
from pathlib import Path

import pytest

from artifactd import job

PYTHON = sys.executable


@pytest.mark.parametrize(("does", "code"), [("pass", 0), ("exit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_the_code_is_the_commands(does: str, code: int) -> None:
    assert job.run([PYTHON, "-c", does], os.environ) == code


def test_what_cannot_be_started_is_an_error_and_leaves_no_signal_blocked(tmp_path: Path) -> None:
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(FileNotFoundError):
        job.run([str(tmp_path / "none")], os.environ)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_the_command_has_the_environment_it_is_given_and_no_signal_blocked() -> None:
    does = "import os, signal; exit(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())) or os.environ['X'] != 'y')"
    assert job.run([PYTHON, "-c", does], {"X": "y"}) == 0


def test_kept_words_are_appended_and_passed_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stdout.log").write_text("before\n")
    does = "import sys; print('x' * 200000); print('err', file=sys.stderr)"
    assert job.run([PYTHON, "-c", does], os.environ, capture=tmp_path) == 0
    assert (tmp_path / "stdout.log").read_text() == "before\n" + "x" * 200000 + "\n"
    assert (tmp_path / "stderr.log").read_text() == "err\n"
    assert capfd.readouterr() == ("x" * 200000 + "\n", "err\n")


def test_a_background_process_that_keeps_the_pipe_does_not_keep_us(tmp_path: Path) -> None:
    does = "import subprocess, sys; open(sys.argv[1], 'w').write(str(subprocess.Popen(['sleep', '30']).pid))"
    begun = time.monotonic()
    assert job.run([PYTHON, "-c", does, str(tmp_path / "pid")], os.environ, capture=tmp_path) == 0
    took = time.monotonic() - begun
    os.kill(int((tmp_path / "pid").read_text()), 9)
    assert took < 15


def test_ctrl_c_reaches_the_command_once(tmp_path: Path) -> None:
    counts = (
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 20\n"
        "while not seen and time.monotonic() < end: time.sleep(0.01)\n"
        "settled = time.monotonic() + 0.5\n"
        "while time.monotonic() < settled: time.sleep(0.05)\n"
        "sys.exit(len(seen))\n"
    )
    ours = "import os, sys; from artifactd import job; exit(40 + job.run([sys.executable, *sys.argv[1:]], os.environ))"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(PYTHON, [PYTHON, "-c", ours, "-c", counts])  # noqa: S606 (a list, as everywhere)
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 41
