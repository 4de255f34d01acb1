"""Globs: what cannot be used is refused in a sentence, and all of them at once match what each does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.config.model import DEFAULT_EXCLUDE, DEFAULT_LIVE
from artifactd.globs import GlobError, Names, as_text, check_glob, compile_glob, union


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


@given(
    st.lists(st.text("ab.~*?[]!/\\ ", min_size=1, max_size=6), max_size=3),
    st.text("ab.~*[! \t\n", min_size=1, max_size=5),
)
def test_a_name_that_a_quick_look_rules_out_matches_none(patterns: list[str], name: str) -> None:
    globs = [glob for glob in map(compile_glob, (p for p in patterns if check_glob(p) is None)) if glob.is_name]
    text = as_text(name.encode())
    assert Names(globs).may_have(text) or not union(globs).match(text)


def test_a_quick_look_is_enough_for_names_that_no_default_speaks_of() -> None:
    usual = Names(map(compile_glob, (*DEFAULT_EXCLUDE, *DEFAULT_LIVE)))
    assert not any(map(usual.may_have, ("model.pt", "f-1.bin", "tmp", "README.md")))
    assert all(map(usual.may_have, ("a.tmp", ".tmpx", "x~", ".nfs1", "__pycache__", "train.log")))
    assert Names([compile_glob("*a*")]).may_have("b"), "what it does not know it leaves to the globs"
