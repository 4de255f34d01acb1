"""No server's word makes a store of the state folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.environment import EMBEDDED, STATE
from artifactd.tracking.own import refuse_state_folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv(STATE, str(folder))
    return folder


@pytest.mark.parametrize(
    ("root", "how"), [("state", "lies in"), ("state/x/run/artifacts", "lies in"), ("state/artifacts/x", "lies in"),
                      (".", "holds"), ("link", "lies in"), ("state/../state/x", "lies in")],
)  # fmt: skip
def test_what_it_is_in_or_what_is_in_it_is_refused_in_words(root: str, how: str, tmp_path: Path, state: Path) -> None:
    (tmp_path / "link").symlink_to(state)
    with pytest.raises(DeliveryError) as caught:
        refuse_state_folder(str(tmp_path / root))
    failure = caught.value.failure
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.RUN)
    assert f"{how} artifactd's own state folder ({state})" in failure.error
    assert "another artifact location" in failure.cure


@pytest.mark.parametrize("root", ["elsewhere", "state-of-others/x", "statement"])
def test_what_is_beside_it_is_not(root: str, tmp_path: Path) -> None:
    refuse_state_folder(str(tmp_path / root))


def test_the_embedded_store_is_the_one_that_lies_in_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMBEDDED, str(state / "artifacts"))
    refuse_state_folder(str(state / "artifacts" / "1" / "run" / "artifacts"))
    with pytest.raises(DeliveryError):
        refuse_state_folder(str(state / "artifacts-2"))
    with pytest.raises(DeliveryError):
        refuse_state_folder(str(state))


def test_where_there_is_none_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATE)
    refuse_state_folder(str(tmp_path / "state"))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_it_is_refused_before_anything_is_written(scheme: str, state: Path) -> None:
    with pytest.raises(DeliveryError, match="own state folder"):
        RunArtifacts(f"{scheme}{state}/x", "http://127.0.0.1:1")
    assert os.listdir(state) == []
