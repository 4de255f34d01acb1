"""Whoever asks for a destination finds every row that has it, whichever way the row is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifactd.ledger import FileId, Ledger, State, Wanted
from artifactd.ledger.destinations import destination
from artifactd.ledger.rows import CLASH
from artifactd.ledger.schema import LEAF
from artifactd.watching.signature import Signature

ROOTS = (b"/drop", b"/drop/e")
RUNS = (  # of one run: a folder below two roots, one that was renamed, two that adopt it; and the root itself
    (0, b"e/r", "k"), (1, b"r", "k"), (0, b"e/s", "run:x"), (0, b"e/t", "run:x"), (0, b"", "k0"),
)  # fmt: skip
FOLDERS = ((0, b"e/r"), (0, b"e/r/d"), (0, b"e/s"), (0, b"e/t"), (0, b"d"), (0, b""), (1, b"r"), (1, b"r/d"))
NAMES = (b"a", b"A", b"\xff", b"_xFF_", "ä".encode())
LEAVES = ("a", "A", "_xFF_", "_x5F_xFF_", "ä", "d")
DIRECTORIES = ("", "d", "d/_x_")
TARGET = "http://m"
NOBODY = FileId(0, b"")
SEEN = Signature(1, 1, 1, 1)


class Book:
    """A ledger with some runs and folders, and what is asked of it without any index."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.roots = [ledger.use_roots(ROOTS)[path] for path in ROOTS]
        self.runs = [ledger.run_for(self.roots[r], folder, TARGET, key, "e", "r") for r, folder, key in RUNS]
        self.folders = [(ledger.folder(self.roots[r], rel, create=True) or (0, ""))[0] for r, rel in FOLDERS]

    def dest(self, run: int, path: str) -> int:
        return destination(TARGET, RUNS[run][2], path)

    def want(self, folder: int, name: bytes, run: int, path: str, *, model: bool = False, clash: bool = False) -> None:
        directory, _, leaf = path.rpartition("/")
        row = Wanted(
            name, State.FAILED if clash else State.STORED, SEEN, self.runs[run], directory, leaf,
            self.dest(run, f"model:/{path}" if model else path), kind=CLASH if clash else None,
        )  # fmt: skip
        self.ledger.want(self.folders[folder], [row])

    def rows(self, dest: int, not_me: FileId = NOBODY) -> set[tuple[int, bytes]]:
        """By reading them all."""
        found = self.ledger._con.execute("SELECT folder, name, dest, kind FROM files NOT INDEXED")
        return {
            (f, n) for f, n, d, kind in found if d == dest and kind != CLASH and (f, n) != (not_me.folder, not_me.name)
        }

    def root_of(self, folder: int) -> int:
        return self.roots[FOLDERS[self.folders.index(folder)][0]]

    def held(self, run: int, path: str, not_me: FileId = NOBODY) -> bytes | None:
        return self.ledger.holder(self.dest(run, path), not_me, self.runs[run], path)

    def check(self, run: int, path: str, asker: FileId) -> None:
        holders = self.paths(self.rows(self.dest(run, path), asker))
        found = self.held(run, path, asker)
        assert found in holders if holders else found is None

    def paths(self, rows: set[tuple[int, bytes]]) -> set[bytes]:
        of = dict(zip(self.folders, (b"/".join(filter(None, (ROOTS[r], rel))) for r, rel in FOLDERS), strict=True))
        return {of[folder] + b"/" + name for folder, name in rows}

    def kept(self) -> dict[bytes, str | None]:
        return dict(self.ledger._con.execute("SELECT name, named FROM files"))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path_factory.mktemp("ledger"))) as made:
        yield made


@contextmanager
def written_into(ledger: Ledger) -> Iterator[Book]:
    """A ledger as new: what is written is taken back."""

    class TakenBackError(Exception):
        pass

    with suppress(TakenBackError), ledger.transaction():
        yield Book(ledger)
        raise TakenBackError


@pytest.fixture
def book(ledger: Ledger) -> Iterator[Book]:
    with written_into(ledger) as made:
        yield made


def test_a_file_that_is_named_as_on_disk_keeps_no_name_and_is_in_no_index(book: Book) -> None:
    book.want(0, b"a", 0, "a")
    book.want(1, "ä".encode(), 0, "d/ä")
    assert book.kept() == {b"a": None, "ä".encode(): None}
    assert book.held(0, "d/ä") == "/drop/e/r/d/ä".encode()


def test_another_folder_and_another_name_are_kept(book: Book) -> None:
    book.want(1, b"a", 0, "a")  # up by a route
    book.want(0, b"\xff", 0, "_xFF_")
    assert book.kept() == {b"a": "", b"\xff": "_xFF_"}
    assert (book.held(0, "a"), book.held(0, "_xFF_")) == (b"/drop/e/r/d/a", b"/drop/e/r/\xff")


def test_a_file_of_a_model_is_not_in_the_place_that_its_path_names(book: Book) -> None:
    book.want(1, b"a", 0, "d/a", model=True)
    assert book.kept() == {b"a": ""}
    assert book.held(0, "d/a") is None


def test_case_tells_files_apart(book: Book) -> None:
    book.want(0, b"a", 0, "a")
    book.want(0, b"A", 0, "A")
    assert (book.held(0, "a"), book.held(0, "A")) == (b"/drop/e/r/a", b"/drop/e/r/A")


def test_a_run_of_several_folders_is_at_home_in_the_first(book: Book) -> None:
    book.want(3, b"a", 3, "a")
    assert book.kept() == {b"a": ""}
    assert book.held(2, "a") == b"/drop/e/t/a"
    book.want(2, b"A", 2, "A")
    assert book.held(3, "A") == b"/drop/e/s/A"


def test_a_renamed_file_is_found_under_its_new_name(book: Book) -> None:
    book.want(2, b"a", 2, "a")
    new = FileId(book.folders[3], b"a")
    assert book.ledger.move(book.roots[0], book.dest(2, "a"), new, SEEN, book.runs[3], "a")
    assert book.held(2, "a") == b"/drop/e/t/a"
    book.want(3, b"a", 3, "a")
    assert book.held(2, "a") == b"/drop/e/t/a"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("want", "want", "want", "clash", "model", "move")),
        st.integers(0, len(FOLDERS) - 1),
        st.sampled_from(NAMES),
        st.integers(0, len(RUNS) - 1),
        st.sampled_from(DIRECTORIES),
        st.sampled_from(LEAVES),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_every_holder_is_found_and_nobody_else(
    ledger: Ledger, steps: list[tuple[str, int, bytes, int, str, str]]
) -> None:
    with written_into(ledger) as book:
        for what, folder, name, run, directory, leaf in steps:
            path = f"{directory}/{leaf}".lstrip("/")
            me = FileId(book.folders[folder], name)
            if what == "move":
                root = book.roots[RUNS[run][0]]
                there = {(f, n) for f, n in book.rows(book.dest(run, path)) if book.root_of(f) == root} - {
                    (me.folder, me.name)
                }
                moved = book.ledger.move(root, book.dest(run, path), me, SEEN, book.runs[run], path)
                assert moved == bool(there)
            else:
                book.want(folder, name, run, path, model=what == "model", clash=what == "clash")
            book.check(run, path, me)
        for run, directory, leaf in itertools.product(range(len(RUNS)), DIRECTORIES, LEAVES):
            book.check(run, f"{directory}/{leaf}".lstrip("/"), NOBODY)
        for path, dest, identity in book.ledger._con.execute(
            f"SELECT ltrim(p.dir || '/' || {LEAF}, '/'), f.dest, r.identity FROM files f"
            " JOIN places p ON p.id = f.place JOIN runs r ON r.id = f.run"
        ):
            assert dest in (destination(TARGET, identity, path), destination(TARGET, identity, f"model:/{path}"))
