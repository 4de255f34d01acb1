"""Versions' names: nobody else's, whether that one is stored, is due, or is just being sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.delivery.naming import as_versions, version_destination
from artifactd.ledger import DueFile, Ledger, Run, State, Wanted
from artifactd.ledger.destinations import destination
from artifactd.watching.signature import Signature

URI = "http://mlflow"


class Office:
    """A ledger with one run, in which changed files are further artifacts."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.root = ledger.use_roots([b"/drop"])[b"/drop"]
        self.row = ledger.run_for(self.root, b"r", URI, "r", "e", "r")
        self.times = 0

    @property
    def run(self) -> Run:
        return self.ledger.run(self.row)

    def write(self, name: str) -> None:
        """A look sees a new content."""
        self.times += 1
        folder = self.ledger.folder(self.root, b"r", create=True)
        assert folder is not None
        signature = Signature(self.times, self.times, self.times, self.times)
        dest = destination(URI, "r", name)
        self.ledger.want(
            folder[0], [Wanted(name.encode(), State.DUE, signature, self.row, "", name, dest, due_at=self.times)], 1.0
        )

    def take(self, *under_way: DueFile) -> list[DueFile]:
        return as_versions(self.ledger, self.run, self.ledger.claim(self.row, 99.0, 9, 99), under_way, 99.0)

    def store(self, *files: DueFile) -> None:
        for file in files:
            self.ledger.delivered(
                file, b"%032d" % file.signature.size, size=1, now=1.0, sent=True, due_again=2.0,
                dest=version_destination(self.run, file),
            )  # fmt: skip


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    ledger = Ledger(tmp_path)
    yield Office(ledger)
    ledger.close()


def test_the_first_has_its_own_name_and_the_next_ones_are_numbered(office: Office) -> None:
    for leaf in ("a.bin", "a_v2.bin", "a_v3.bin"):
        office.write("a.bin")
        (file,) = office.take()
        assert file.leaf == leaf
        office.store(file)


def test_a_file_waits_for_a_version_that_is_just_being_sent_under_its_name_and_fails_then(office: Office) -> None:
    office.write("a.bin")
    office.store(*office.take())
    office.write("a.bin")
    (second,) = office.take()
    office.write("a_v2.bin")
    assert office.take(second) == []
    assert office.ledger.backlog() == (2, 0), "it is due as before"
    office.store(second)
    assert office.take() == []
    assert office.ledger.backlog() == (0, 1)


def test_of_two_in_one_claim_only_one_gets_the_name(office: Office) -> None:
    office.write("a.bin")
    office.store(*office.take())
    office.write("a.bin")
    office.write("a_v2.bin")
    assert [file.id.name for file in office.take()] == [b"a_v2.bin"]
    assert office.ledger.backlog() == (1, 1)


def test_a_version_whose_name_is_a_file_s_own_fails_with_both_names(office: Office) -> None:
    office.write("a_v2.bin")
    office.write("a.bin")
    office.store(*office.take())
    office.write("a.bin")
    assert office.take() == []
    assert office.ledger.backlog() == (0, 1)


def test_a_name_that_a_number_makes_too_long_fails(office: Office) -> None:
    name = "n" * 251 + ".bin"
    office.write(name)
    office.store(*office.take())
    office.write(name)
    assert office.take() == []
    assert office.ledger.backlog() == (0, 1)
