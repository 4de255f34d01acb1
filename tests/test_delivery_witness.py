"""Whose manifest is believed: that of another folder, in whole, and of no other."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from artifactd.delivery.held import Held
from artifactd.delivery.witness import Witness
from artifactd.ledger import DueFile, FileId
from artifactd.manifest import File, Manifest, write
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.watching.signature import Signature

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).digest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run's artifacts; what is stored as model.bin is another content of the same size, so that a look would tell."""
    (tmp_path / "artifactd").mkdir()
    (tmp_path / "model.bin").write_bytes(b"WEIGHTS")
    return tmp_path


def say(root: Path, *, host: str = "elsewhere", watch: bytes = b"/drop", leaf: str = "manifest.json") -> None:
    file = File(b"model.bin", "model.bin", len(CONTENT), DIGEST, 1, 0o644, 1.0, 1)
    made = Manifest("0.1", "0" * 32, "e", "r", host, "ann", watch, b"e/r", None, (file,))
    (root / "artifactd" / leaf).write_bytes(write(made))


def witness(root: Path) -> Witness:
    return Witness(RunArtifacts(root.as_uri(), "http://127.0.0.1:9"), b"/drop")


def test_another_hosts_or_another_folders_is_believed(root: Path) -> None:
    say(root)
    assert witness(root).says("model.bin", len(CONTENT), DIGEST)
    assert not witness(root).says("model.bin", len(CONTENT), b"x" * 32)
    assert not witness(root).says("other.bin", len(CONTENT), DIGEST)
    say(root, host=socket.gethostname(), watch=b"/other")
    assert witness(root).says("model.bin", len(CONTENT), DIGEST)


def test_that_of_this_very_folder_is_not_since_it_may_be_older_than_what_was_sent(root: Path) -> None:
    say(root, host=socket.gethostname())
    assert not witness(root).says("model.bin", len(CONTENT), DIGEST)


def test_none_and_damaged_ones_and_files_of_other_names_say_nothing(root: Path) -> None:
    assert not witness(root).says("model.bin", len(CONTENT), DIGEST)
    say(root, leaf="notes.json")
    assert not witness(root).says("model.bin", len(CONTENT), DIGEST)
    say(root, leaf="manifest.gpu-1.json")
    (root / "artifactd" / "manifest.json").write_bytes(b"{")
    assert not witness(root).says("model.bin", len(CONTENT), DIGEST)


@pytest.mark.parametrize("strange", [True, False])
def test_only_a_file_that_is_new_here_in_a_run_from_elsewhere_is_not_compared(root: Path, strange: bool) -> None:
    say(root)
    store = RunArtifacts(root.as_uri(), "http://127.0.0.1:9")
    size = len(CONTENT)
    file = DueFile(
        FileId(1, b"model.bin"), b"e/r/model.bin", Signature(size, 1, 1, 1), "", "model.bin", 7, None, 0, 0.0,
        ask=True, strange=strange,
    )  # fmt: skip
    known = Held(store, [file], Witness(store, b"/drop")).look_up(file, size, DIGEST).digest
    assert known == (DIGEST if strange else None), "the store's content is another one"
    (root / "model.bin").unlink()
    assert Held(store, [file], Witness(store, b"/drop")).look_up(file, size, DIGEST).digest is None, "not listed"
