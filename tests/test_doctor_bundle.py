"""The support file: private, never over another, and without a secret however it came into the data."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from artifactd.doctor import bundle
from artifactd.errors import ArtifactdError, UsageError


def members(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            assert (member.mode, member.uid, member.uname) == (0o600, 0, ""), "who made it is nobody's business"
            found[member.name] = json.loads(stream.read())
        return found


def test_what_is_put_in_comes_out_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "support.tar.gz"
    before = os.umask(0)
    try:
        bundle.write(file, {"a.json": {"b": [1, "two", None]}, "c.json": ["é\udcff"]})
    finally:
        os.umask(before)
    found = members(file)
    assert found == {"artifactd-doctor/a.json": {"b": [1, "two", None]}, "artifactd-doctor/c.json": ["é\udcff"]}
    assert file.stat().st_mode & 0o777 == 0o600


def test_secrets_are_left_out_by_look_by_place_and_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "plantedinenviron")
    planted = {
        "by place": "postgresql://u:plantedpassword@h/db",
        "by name": {"api_key": "plantedkey", "secret": ["plantedlist"]},
        "by look": "Authorization: Bearer plantedbearer1",
        "by value": "it said plantedinenviron",
        "from the configuration": {"deep": [{"error": "no such user as 'planted@pass/word'"}]},
        "and encoded": "planted%40pass%2Fword",
        "number": 4242,
    }
    file = tmp_path / "support.tar.gz"
    bundle.write(file, {"a.json": planted}, ["planted%40pass%2fword", "4242", "x"])
    with tarfile.open(file) as archive:
        stream = archive.extractfile("artifactd-doctor/a.json")
        assert stream is not None
        text = stream.read().decode()
    assert "planted" not in text
    assert json.loads(text)["number"] == 4242, "a number is no text"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "support.tar.gz"
    file.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        bundle.refuse(file)
    with pytest.raises(UsageError, match="is there already"):
        bundle.write(file, {})
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(UsageError, match="is there already"):
        bundle.write(tmp_path / "link", {})
    assert file.read_text() == "mine"
    assert not (tmp_path / "none").exists()


def test_one_in_a_watched_folder_would_be_delivered(tmp_path: Path) -> None:
    (tmp_path / "drop/e/r").mkdir(parents=True)
    (tmp_path / "way").symlink_to("drop")
    bundle.refuse(tmp_path / "support.tar.gz", [tmp_path / "drop"])
    for path in ("drop/e/r/support.tar.gz", "way/support.tar.gz"):
        with pytest.raises(UsageError, match="it would be delivered"):
            bundle.refuse(tmp_path / path, [tmp_path / "drop"])


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactdError, match="cannot be written: No such file or directory"):
        bundle.write(tmp_path / "none" / "support.tar.gz", {})


def test_a_full_disk_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "support.tar.gz"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "_pack", full)
    with pytest.raises(ArtifactdError, match="No space left"):
        bundle.write(file, {"a.json": 1})
    assert not file.exists()
