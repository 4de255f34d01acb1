"""A bar on a terminal, a plain line now and then off it."""

from __future__ import annotations

import pytest

from artifactd.cli import progress
from artifactd.cli.progress import Bar


def test_plain_lines_off_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    with Bar("Delivering") as bar:
        bar.show(0, 2, 0, 4096)
        bar.show(1, 2, 2048, 4096)
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first == "Delivering: 0 of 2 files, 0 B of 4.0 KiB, 0 B/s", "nobody knows yet how long it takes"
    assert second.startswith("Delivering: 1 of 2 files, 2.0 KiB of 4.0 KiB, ")
    assert second.endswith(" left")


def test_now_and_then_and_never_when_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Bar("Delivering") as bar:
        bar.show(0, 2, 0, 4096)
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    with Bar("Delivering", quiet=True) as bar:
        bar.show(1, 2, 2048, 4096)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with Bar("Delivering") as bar:
        bar.show(1, 2, 2048, 4096)
    text = capsys.readouterr().err
    assert "Delivering" in text
    assert "1/2 files, 2.0 KiB/4.0 KiB" in text
