"""The manual page: it says what the commands' own help says, and roff reads it as it is meant."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import typer

from artifactd import __version__
from artifactd.cli import app
from manpage import page, roff

GROUP: Any = typer.main.get_command(app)
PAGE = page(GROUP, 0.0)


def test_every_command_and_option_is_in_it() -> None:
    assert PAGE.startswith(f'.TH ARTIFACTD 1 "1970-01-01" "artifactd {__version__}"')
    with GROUP.make_context("artifactd", ["status"], resilient_parsing=True) as ctx:
        for name in GROUP.list_commands(ctx):
            _, command, _ = GROUP.resolve_command(ctx, [name])
            (found,) = re.findall(rf"(?ms)^\.SS artifactd {re.escape(roff(name))} .*?(?=^\.S)", PAGE)
            for parameter in command.params:
                assert all(roff(flag) in found for flag in parameter.opts if flag.startswith("-"))
            assert roff(command.epilog) in found


def test_nothing_of_the_terminals_markup_is_left() -> None:
    assert re.findall(r"\[/?(?:bold|dim)?\](?!\.)", PAGE) == []
    assert re.findall(r"(?m)^\.B .*[<>].*$", PAGE) == [], "types of Python's"


@pytest.mark.parametrize(
    ("text", "as_roff"),
    [
        (".done ends it", r"\&.done ends it"),
        ("--all", r"\-\-all"),
        ("a\\b [bold]c[/]", r"a\eb c"),
        ("'x' `y`", r"\(aqx\(aq \(gay\(ga"),
    ],
)
def test_text_stands_for_itself(text: str, as_roff: str) -> None:
    assert roff(text) == as_roff


def test_the_reader_finds_nothing_wrong_with_it() -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed (Debian: apt-get install groff-base): the page was not read")
    done = subprocess.run(
        [groff, "-Kutf8", "-man", "-Tutf8", "-wall"], input=PAGE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "artifactd sync" in done.stdout
