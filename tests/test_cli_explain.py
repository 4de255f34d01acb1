"""``artifactd explain``: the answer in words and as JSON, with a config file or without."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_support import RUN_ID, Book, call, own_environment


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with own_environment(tmp_path):
        book = Book(tmp_path)
        yield book
        book.close()


def explain(book: Book, *paths: Path | str) -> list[dict[str, Any]]:
    done = call("explain", *paths, "--json", "--state-dir", book.state)
    assert done.exit_code == 0, done.stderr
    data: list[dict[str, Any]] = json.loads(done.stdout)
    return data


def test_without_a_config_file_the_ledger_knows_what_is_watched(book: Book) -> None:
    path = book.write("vision/run-1/a")
    book.look()
    book.deliver()
    (answer,) = explain(book, path)
    assert {key: answer[key] for key in ("path", "state", "rule", "experiment", "run", "run_id", "artifact_path")} == {
        "path": str(path),
        "state": "stored",
        "rule": "layout {experiment}/{run}",
        "experiment": "vision",
        "run": "run-1",
        "run_id": RUN_ID,
        "artifact_path": "a",
    }
    said = call("explain", path, "--state-dir", book.state).stdout
    assert said.startswith(f"{path}: stored\n")
    assert f"run-1 ({RUN_ID})" in said


def test_the_answers_of_several_paths_and_relative_ones(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = book.write("e/r/a").parent
    book.write("e/r/b.tmp")
    book.look()
    book.hold()
    monkeypatch.chdir(folder)
    held, ignored, summary, outside = explain(book, "a", "./b.tmp", ".", "/etc")
    assert held["state"] == "waiting"
    assert held["waits_for"].startswith("http://mlflow.test")
    assert (held["kind"], held["next_try"][-1]) == ("transient", "Z")
    assert "cannot be reached" in held["error"]
    assert (ignored["state"], ignored["rule"]) == ("ignored", "exclude **/*.tmp")
    assert summary["type"] == "folder"
    assert summary["counts"] == {"stored": 0, "waiting": 1, "failed": 0, "ignored": 1}
    assert [e["path"] for e in summary["not_stored"]] == [str(folder / "a")]
    assert outside["state"] == "outside"
    said = call("explain", "a", ".", "--state-dir", book.state).stdout
    assert "http://mlflow.test cannot be reached: refused" in said
    assert f"{folder}: 2 files\n" in said


def test_the_rules_are_those_of_the_config_file(book: Book, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/other"\n[[watch]]\npath = "{book.drop}"\nexperiment = "x"\nlayout = "{{run}}"\n'
    )
    path = book.write("run-9/deep/a")
    done = call("explain", path, "--config", config, "--json")
    (answer,) = json.loads(done.stdout)
    assert (answer["state"], answer["experiment"], answer["run"]) == ("waiting", "x", "run-9")
    assert answer["artifact_path"] == "deep/a"
    assert not (tmp_path / "other").exists(), "asking makes nothing"


def test_names_that_are_no_text(book: Book) -> None:
    name = os.fsdecode(b"\xff\x1b[31m")
    book.write(f"e/r/{name}")
    book.look()
    (answer,) = explain(book, book.drop / "e" / "r" / name)
    assert answer["path"].endswith("/\\xff\\x1b[31m")
    assert answer["artifact_path"] == "_xFF__x1B_[31m"


def test_nothing_is_known_at_all(book: Book, tmp_path: Path) -> None:
    done = call("explain", "/data/x", "--state-dir", tmp_path / "none")
    assert done.exit_code == 1
    assert "no ledger" in done.stderr


def test_the_run_that_a_run_is_nested_in_is_named(tmp_path: Path) -> None:
    with own_environment(tmp_path):
        (tmp_path / "sweep").mkdir()
        book = Book(tmp_path / "sweep", layout="{experiment}/{parent}/{run}")
        path = book.write("e/s3/t1/a")
        book.write("e/s3/plan")
        config = tmp_path / "c.toml"
        config.write_text(
            f'state_dir = "{book.state}"\n[[watch]]\npath = "{book.drop}"\n'
            'layout = "{experiment}/{parent}/{run}"\n'
        )
        book.look()

        def answers() -> list[dict[str, Any]]:
            done = call("explain", "--json", path, book.drop / "e/s3/plan", "--config", config)
            assert done.exit_code == 0, done.stderr
            return list(json.loads(done.stdout))

        within, above = answers()
        assert (within["run"], within["parent"]) == ("t1", {"run": "s3", "run_id": None})
        assert (above["run"], above["parent"], above["artifact_path"]) == ("s3", None, "plan")
        book.deliver()
        within, _ = answers()
        assert within["parent"] == {"run": "s3", "run_id": RUN_ID}
        assert within["run_status"] == "RUNNING"
        text = call("explain", path, "--config", config).stdout
        assert f"s3 ({RUN_ID})" in text
        assert "last sign of life" in text
        book.close()
