"""One client of an SDK for a process, made anew when the credentials that it rests on change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactd.tracking.refusals import UnusableError
from artifactd.tracking.sdks.shared import Shared


class Client:
    """Knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("first")
    return path


@pytest.fixture
def shared(keys: Path) -> Shared:
    return Shared(("STORE_",), lambda _: [str(keys), "~/not/there"])


def test_it_is_made_once_for_each_account(shared: Shared) -> None:
    first = shared.get("a", Client)
    assert shared.get("a", Client) is first
    assert shared.get("b", Client) is not first


def test_other_keys_on_disk_make_another_one_and_close_the_first(shared: Shared, keys: Path) -> None:
    first = shared.get("a", Client)
    new = keys.with_name("new")
    new.write_text("other")
    os.utime(new, ns=(keys.stat().st_atime_ns, keys.stat().st_mtime_ns))
    new.rename(keys)  # as long as the first, and of the same time
    second = shared.get("a", Client)
    assert second is not first
    assert first.closed
    keys.unlink()
    assert shared.get("a", Client) is not second


def test_a_variable_counts_only_if_it_is_the_stores(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shared.get("a", Client)
    monkeypatch.setenv("OTHER_KEY", "1")
    assert shared.get("a", Client) is first
    monkeypatch.setenv("STORE_KEY", "1")
    assert shared.get("a", Client) is not first


def test_what_cannot_be_used_is_told_from_a_missing_sdk_and_made_when_it_can(shared: Shared) -> None:
    def unusable() -> Client:
        raise ValueError("no connection string")

    def missing() -> Client:
        raise ImportError("no such package")

    with pytest.raises(UnusableError, match="no connection string"):
        shared.get("a", unusable)
    with pytest.raises(ImportError):
        shared.get("a", missing)
    assert shared.get("a", Client)
