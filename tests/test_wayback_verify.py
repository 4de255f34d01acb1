"""What the store lost is found, written down and sent again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.ledger import State
from artifactd.wayback.find import Found, find_runs
from artifactd.wayback.shelf import Shelf
from artifactd.wayback.verify import Verified, verify
from cli_support import Book, own_environment
from conftest import MlflowServer

pytestmark = pytest.mark.live


@pytest.fixture
def book(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[Book]:
    with own_environment(tmp_path):
        book = Book(tmp_path, target=mlflow_server.uri)
        for name in ("gone", "short", "other", "fine", "left"):
            book.write(f"verify/{tmp_path.name}/{name}", name.encode())
        book.look()
        book.send(mlflow_server.uri)
        yield book
        book.close()


@pytest.fixture
def stored(book: Book, mlflow_server: MlflowServer) -> Path:
    """Where the server keeps the run's artifacts."""
    return next(mlflow_server.artifact_root.glob(f"*/{run(book).run_id}/artifacts"))


def run(book: Book) -> Found:
    with book.report() as report:
        (found,) = find_runs(report, None, book.target)
        return found


def unsent(book: Book) -> list[bytes | None]:
    """Receipts by which a worker would take due files for delivered."""
    with book.ledger.transaction():
        claimed = [file for row in book.rows() for file in book.ledger.claim(row, time.time() + 60, 100, 2**40)]
        for file in claimed:
            book.ledger.put_back(file.id)
    assert claimed
    return [file.digest for file in claimed if file.digest is not None]


def compare(book: Book, *, deep: bool) -> Verified:
    with book.report() as report:
        return verify(Shelf(book.target, None), report, find_runs(report, None, book.target), deep=deep)


def found(done: Verified) -> dict[str, str]:
    return {os.path.basename(os.fsdecode(f.path)): f.error for f in done.findings}


def test_missing_short_and_changed_artifacts(book: Book, stored: Path) -> None:
    assert compare(book, deep=True).findings == []
    (stored / "gone").unlink()
    (stored / "short").write_bytes(b"sh")
    (stored / "other").write_bytes(b"OTHER")
    (stored / "left").unlink()
    (Path(os.fsdecode(run(book).views[0].folder)) / "left").unlink()

    done = compare(book, deep=False)
    gone, short = "missing in the store", "the store holds 2 bytes instead of 5"
    assert found(done) == {"gone": gone, "short": short, "left": gone}
    assert {f.again: f.cure for f in done.findings}[False].startswith("Its file is gone from the folder too")
    assert found(compare(book, deep=True)) == {
        "other": "the store holds another content of the same size",
        "left": gone,
    }
    assert (done.files, done.runs) == (5, 1)

    with book.report() as report:
        assert report.counts() == {State.FAILED: 3, State.STORED: 2}
        assert report.retry(None).due == 3
    book.send(book.target)
    (Path(os.fsdecode(run(book).views[0].folder)) / "left").write_bytes(b"left")
    book.look()
    assert not unsent(book), "the receipt is no reason to leave it out"
    book.send(book.target)
    assert compare(book, deep=True).findings == []


def test_a_deleted_run_is_one_finding_and_a_purged_one_is_sent_again(book: Book, mlflow_server: MlflowServer) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    shelf = Shelf(book.target, None)
    old = run(book)
    shelf._client.delete_run(old.run_id)
    (finding,) = compare(book, deep=False).findings
    assert finding.artifact_path is None
    assert "is deleted on the server" in finding.error
    assert "mlflow runs restore" in finding.cure
    with book.report() as report:
        assert report.counts() == {State.STORED: 5}, "restoring it mends it"

    SqlAlchemyStore(f"sqlite:///{mlflow_server.db}", "/")._hard_delete_run(old.run_id)
    done = compare(book, deep=False)
    assert set(found(done).values()) == {f"run {old.run_id} does not exist on the server"}
    with book.report() as report:
        assert report.counts() == {State.FAILED: 5}


def test_the_files_of_a_model_are_looked_for_in_the_newest_of_its_name(book: Book, tmp_path: Path) -> None:
    """The ledger has receipts at the model's name; the files are in the logged model and not among the run's own."""
    shelf = Shelf(book.target, None)
    files = {"MLmodel": b"flavors: {}", "model.pkl": b"weights"}
    run_id = run(book).run_id
    for name, content in files.items():
        book.write(f"verify/{tmp_path.name}/clf/{name}", content)
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    book.look()
    book.deliver(run_id)  # receipts alone: the run's own folder holds nothing of it
    (missing, *others) = compare(book, deep=False).findings
    assert (missing.artifact_path, len(others)) == ("clf/MLmodel", 1)
    with book.report() as report:
        report.retry(None)
    client = shelf._client
    experiment = client.get_run(run_id).info.experiment_id
    for old in (True, False):
        model = client.create_logged_model(experiment, name="clf", source_run_id=run_id)
        if old:
            (tmp_path / "model" / "model.pkl").write_bytes(b"WEIGHTS")
        client.log_model_artifacts(model.model_id, str(tmp_path / "model"))
        client.finalize_logged_model(model.model_id, "READY")
        (tmp_path / "model" / "model.pkl").write_bytes(b"weights")
        book.deliver(run_id)
        found = compare(book, deep=True).findings
        assert [f.artifact_path for f in found] == (["clf/model.pkl"] if old else [])
        with book.report() as report:
            report.retry(None)
    unfinished = client.create_logged_model(experiment, name="clf", source_run_id=run_id)
    assert client.get_logged_model(unfinished.model_id).status == "PENDING"
    assert compare(book, deep=True).findings == [], "one that is not whole yet hides none that is"
