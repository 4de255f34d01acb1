"""Numbers, times and paths as people read them."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

from artifactd.cli import tables


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1_048_575, "1.0 MiB"),
        (5 * 2**40, "5.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert tables.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (0.42, "0.4 s"), (42, "42 s"), (720, "12 min"), (3600 * 5, "5 h"), (86400 * 3, "3 d")],
)
def test_span(seconds: float, text: str) -> None:
    assert tables.span(seconds) == text


def test_number() -> None:
    assert tables.number(1, "file") == "1 file"
    assert tables.number(1200, "file") == "1,200 files"
    assert tables.number(2, "try", "tries") == "2 tries"


def test_moments() -> None:
    assert tables.until(time.time() - 1) == "now"
    assert tables.until(time.time() + 30).startswith(("in 30 s (", "in 29 s ("))
    assert len(tables.clock(0.0)) == len("1970-01-01 00:00:00"), "another day is named"
    assert tables.iso(0.0) == "1970-01-01T00:00:00Z"
    assert tables.iso(None) is None


def test_paths_cannot_steer_a_terminal() -> None:
    assert tables.path(b"/a/\x1b[2J\xff\n") == "/a/\\x1b[2J\\xff\\x0a"
    assert tables.short(b"/a/b", b"/a") == "b"
    assert tables.short(b"/ab", b"/a") == "/ab"


def test_a_narrow_table_breaks_text_and_never_numbers() -> None:
    table = tables.table("Size", "File", right=("Size",), fold=("File",))
    table.add_row("123,456", "a" * 60)
    console = Console(width=40, file=None, record=True, quiet=False)
    with console.capture() as capture:
        console.print(table)
    text = capture.get()
    assert "123,456" in text
    assert text.replace("\n", "").replace(" ", "").count("a") == 60
