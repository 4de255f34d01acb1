"""``artifactd explain AD301``: the page of a code, without the site and without a ledger."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from artifactd.causes import CAUSES
from artifactd.cli import codes
from cli_support import Book, call, own_environment

PAGES = Path(__file__).parent.parent / "docs" / "errors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_code_prints_its_page_where_nothing_is_set_up() -> None:
    done = call("explain", "AD301")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (PAGES / "AD301.md").read_text()
    two = call("explain", "AD301", "AD801").stdout
    assert two.startswith(done.stdout + "\n# AD801: ")


@pytest.mark.parametrize("code", [cause.code for cause in CAUSES])
def test_each_page_reads_well_without_the_site(code: str) -> None:
    text = codes.page(code).text
    assert text.startswith("## What happened\n")
    assert "](" not in text
    project = PAGES.parent.parent
    assert [path for path in re.findall(r"\(([\w/.-]+\.md)\)", text) if not (project / path).is_file()] == []


def test_it_is_laid_out_on_a_terminal(home: Path) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "artifactd", "explain", "AD303"], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "COLUMNS": "60", "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}, cwd=home,
    ) as process:  # fmt: skip
        assert process.wait(30) == 0
    said = re.sub(r"\x1b\[[0-9;]*m", "", os.read(ours, 65536).decode())
    os.close(ours)
    os.close(theirs)
    assert "AD303: Two files have one destination" in said
    assert "##" not in said, "headings are no marks"
    assert "`" not in said
    assert max(map(len, said.splitlines())) <= 60


def test_as_json_beside_a_path(tmp_path: Path) -> None:
    with own_environment(tmp_path):
        book = Book(tmp_path)
        path = book.write("e/r/a")
        book.look()
        done = call("explain", path, "AD301", "--json", "--state-dir", book.state)
        book.close()
    page, file = json.loads(done.stdout)
    assert (page["type"], page["code"], page["title"]) == ("code", "AD301", "artifactd may not read it")
    assert page["text"].startswith("## What happened")
    assert (file["type"], file["path"]) == ("file", str(path))


def test_a_code_that_there_is_not_is_wrong_usage_and_says_where_all_are() -> None:
    done = call("explain", "AD302", "AD799")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "has no code AD799" in done.stderr
    assert "The nearest is AD801: The configuration is wrong. docs/errors/index.md has all" in done.stderr


@pytest.mark.parametrize("word", ["ad301", "AD30", "AD3011", "[AD301]", "./AD301"])
def test_what_has_not_the_form_of_a_code_is_a_path(word: str) -> None:
    assert not codes.is_code(word)


def test_a_file_of_that_name_is_meant_where_it_is(tmp_path: Path) -> None:
    with own_environment(tmp_path):
        book = Book(tmp_path)
        os.chdir(book.write("e/r/AD301").parent)
        book.look()
        done = call("explain", "AD301", "--state-dir", book.state)
        book.close()
    assert done.stdout.startswith(f"{book.drop}/e/r/AD301: waiting\n"), done.stderr


def test_pages_that_were_lost_are_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_FOLDERS", (tmp_path / "codes",))
    done = call("explain", "AD301")
    assert done.exit_code == 1
    assert f"the page of AD301 is not in {tmp_path}/codes" in done.stderr
    assert "Install artifactd anew" in done.stderr
