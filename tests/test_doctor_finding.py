from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from artifactd.doctor.finding import Finding, Level, looked, notice, ok, wrong
from artifactd.errors import ArtifactdError


def test_secrets_are_masked_wherever_they_stand() -> None:
    found = wrong("http://u:hunter22@h", "password=hunter22", "Set http://u:hunter22@h")
    assert found == Finding("http://u:***@h", Level.WRONG, "password=***", "Set http://u:***@h")
    assert "hunter22" not in f"{ok('a', 'token=hunter22')}{notice('a', 'b', 'secret=hunter22')}"


def test_a_finding_is_data() -> None:
    with pytest.raises(FrozenInstanceError):
        ok("a", "b").detail = "c"  # type: ignore[misc]
    assert [str(level) for level in Level] == ["ok", "notice", "wrong"]


def test_what_was_found_before_a_check_failed_stays() -> None:
    def check() -> Iterator[Finding]:
        yield ok("a", "b")
        raise ArtifactdError("the ledger is damaged", "Move it away")

    assert list(looked("the ledger", check)) == [
        ok("a", "b"), notice("the ledger", "it cannot be looked at: the ledger is damaged", "Move it away"),
    ]  # fmt: skip


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (found,) = looked("it", lambda: [ok("a", (tmp_path / "none").read_text())])
    assert found.level is Level.NOTICE
    assert found.detail == f"it cannot be looked at: No such file or directory ({tmp_path}/none)"
    (found,) = looked("it", lambda: [ok("a", str(os.listdir(b"/\xff")))])
    assert "\\xff" in found.detail


def test_the_words_of_another_error_may_quote_what_was_read_and_are_not_shown() -> None:
    def check() -> Iterator[Finding]:
        raise ValueError("line 3: 'aws_secret_access_key hunter22'")
        yield

    (found,) = looked("it", check)
    assert (found.level, found.detail) == (Level.NOTICE, "it cannot be looked at (ValueError)")
    assert "--bundle" in found.cure
