from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.removal import Removal
from artifactd.watching.inside import open_root
from artifactd.watching.signature import Signature


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = open_root(os.fsencode(tmp_path))
    yield fd
    os.close(fd)


def noted(removal: Removal, folder: Path, *names: str) -> None:
    removal.note((os.fsencode(name), Signature.of((folder / name).lstat())) for name in names)


def test_what_is_as_it_was_noted_goes_once_and_nothing_else(tmp_path: Path, root: int) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"x")
    removal = Removal(os.fsencode(tmp_path))
    assert not removal
    noted(removal, tmp_path, "a", "b")
    (tmp_path / "b").write_bytes(b"changed")
    removal.carry_out(root, leases=True)
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]
    assert not removal


@pytest.mark.parametrize("name", [".done", "_SUCCESS", ".failed", "artifactd.toml"])
def test_what_says_which_run_the_folder_is_stays(name: str, tmp_path: Path, root: int) -> None:
    (tmp_path / name).touch()
    removal = Removal(os.fsencode(tmp_path))
    noted(removal, tmp_path, name)
    assert not removal
