"""Globs: what cannot be used is refused in a sentence, and all of them at once match what each does."""

from __future__ import annotations

import re

import pytest

from artifactd.globs import GlobError, as_text, check_glob, compile_glob, union


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("#x", "a comment in gitignore: write '\\#'"),
        ("a\nb", "one pattern for each line"),
        ("/", "it can match nothing"),
        ("!", "it can match nothing"),
        ("a//b", "it can match nothing"),
        ("./a", "it can match nothing"),
        ("a/../b", "it can match nothing"),
        ("a/**/", "write '/**' for all that is in a folder"),
        ("a[", "look at its brackets"),
        ("[z-a]", "look at its brackets"),
        ("[[:alpha:]]", "look at its brackets"),
        ("a\\", "look at its brackets and backslashes"),
    ],
)
def test_a_glob_that_cannot_be_used_is_named(pattern: str, reason: str) -> None:
    assert reason in (check_glob(pattern) or "")
    with pytest.raises(GlobError, match=re.escape(reason)):
        compile_glob(pattern)


@pytest.mark.parametrize(
    "pattern", ["**", "*", "**/*.tmp", "/a/", "!keep", "a b", "**/", "*/", "[!a-c]", "a/**/b", "日本"]
)
def test_a_glob_that_can_be_used_passes(pattern: str) -> None:
    assert check_glob(pattern) is None


def test_several_at_once_match_what_one_of_them_does() -> None:
    both = union(map(compile_glob, ("*.tmp", "cache/")))
    assert all(both.match(as_text(path)) for path in (b"a.tmp", b"\xff\n.tmp", b"cache/"))
    assert not any(both.match(as_text(path)) for path in (b"a.txt", b"cache", b""))
    assert not union(()).match("a")
