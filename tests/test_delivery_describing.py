"""One manifest for one folder: made of receipts and a look, put once, and never in the place of another folder's."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artifactd import __version__
from artifactd.checkpoints import Checkpoint
from artifactd.delivery.describing import describe
from artifactd.delivery.messages import Describe, Described, Root, Target
from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.layout import Layout
from artifactd.manifest import Manifest, leaf_of, read, write
from artifactd.tracking.artifacts import RunArtifacts
from cli_support import RUN_ID, Book

URI = "http://127.0.0.1:9"
CHECKPOINT = Checkpoint("**/c-*/last", (("model",),))
HOST = socket.gethostname()


class Den:
    """A run folder that is stored by the ledger, and an artifact root."""

    def __init__(self, base: Path) -> None:
        self.book = Book(base, target=URI)
        self.shelf = base / "shelf"
        self.shelf.mkdir()
        self.store = RunArtifacts(self.shelf.as_uri(), URI)
        self.write("a", b"a")
        self.write("deep/b", b"bb")
        (base / "drop" / "e" / "r" / "none").mkdir()
        (base / "drop" / "e" / "r" / "cache").mkdir()
        (base / "drop" / "e" / "r" / "a").chmod(0o604)

    def write(self, name: str, content: bytes) -> None:
        self.book.write(f"e/r/{name}", content)
        self.book.look()
        self.book.deliver()

    def job(self, *, fleet: bool = False, removes: bool = False) -> Describe:
        layout = Layout(
            "{experiment}/{run}", constants={}, include=["**"], exclude=["cache/"], live=[], routes=[],
            checkpoints=[CHECKPOINT],
        )  # fmt: skip
        (view,) = self.views()
        root = Root(os.fsencode(self.book.drop), None, False)
        return Describe(
            Target(URI), view, RUN_ID, root, b"e/r", self.book.ledger.path, 1, "e", "r", layout, removes, fleet
        )

    def views(self) -> list[int]:
        with self.book.report() as report:
            return [view.row for view in report.runs()]

    def describe(self, *, fleet: bool = False, removes: bool = False) -> Described:
        return describe(self.job(fleet=fleet, removes=removes), self.store)

    def held(self, leaf: str = "manifest.json") -> Manifest:
        return read((self.shelf / "artifactd" / leaf).read_bytes())

    def put(self, manifest: Manifest, leaf: str = "manifest.json") -> None:
        (self.shelf / "artifactd").mkdir(exist_ok=True)
        (self.shelf / "artifactd" / leaf).write_bytes(write(manifest))


@pytest.fixture
def den(tmp_path: Path) -> Iterator[Den]:
    den = Den(tmp_path)
    yield den
    den.book.close()


def test_it_says_what_is_stored_and_how_it_stands_on_disk(den: Den) -> None:
    assert den.describe().sent > 0
    said = den.held()
    assert (said.artifactd, said.run_id, said.experiment, said.run) == (__version__, RUN_ID, "e", "r")
    assert (said.host, said.user, said.folder) == (HOST, pwd.getpwuid(os.getuid()).pw_name, b"e/r")
    assert [(f.path, f.artifact_path, f.size, f.mode) for f in said.files] == [
        (b"a", "a", 1, 0o604), (b"deep/b", "deep/b", 2, (den.book.drop / "e/r/deep/b").stat().st_mode & 0o777),
    ]  # fmt: skip
    assert [f.path for f in said.folders] == [b"", b"deep", b"none"], "what is excluded is left out"


def test_one_that_says_the_same_is_left_alone_and_an_older_one_replaced(den: Den) -> None:
    first = den.describe()
    assert (den.describe().sent, den.describe().artifact_path) == (0, first.artifact_path)
    den.write("late", b"late")
    assert den.describe().sent > first.sent
    assert [f.path for f in den.held().files] == [b"a", b"deep/b", b"late"]
    (den.shelf / "artifactd" / "manifest.json").write_bytes(b'{"run_id": "' + RUN_ID.encode() + b'", ')
    assert den.describe().sent > 0, "a part that a crash has left"
    assert len(den.held().files) == 3


def test_a_file_that_went_is_gone_unless_artifactd_removed_it(den: Den) -> None:
    (den.book.drop / "e" / "r" / "a").unlink()
    den.describe()
    assert [(f.path, f.gone) for f in den.held().files] == [(b"a", True), (b"deep/b", False)]
    den.describe(removes=True)
    assert next((f.path, f.gone, f.mode) for f in den.held().files) == (b"a", False, None)


def test_it_names_each_checkpoint_whose_marker_is_stored(den: Den) -> None:
    for name in ("c-1/model", "c-1/last", "deep/c-2/last", "c-3/model", "c-3/last", "c-4/model"):
        den.write(name, b"1")
    (den.book.drop / "e/r/c-1/model").unlink()  # it is stored
    model = den.book.write("e/r/c-3/model", b"trained again")
    den.book.look()
    model.unlink()  # before that was sent
    den.book.look()
    den.describe()
    said = [(c.path, c.whole) for c in den.held().checkpoints]
    assert said == [(b"c-1", True), (b"c-3", False), (b"deep/c-2", False)]


def test_another_folders_stays_and_is_enough_if_it_says_all(den: Den) -> None:
    den.describe()
    theirs = replace(den.held(), host="elsewhere")
    den.put(theirs)
    assert den.describe() == Described("artifactd/manifest.json", 0)
    den.write("late", b"late")
    assert den.describe().artifact_path == f"artifactd/{leaf_of(HOST)}"
    assert den.held() == theirs
    assert len(den.held(leaf_of(HOST)).files) == 3
    den.put(replace(den.held(leaf_of(HOST)), watch=b"/other", files=()), leaf_of(HOST))
    third = den.describe().artifact_path
    assert third not in ("artifactd/manifest.json", f"artifactd/{leaf_of(HOST)}"), "two folders of one host"
    assert den.describe() == Described(third, 0)


def test_each_host_of_a_fleet_has_its_own(den: Den) -> None:
    assert den.describe(fleet=True).artifact_path == f"artifactd/{leaf_of(HOST)}"
    assert den.describe(fleet=True).sent == 0


def test_a_folder_that_is_away_is_waited_for(den: Den) -> None:
    job = replace(den.job(), root=Root(os.fsencode(den.book.drop), (1, 1), False))
    with pytest.raises(DeliveryError) as caught:
        describe(job, den.store)
    assert (caught.value.failure.kind, caught.value.failure.scope) == (Kind.TRANSIENT, Scope.RUN)


def test_a_store_that_does_not_take_it_says_that_it_was_the_manifest(den: Den) -> None:
    (den.shelf / "artifactd").write_text("in the way")
    with pytest.raises(DeliveryError) as caught:
        den.describe()
    assert caught.value.failure.scope is Scope.FILE
    assert caught.value.failure.error.startswith("its manifest: ")
