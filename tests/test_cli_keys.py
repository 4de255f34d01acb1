"""Keys by their names. How a terminal is taken and given back: test_cli_watch.py, on a real one."""

from __future__ import annotations

import os

import pytest

from artifactd.cli.keys import Keyboard, named


def test_keys_are_told_by_name() -> None:
    data = "q/é日".encode() + b"\x1b[A\x1b[6~\x1bOB\r\x7f\t\x1b \x01\xff"
    assert named(data) == ["q", "/", "é", "日", "up", "page down", "down", "enter", "back", "tab", "escape", " "]


def test_without_a_terminal_no_key_is_ever_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        for given in (nothing, None):
            monkeypatch.setattr("sys.stdin", given)
            with Keyboard() as keyboard:
                assert not keyboard.there
                assert list(keyboard.pressed(0.01)) == []
