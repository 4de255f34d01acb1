"""Links to open files, under names of our choice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from artifactd.tracking import links
from artifactd.tracking.links import linked


@pytest.fixture(autouse=True)
def _no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_folders", [])


def test_it_leads_to_the_file_that_was_opened_whatever_stands_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"opened")
    with path.open("rb") as f:
        path.unlink()
        path.write_bytes(b"another one")
        with linked(f.fileno(), "name") as link:
            assert Path(link).name == "name"
            assert Path(link).read_bytes() == b"opened"


def test_uploads_at_the_same_time_have_folders_of_their_own_and_later_ones_use_them_again(temporary: Path) -> None:
    with linked(0, "same") as first, linked(0, "same") as second:
        assert first != second
    with linked(0, "other") as third:
        assert Path(third).parent in (Path(first).parent, Path(second).parent)
    assert len(list(temporary.iterdir())) == 2
    assert not list(temporary.glob("*/*"))


def test_a_folder_that_was_cleaned_away_is_made_anew(temporary: Path) -> None:
    with linked(0, "name") as link:
        pass
    shutil.rmtree(Path(link).parent)
    with linked(0, "name") as link:
        assert os.path.lexists(link)
    assert len(list(temporary.iterdir())) == 1
