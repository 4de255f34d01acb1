"""SFTP's repository, the parts that need no server: temporary names and paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.errors import DeliveryError, Kind
from artifactd.tracking import sftp, sftp_address


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sftp_address, "SYSTEM_CONFIG", str(tmp_path / "ssh_config"))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@given(st.binary(min_size=1, max_size=255), st.binary(min_size=1, max_size=255))
def test_a_temporary_name_follows_from_the_artifact_and_is_recognised(one: bytes, other: bytes) -> None:
    name = sftp.temporary(one)
    assert sftp._OURS.fullmatch(name)
    assert len(name) < 64
    assert (name == sftp.temporary(other)) == (one == other)


@pytest.mark.parametrize("name", [b".artifactd-x.part", b"a.part", b".artifactd-" + b"0" * 32, b"x" * 32 + b".part"])
def test_a_users_name_is_not_taken_for_one_of_ours(name: bytes) -> None:
    assert not sftp._OURS.fullmatch(name)


@pytest.mark.parametrize("path", ["../x", "a/../b", "./a", "a//b", "a\0b"])
def test_a_path_that_leaves_the_run_is_refused(home: Path, path: str) -> None:
    repository = sftp.SftpArtifactRepository("sftp://bob@host/p")
    with pytest.raises(DeliveryError, match="leaves its run") as caught:
        repository._path(path)
    assert caught.value.failure.kind is Kind.PERMANENT
