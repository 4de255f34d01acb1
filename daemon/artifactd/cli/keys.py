"""Keys of a terminal, read one by one while a screen is shown; the terminal is left as it was found."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Any

_NAMES = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"\x1b[5~": "page up",
    b"\x1b[6~": "page down", b"\x1b[H": "home", b"\x1b[F": "end", b"\x1b": "escape", b"\t": "tab", b"\r": "enter",
    b"\n": "enter", b"\x7f": "back", b"\x08": "back", b" ": " ",
}  # fmt: skip
_KEY = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\xc0-\xff][\x80-\xbf]+|[\x00-\x7f]", re.DOTALL)


def named(data: bytes) -> list[str]:
    """Keys by name, and what is written by its character; what is neither is left out."""
    found = []
    for key in _KEY.findall(data):
        text = _NAMES.get(key) or key.decode(errors="ignore")
        if text and (key in _NAMES or text.isprintable()):
            found.append(text)
    return found


class Keyboard:
    """The terminal that standard input is; use as a context. Without one, no key is ever pressed.

    Attributes:
        there: There is one.
        left: Asked to be stopped (Ctrl-Z) since this was last set to False.
    """

    def __init__(self) -> None:
        self.there = sys.stdin is not None and sys.stdin.isatty()
        self.left = False
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._wakes, self._wake = -1, -1

    def __enter__(self) -> Keyboard:
        self._wakes, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # A signal that has a handler ends the wait: another size of the window is drawn at once.
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda _number, _frame: None)
        if self.there:
            self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, self._on_stop)
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wakes)
        os.close(self._wake)

    def take(self) -> None:
        """Have keys as they are pressed, and not shown."""
        if self.there:
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSADRAIN)

    def give_back(self) -> None:
        """Leave the terminal as it was found."""
        if self._before is not None:
            # What was typed meanwhile is not for the shell.
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, self._before)
            self._before = None

    def pressed(self, seconds: float) -> Iterator[str]:
        """The keys pressed within so many seconds; ends earlier with a key, or where something is to be drawn."""
        ready, _, _ = select.select([self._wakes, *([sys.stdin] if self.there else [])], [], [], seconds)
        if self._wakes in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakes, 1024)
        if sys.stdin in ready:
            try:
                data = os.read(sys.stdin.fileno(), 1024)
            except OSError:
                data = b""
            if not data:  # the terminal is gone
                self.there = False
            yield from named(data)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.left = True
