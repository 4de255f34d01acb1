"""The front door: cheap to import, and the same words as the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import artifactd
from artifactd.errors import ArtifactdError, FailedError
from cli_support import Book, call, own_environment
from support import as_somebody, environment, reachable_folder


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with own_environment(tmp_path):
        made = Book(tmp_path, settle=0.0)
        (tmp_path / "config.toml").write_text(f'state_dir = "{made.state}"\n[[watch]]\npath = "{made.drop}"\n')
        yield made
        made.close()


def test_the_import_is_cheap_and_names_are_there() -> None:
    does = (
        "import sys, artifactd; bad = {'mlflow', 'pandas', 'typer', 'pydantic', 'sqlite3'} & sys.modules.keys();"
        "assert not bad, bad; artifactd.sync, artifactd.status, artifactd.wait, artifactd.run_for;"
        "bad = {'mlflow', 'pandas', 'typer'} & sys.modules.keys(); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", does], env=environment(), check=True, timeout=30)
    assert {"sync", "status", "wait", "run_for"} <= set(dir(artifactd))
    with pytest.raises(AttributeError, match="no attribute 'snyc'"):
        artifactd.snyc  # noqa: B018


def test_status_is_that_of_the_command(book: Book, tmp_path: Path) -> None:
    book.write("e/r/a")
    book.look()
    book.deliver()
    book.write("e/r/b")
    book.look()
    book.fail()
    now = artifactd.status(state_dir=book.state)
    said = json.loads(call("status", "--json", "--state-dir", book.state).stdout)
    for name in ("pending", "uploading", "stored", "failed", "ignored", "bytes_sent", "bytes_unique"):
        assert getattr(now, name) == said[name]
    assert [f.path for f in now.failures] == [f["path"] for f in said["failures"]] == [str(book.drop / "e/r/b")]
    assert [(r.run, r.stored, r.failed) for r in now.runs] == [("r", 1, 1)]


def test_waiting_sees_what_the_ledger_has_not_seen_yet(book: Book, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    book.write("e/r/a")
    book.look()
    book.deliver()
    book.write("e/above-the-run-level")
    with book.in_use():
        assert artifactd.wait(book.drop, timeout=0.1, config=config).files == 1
        book.write("e/r/new")
        with pytest.raises(ArtifactdError, match="was not seen yet"):
            artifactd.wait(book.drop / "e/r", timeout=0.1, config=config)
        book.write("e/r/a", b"other content")
        with pytest.raises(ArtifactdError, match="it changed since it was stored"):
            artifactd.wait(book.drop / "e/r", timeout=0.1, config=config)
        book.look()
        book.fail("no such luck")
        with pytest.raises(FailedError, match="no such luck"):
            artifactd.wait(book.drop / "e/r", config=config)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
def test_a_state_folder_that_is_another_users_is_said_in_words() -> None:
    """As a system service's is for the user of a notebook: no error of Python's own, and what to do."""
    with reachable_folder() as top:
        config, drop = top / "config.toml", top / "drop" / "e" / "r"
        config.write_text(f'state_dir = "{top}/state"\n[[watch]]\npath = "{top}/drop"\n')
        drop.mkdir(parents=True)
        (top / "state").mkdir(mode=0o700)
        with as_somebody():
            for ask in (artifactd.sync, artifactd.wait, artifactd.run_for):
                with pytest.raises(ArtifactdError, match=r"state belongs to root, and this is \w+") as told:
                    ask(drop, config=config)
                assert told.value.cure == "Run it as root"
            with pytest.raises(ArtifactdError, match="state belongs to root"):
                artifactd.status(config=config)
