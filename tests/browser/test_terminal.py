"""The screen of ``artifactd status --watch`` while a real service works, as a picture for the documentation."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from artifactd.cli.watch import Choice, Rates, Screen
from artifactd.ledger import Report, State
from artifactd.standing import Standing, read
from support import Program, wait_for

pytestmark = pytest.mark.browser

COLUMNS, LINES = 110, 17
LINE = "2MB"
"""A second: slow enough that there is something to see."""

FONT = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'


def test_a_picture_of_the_screen(tmp_path: Path, opened: Callable[..., Any], pictures: Path | None) -> None:
    program = Program(tmp_path, more=f'[upload]\nbandwidth_limit = "{LINE}"\nworkers = 2\n')
    if os.geteuid() == 0:
        assert shutil.which("setpriv"), "root may read every file, and setpriv is not there to take that away"
        program.wrapper = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    for run, files in {"resnet-50": 6, "resnet-101": 10, "vit-b16": 14}.items():
        written(program.drop / "vision" / run, files)
    written(program.drop / "speech" / "conformer-s", 3)
    (program.drop / "speech" / "conformer-s" / "vocabulary.txt").touch(0o000)
    with program.running():
        wait_for(lambda: b'"event": "ready"' in program.log.read_bytes(), "it is ready")
        with contextlib.closing(Report(program.state)) as report:
            svg = drawn(halfway(report, program.state))
    shown = tmp_path / "picture.svg"
    shown.write_text(svg)
    page = opened(shown.as_uri())
    # What is cut off at the frame's edge nobody reads.
    assert page.evaluate(OUTSIDE) == []
    for said in ("is working", "vision/vit-b16", "RUNNING", "files/s", "vocabulary.txt", "all well", "q quit"):
        assert said in re.sub(r"<[^>]*>", "", svg).replace("&#160;", " ")
    assert str(tmp_path) not in svg
    assert re.findall(r"https?://[^\s\"<]+", svg) == ["http://www.w3.org/2000/svg", "https://www.textualize.io"]
    if pictures is not None:
        (pictures / "status-watch.svg").write_text(svg)


def written(folder: Path, files: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"checkpoint-{number}.pt").write_bytes(os.urandom(1_000_000 + 100_000 * number))


def halfway(report: Report, state: Path) -> Screen:
    """The screen at a moment when some files are stored, some wait, and one cannot be had."""
    rates = Rates()

    def seen() -> Standing | None:
        now = read(report, state)
        rates.add(time.monotonic(), now.count(State.STORED), now.totals.bytes_sent)
        return now if now.count(State.STORED) >= 14 and now.count(State.FAILED) and now.count(State.DUE) else None

    now = wait_for(seen, "half of it is stored", 60, pauses=(1.0,))
    # The state folder is shown where it is for a service of the system, and not where tests have theirs.
    return Screen(now, Path("/var/lib/artifactd"), Choice(), rates.now(), keys=True)


def drawn(screen: Screen) -> str:
    """As an SVG by rich, that asks for no font of another site's."""
    console = Console(
        record=True, force_terminal=True, color_system="truecolor", width=COLUMNS, height=LINES, file=io.StringIO()
    )
    console.print(screen)
    svg = console.export_svg(title="artifactd status --watch", unique_id="artifactd")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", FONT)


OUTSIDE = """() => {
  const frame = document.querySelector("svg > rect").getBoundingClientRect();
  return [...document.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  }).map((text) => text.textContent);
}"""
