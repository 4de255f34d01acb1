"""``artifactd ls``, ``pull`` and ``verify`` as a person calls them, against a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from cli_support import RUN_ID, Book, call, own_environment
from conftest import MlflowServer
from support import free_port, tree

pytestmark = pytest.mark.live


@pytest.fixture
def book(tmp_path: Path, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    """Two stored runs of an experiment of this test."""
    with own_environment(tmp_path):
        book = Book(tmp_path, target=mlflow_server.uri)
        book.write(f"{tmp_path.name}/one/model.pt", b"m" * 2048)
        book.write(f"{tmp_path.name}/one/plots/loss#1.png", b"png")
        book.write(f"{tmp_path.name}/two/a", b"a")
        book.look()
        book.send(mlflow_server.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
        yield book
        book.close()


def ask(book: Book, command: str, *args: str | Path) -> Result:
    return call(command, *args, "--state-dir", book.state)


def test_ls(book: Book, tmp_path: Path) -> None:
    one = book.drop / tmp_path.name / "one"
    done = ask(book, "ls", one)
    assert (done.exit_code, done.stderr) == (0, "")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["2.0", "KiB", "model.pt", f"{one}/model.pt"],
        ["3", "B", "plots/loss_x23_1.png", f"{one}/plots/loss#1.png"],
    ]
    both = ask(book, "ls", book.drop).stdout
    assert both.index(f"{tmp_path.name}/one (") < both.index("model.pt") < both.index(f"{tmp_path.name}/two (")
    data = json.loads(ask(book, "ls", one / "plots", "--json").stdout)
    assert [(d["artifact_path"], d["size"], d["run"]) for d in data] == [("plots/loss_x23_1.png", 3, "one")]
    by_id = json.loads(ask(book, "ls", data[0]["run_id"], "--json").stdout)
    assert [d["file"] for d in by_id] == [f"{one}/model.pt", f"{one}/plots/loss#1.png"]
    foreign = call("ls", data[0]["run_id"], "--state-dir", tmp_path / "nothing")
    assert [line.split()[-1] for line in foreign.stdout.splitlines()[1:]] == ["model.pt", "plots/loss_x23_1.png"]


def test_ls_of_versions(book: Book, tmp_path: Path) -> None:
    one = book.drop / tmp_path.name / "one"
    assert "No versions are kept" in ask(book, "ls", one, "--versions").stderr
    for number in (1, 2):
        book.write(f"{tmp_path.name}/one/kept/w.pt", b"w" * number)
        book.look()
        (row,) = book.rows()
        (due,) = book.ledger.claim(row, time.time() + 3600, 10, 2**40)
        file = book.ledger.as_next_version(due)
        book.ledger.delivered(
            file, bytes([number]) * 32, size=number, now=time.time(), sent=True, due_again=0.0, dest=number
        )
    done = ask(book, "ls", one, "--versions")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [(row[0], row[1], row[-2]) for row in rows] == [("1", "1", "kept/w.pt"), ("2", "2", "kept/w_v2.pt")]
    data = json.loads(ask(book, "ls", one / "kept", "--versions", "--json").stdout)
    assert [(d["version"], d["artifact_path"], d["size"], d["file"]) for d in data] == [
        (1, "kept/w.pt", 1, f"{one}/kept/w.pt"),
        (2, "kept/w_v2.pt", 2, f"{one}/kept/w.pt"),
    ]


def test_pull(book: Book, tmp_path: Path) -> None:
    done = ask(book, "pull", book.drop, tmp_path / "back")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "3 files written (2.0 KiB)\n", "")
    assert tree(tmp_path / "back") == tree(book.drop)
    again = ask(book, "pull", book.drop, tmp_path / "back")
    assert again.stdout == "0 files written (0 B), 3 there already\n"
    one = book.drop / tmp_path.name / "one"
    part = ask(book, "pull", one, "plots", tmp_path / "part")
    assert part.exit_code == 0
    assert tree(tmp_path / "part") == {b"plots/loss#1.png": b"png"}
    (tmp_path / "part" / "plots" / "loss#1.png").write_bytes(b"mine")
    refused = ask(book, "pull", one, "plots", tmp_path / "part")
    assert refused.exit_code == 1
    assert "another content stands at plots/loss#1.png" in refused.stdout
    assert "--force" in refused.stdout
    assert ask(book, "pull", one, "plots", tmp_path / "part", "--force").exit_code == 0
    assert tree(tmp_path / "part") == {b"plots/loss#1.png": b"png"}
    assert ask(book, "pull", one, "nothing", tmp_path / "part").exit_code == 1
    assert ask(book, "pull", one, tmp_path / "part" / "plots" / "loss#1.png").exit_code == 2


def test_verify(book: Book, tmp_path: Path, mlflow_server: MlflowServer) -> None:
    fine = ask(book, "verify", "--deep")
    assert fine.stdout == "All in order: 3 files (2.0 KiB) in 2 runs compared by content, size and name\n"
    assert fine.exit_code == 0
    run_id = json.loads(ask(book, "ls", book.drop / tmp_path.name / "two", "--json").stdout)[0]["run_id"]
    next(mlflow_server.artifact_root.glob(f"*/{run_id}/artifacts/a")).unlink()
    assert ask(book, "verify", book.drop / tmp_path.name / "one").exit_code == 0
    done = ask(book, "verify")
    assert done.exit_code == 1
    assert done.stdout.startswith("1 finding: 3 files")
    assert f"missing in the store [AD224]  {book.drop}/{tmp_path.name}/two/a" in done.stdout
    assert "artifactd retry" in done.stdout
    assert ask(book, "retry", book.drop).stdout == "1 file due again\n"
    assert ask(book, "verify", RUN_ID).exit_code == 1
    one = json.loads(ask(book, "ls", book.drop / tmp_path.name / "one", "--json").stdout)[0]["run_id"]
    next(mlflow_server.artifact_root.glob(f"*/{one}/artifacts/model.pt")).unlink()
    listed = json.loads(ask(book, "verify", "--json").stdout)
    assert [(f["artifact_path"], f["retry_sends_it"]) for f in listed["findings"]] == [("model.pt", True)]


def test_the_server_is_away(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    away = f"http://user:hunter22@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", away)
    for command in (["ls", RUN_ID], ["pull", RUN_ID, book.state.parent / "back"]):
        done = ask(book, *command)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "cannot be reached" in done.stderr
        assert "hunter22" not in done.stderr
        assert "Traceback" not in done.stderr
    elsewhere = ask(book, "ls", book.drop)
    assert elsewhere.exit_code == 1
    assert f"it was delivered to {book.target}" in elsewhere.stderr
