"""Artifacts come back byte for byte, under their own names, and nowhere but below the destination."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.errors import ArtifactdError
from artifactd.wayback.fetch import Moved
from artifactd.wayback.find import find_runs
from artifactd.wayback.pull import Pulled, pull, select
from artifactd.wayback.shelf import Entry, Shelf
from cli_support import Book, own_environment
from conftest import MlflowServer
from support import tree

pytestmark = pytest.mark.live

NAMES = {
    b"plain.txt": b"plain",
    b"deep/er/model.pt": os.urandom(300_000),
    b"loss#1.png": b"one",
    b"loss#2.png": b"two",
    b"100%\n.txt": b"odd",
    b"\xff\xfe": b"no text",
    b"empty": b"",
    "número é.txt".encode(): b"accents",
}


@pytest.fixture
def book(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[Book]:
    """A run folder with names of all kinds, stored on a real server."""
    with own_environment(tmp_path):
        book = Book(tmp_path, target=mlflow_server.uri)
        folder = os.fsencode(book.drop) + b"/pull/" + os.fsencode(tmp_path.name)
        for name, content in NAMES.items():
            os.makedirs(os.path.dirname(folder + b"/" + name), exist_ok=True)
            with open(folder + b"/" + name, "wb") as stream:
                stream.write(content)
        book.look()
        book.send(mlflow_server.uri)
        yield book
        book.close()


@pytest.fixture
def shelf(book: Book) -> Shelf:
    return Shelf(book.target, None)


def entries(book: Book, shelf: Shelf, *, known: bool = True) -> list[Entry]:
    with book.report() as report:
        (run,) = find_runs(report, os.fsencode(book.drop), book.target)
        (run,) = find_runs(report, run.run_id.encode(), book.target)
        return shelf.entries(run, report if known else None)


def bring(book: Book, shelf: Shelf, dest: Path, *, force: bool = False, known: bool = True) -> Pulled:
    return pull(entries(book, shelf, known=known), dest, force=force)


def reasons(pulled: Pulled) -> dict[str, str]:
    return {problem.artifact_path: problem.reason for problem in pulled.problems}


def test_everything_comes_back_and_nothing_comes_twice(book: Book, shelf: Shelf, tmp_path: Path) -> None:
    dest = tmp_path / "new" / "back"
    seen: list[tuple[int, int, int, int]] = []

    def show(moved: Moved) -> None:
        seen.append((moved.files, moved.of_files, moved.bytes, moved.of_bytes))

    total = sum(map(len, NAMES.values()))
    done = pull(entries(book, shelf), dest, force=False, show=show)
    assert (done.files, done.bytes, done.equal, done.problems) == (len(NAMES), total, 0, [])
    assert tree(dest) == NAMES, "and no temporary file stays"
    assert seen[-1] == (len(NAMES), len(NAMES), total, total)
    again = bring(book, shelf, dest)
    assert (again.files, again.equal) == (0, len(NAMES))
    foreign = bring(book, shelf, dest, known=False)
    assert (foreign.files, foreign.equal) == (0, len(NAMES)), "also what only the store knows"


@pytest.mark.parametrize("known", [True, False], ids=["known", "foreign"])
def test_another_content_is_replaced_by_force_alone(book: Book, shelf: Shelf, tmp_path: Path, known: bool) -> None:
    dest = tmp_path / "back"
    dest.mkdir()
    (dest / "plain.txt").write_bytes(b"mine, keep it")
    (dest / "empty").symlink_to("/etc/passwd")
    refused = bring(book, shelf, dest, known=known)
    assert reasons(refused) == {
        "plain.txt": "another content stands at plain.txt",
        "empty": "another content stands at empty",
    }
    assert (dest / "plain.txt").read_bytes() == b"mine, keep it"
    forced = bring(book, shelf, dest, force=True, known=known)
    assert (forced.files, forced.problems) == (2, [])
    assert tree(dest) == NAMES


def test_it_never_leaves_the_destination(book: Book, shelf: Shelf, tmp_path: Path) -> None:
    """Names that lead out when they are decoded, and a link in the destination."""
    run_id = entries(book, shelf)[0].run.run_id
    (tmp_path / "evil").write_bytes(b"evil")
    client = shelf._client
    client.log_artifact(run_id, str(tmp_path / "evil"), "_x2E__x2E_")
    client.log_artifact(run_id, str(tmp_path / "evil"), "_x2F_tmp")
    dest = tmp_path / "out" / "back"
    dest.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (dest / "deep").symlink_to(tmp_path / "elsewhere")
    said = reasons(bring(book, shelf, dest, force=True))
    assert set(said) == {"_x2E__x2E_/evil", "_x2F_tmp/evil", "deep/er/model.pt"}
    assert "leads out of the destination" in said["_x2E__x2E_/evil"]
    assert "symbolic link" in said["deep/er/model.pt"]
    assert tree(tmp_path / "elsewhere") == {}
    assert {path for path in tree(tmp_path / "out") if not path.startswith(b"back/")} == set()
    assert not os.path.exists("/tmp/evil")


def test_what_is_not_what_was_stored_is_refused(book: Book, shelf: Shelf, tmp_path: Path) -> None:
    listed = entries(book, shelf)
    run_id = listed[0].run.run_id
    (tmp_path / "plain.txt").write_bytes(b"PLAIN")
    shelf._client.log_artifact(run_id, str(tmp_path / "plain.txt"))
    (tmp_path / "loss_x23_1.png").write_bytes(b"longer")
    done = pull(listed, tmp_path / "back", force=True)
    assert reasons(done) == {"plain.txt": "the store holds another content than was stored there"}
    shelf._client.log_artifact(run_id, str(tmp_path / "loss_x23_1.png"))
    again = pull(listed, tmp_path / "back-2", force=True)
    assert reasons(again)["loss_x23_1.png"] == "it came with 6 bytes, and the store lists it with 3"


def test_a_part_is_chosen_by_either_name(book: Book, shelf: Shelf) -> None:
    listed = entries(book, shelf)

    def chosen(wanted: str) -> list[str]:
        return [entry.artifact_path for entry in select(listed, wanted)]

    assert chosen("deep") == chosen("deep/") == chosen("deep/er/model.pt") == ["deep/er/model.pt"]
    assert chosen("loss#1.png") == chosen("loss_x23_1.png") == ["loss_x23_1.png"]
    with pytest.raises(ArtifactdError, match="no artifact dee "):
        chosen("dee")
