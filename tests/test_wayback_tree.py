"""A run folder comes back as it was, as far as it is known; what is not known is said."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import ArtifactdError
from artifactd.manifest import File, Folder, Manifest, leaf_of, write
from artifactd.names import encode_path
from artifactd.wayback.find import Found, find_runs
from artifactd.wayback.shelf import Shelf
from artifactd.wayback.tree import Restored, restore
from cli_support import Book, own_environment
from conftest import MlflowServer
from support import tree

pytestmark = pytest.mark.live

FILES = {b"a/model.bin": b"weights", b"a/loss#1.png": b"png", b"\xff": b"odd"}
MTIME = 1_600_000_000_987_654_321


class Kept:
    """A run that is stored, and what its manifest would say."""

    def __init__(self, book: Book, base: Path) -> None:
        self.book, self.base = book, base
        self.folder = book.drop / "tree" / base.name
        for name, content in FILES.items():
            path = os.fsencode(self.folder) + b"/" + name
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(os.fsdecode(path)).write_bytes(content)
            os.utime(path, ns=(MTIME, MTIME))
        book.look()
        (self.run_id,) = book.send(book.target).values()
        self.shelf = Shelf(book.target, None)
        self.client: Any = self.shelf._client

    def manifest(self, **more: Any) -> Manifest:
        files = tuple(
            File(name, encode_path(name), len(content),
                 hashlib.sha256(content).digest(), MTIME, 0o640, 1.0, 1)
            for name, content in FILES.items()
        )  # fmt: skip
        folders = (Folder(b"", 0o755, MTIME), Folder(b"a", 0o555, MTIME + 1), Folder(b"none/below", 0o700, MTIME + 2))
        made = Manifest("0.1", self.run_id, "tree", "r", "elsewhere", "ann", b"/drop", b"tree/r", None, files, folders)
        return replace(made, **more)

    def put(self, manifest: Manifest, leaf: str = "manifest.json") -> None:
        (self.base / leaf).write_bytes(write(manifest))
        self.client.log_artifact(self.run_id, str(self.base / leaf), "artifactd")

    def restore(self, to: str, *, known: bool = False, force: bool = False) -> Restored:
        with self.book.report() as report:
            found = find_runs(report, self.run_id.encode(), self.book.target) if known else [Found(self.run_id)]
            entries = [(run, self.shelf.entries(run, report if known else None)) for run in found]
            return restore(self.shelf, entries, self.base / to, force=force)


@pytest.fixture
def kept(tmp_path: Path, mlflow_server: MlflowServer) -> Iterator[Kept]:
    with own_environment(tmp_path):
        book = Book(tmp_path, target=mlflow_server.uri)
        yield Kept(book, tmp_path)
        book.close()


def seen(path: Path) -> tuple[str, int]:
    st = path.stat()
    return f"{st.st_mode & 0o7777:04o}", st.st_mtime_ns


def note(folder: Path) -> str:
    return (folder / ".artifactd-run").read_text()


def test_with_a_manifest_all_of_it_is_restored(kept: Kept, tmp_path: Path) -> None:
    kept.put(kept.manifest())
    (tmp_path / "by-job.txt").write_text("logged by the job itself")
    kept.client.log_artifact(kept.run_id, str(tmp_path / "by-job.txt"))
    done = kept.restore("back")
    back = tmp_path / "back"
    assert (done.pulled.files, done.pulled.problems, done.folders) == (3, [], 3)
    (remark,) = done.remarks
    assert "1 of its artifacts are not from the folder" in remark
    assert note(back) == f"{kept.run_id}\n"
    assert seen(back / "a" / "model.bin") == ("0640", MTIME)
    assert seen(back / "a") == ("0555", MTIME + 1), "the note and the files came before"
    assert seen(back / "none" / "below") == ("0700", MTIME + 2)
    assert seen(back)[1] == MTIME
    (back / "a" / "model.bin").chmod(0o600)
    again = kept.restore("back")
    assert (again.pulled.files, again.pulled.equal) == (0, 3)
    assert seen(back / "a" / "model.bin") == ("0640", MTIME), "what is there gets mode and time too"
    (back / ".artifactd-run").unlink()
    assert tree(back) == FILES


def test_without_a_manifest_it_says_what_is_not_known(kept: Kept, tmp_path: Path) -> None:
    done = kept.restore("foreign")
    assert (done.pulled.files, done.pulled.problems) == (3, [])
    assert [text for remark in done.remarks for text in ("no manifest", "times are not known") if text in remark] == [
        "no manifest", "times are not known",
    ]  # fmt: skip
    assert (tmp_path / "foreign" / "a" / "loss#1.png").read_bytes() == b"png"
    known = kept.restore("known", known=True)
    (remark,) = known.remarks
    assert "modes and empty folders are not known" in remark
    assert (tmp_path / "known" / "a" / "model.bin").stat().st_mtime_ns == MTIME, "the ledger knows"


def test_hosts_of_a_fleet_have_a_manifest_each_and_files_that_were_gone_stay_away(kept: Kept, tmp_path: Path) -> None:
    whole = kept.manifest()
    first, second, third = whole.files
    kept.put(replace(whole, files=(first,)), leaf_of("host-1"))
    kept.put(replace(whole, files=(second, replace(third, gone=True)), host="host-2"), leaf_of("host-2"))
    done = kept.restore("back")
    assert (done.pulled.files, done.pulled.problems) == (2, [])
    assert "1 of its files were gone" in done.remarks[0]


def test_what_the_store_has_lost_or_holds_otherwise_is_a_problem(kept: Kept, tmp_path: Path) -> None:
    whole = kept.manifest()
    first, *others = whole.files
    lost = replace(first, path=b"lost", artifact_path="lost")
    kept.put(replace(whole, files=(replace(first, digest=b"x" * 32), *others, lost)))
    problems = {p.artifact_path: p.reason for p in kept.restore("back").pulled.problems}
    assert set(problems) == {"a/model.bin", "lost"}
    assert "another content than was stored" in problems["a/model.bin"]
    assert "does not list it" in problems["lost"]
    assert not (tmp_path / "back" / "a" / "model.bin").exists()


def test_nothing_is_written_outside_of_it(kept: Kept, tmp_path: Path) -> None:
    whole = kept.manifest()
    outside = tmp_path / "outside"
    outside.mkdir()
    back = tmp_path / "back"
    back.mkdir()
    (back / "a").symlink_to(outside)
    (back / "none").symlink_to(outside)
    kept.put(whole)
    problems = {p.artifact_path for p in kept.restore("back", force=True).pulled.problems}
    assert {"a/model.bin", "a/loss_x23_1.png"} <= problems
    assert list(outside.iterdir()) == []
    assert seen(outside)[1] != MTIME + 1
    text = write(whole).replace(b'"path": "a/model.bin"', b'"path": "../escaped"')
    (tmp_path / "manifest.json").write_bytes(text)
    kept.client.log_artifact(kept.run_id, str(tmp_path / "manifest.json"), "artifactd")
    kept.shelf = Shelf(kept.book.target, None)
    with pytest.raises(ArtifactdError, match="damaged"):
        kept.restore("other")
    assert not (tmp_path / "escaped").exists()


def test_a_folder_of_another_run_is_left_alone(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / ".artifactd-run").write_text("f" * 32 + "\n")
    with pytest.raises(ArtifactdError, match="the folder of another run"):
        kept.restore("back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == [".artifactd-run"]


def test_the_folder_that_the_run_came_from_gets_no_note(kept: Kept) -> None:
    (kept.folder / "a" / "model.bin").unlink()
    done = kept.restore(str(kept.folder), known=True)
    assert (done.pulled.files, done.pulled.equal) == (1, 2)
    assert not (kept.folder / ".artifactd-run").exists(), "there it is its own run, and not an adopted one"
