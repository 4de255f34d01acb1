"""Which runs a run id or a folder stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.errors import ArtifactdError
from artifactd.wayback.find import Found, find_runs
from cli_support import RUN_ID, Book

TARGET = "http://mlflow.test"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """Two runs of an experiment, one of another, all stored."""
    book = Book(tmp_path, target=TARGET)
    for n, rel in enumerate(("vision/one/a", "vision/two/sub/b", "text/one/c")):
        book.write(rel)
        book.look()
        book.deliver(f"{n:032x}")
    yield book
    book.close()


def find(book: Book, what: Path | str | None, target: str = TARGET) -> list[Found]:
    with book.report() as report:
        return find_runs(report, None if what is None else os.fsencode(what), target)


def files(book: Book, run: Found) -> list[str | None]:
    with book.report() as report:
        return [file.artifact_path for file in run.files(report)]


def test_a_run_folder(book: Book) -> None:
    (run,) = find(book, book.drop / "vision" / "one")
    assert (run.run_id, run.title, run.place, run.only) == (f"{0:032x}", "vision/one", b"", None)
    assert files(book, run) == ["a"]


def test_a_folder_above_stands_for_all_its_runs(book: Book) -> None:
    runs = find(book, book.drop)
    assert [r.title for r in runs] == ["vision/one", "vision/two", "text/one"]
    assert [r.place for r in runs] == [b"vision/one", b"vision/two", b"text/one"]
    assert [r.title for r in find(book, book.drop / "vision")] == ["vision/one", "vision/two"]
    assert [r.title for r in find(book, None)] == ["vision/one", "vision/two", "text/one"]


def test_a_folder_inside_confines_the_question(book: Book) -> None:
    book.write("vision/two/top")
    book.look()
    book.deliver(f"{1:032x}")
    (run,) = find(book, book.drop / "vision" / "two" / "sub")
    assert files(book, run) == ["sub/b"]


def test_a_run_id(book: Book) -> None:
    (run,) = find(book, f"{2:032x}")
    assert (run.title, files(book, run)) == ("text/one", ["c"])


def test_the_id_of_a_foreign_run(book: Book) -> None:
    assert find(book, RUN_ID) == [Found(RUN_ID)]
    assert find_runs(None, RUN_ID.encode(), TARGET) == [Found(RUN_ID)]


def test_two_folders_of_one_run_are_asked_for_once(tmp_path: Path) -> None:
    book = Book(tmp_path, target=TARGET)
    for rel in ("e/one/a", "e/two/b"):
        book.write(rel)
    book.look()
    book.deliver(RUN_ID)
    (run,) = find(book, book.drop)
    assert sorted(map(str, files(book, run))) == ["a", "b"]
    book.close()


def test_a_folder_without_runs(book: Book, tmp_path: Path) -> None:
    with pytest.raises(ArtifactdError, match=f"no run is known for {tmp_path}/other"):
        find(book, tmp_path / "other")
    with pytest.raises(ArtifactdError) as refused:
        find(book, RUN_ID[:8])
    assert "32 hex digits: give it whole" in refused.value.cure
    with pytest.raises(ArtifactdError, match="no run"):
        find_runs(None, None, TARGET)


def test_runs_of_another_server(book: Book) -> None:
    with pytest.raises(ArtifactdError, match=r"http://mlflow\.test, and the configuration names http://other"):
        find(book, book.drop, "http://other")
