"""What the pages name is there: tests with their functions, modules, targets of make."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
TESTS = PROJECT / "tests"
SOURCE = PROJECT / "daemon" / "artifactd"
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob(".github/**/*.md")])
OF_TESTS = ("security.md", "reliability.md")
"""Pages whose tables say which test shows what."""

_TEST = re.compile(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`")
_MODULE = re.compile(r"`((?:\w+/)*\w+\.py)`")
_TARGET = re.compile(r"`make ([a-z-]+)[^`]*`")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def files_called(name: str) -> tuple[str, ...]:
    """The text of each test file that may be meant by a name, or by a path that begins somewhere below ``tests/``."""
    ending = "/" + name.removeprefix("tests/")
    return tuple(text_of(path) for path in TESTS.rglob("test_*.py") if f"/{path.relative_to(TESTS)}".endswith(ending))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_that_a_page_names_is_there(page: Path) -> None:
    named = sorted(set(_TEST.findall(text_of(page))))
    gone = [
        f"{file}::{function}"
        for file, function in named
        if not any(not function or f"def {function}(" in text for text in files_called(file))
    ]
    assert gone == []


@pytest.mark.parametrize("name", OF_TESTS)
def test_these_pages_do_name_tests(name: str) -> None:
    assert len({function for _, function in _TEST.findall(text_of(PROJECT / "docs" / name)) if function}) > 30


def test_the_page_on_security_says_which_of_its_tests_are_left_out_of_the_many() -> None:
    page = text_of(PROJECT / "docs" / "security.md")
    head = page.partition("\n## ")[0]
    apart = {path.name for room in ("browser", "systemd") for path in (TESTS / room).glob("test_*.py")}
    assert {file for file, _ in _TEST.findall(page)} & apart == {file for file, _ in _TEST.findall(head)}
    for room in ("browser", "systemd"):
        assert f"--ignore=tests/{room}" in text_of(PROJECT / "Makefile")
        assert f"`make test-{room}`" in head


@pytest.mark.parametrize("name", ["security.md", "architecture.md"])
def test_each_module_that_a_page_names_is_there(name: str) -> None:
    named = {module for module in _MODULE.findall(text_of(PROJECT / "docs" / name)) if "test_" not in module}
    assert len(named) > 20
    known = [f"/{path.relative_to(SOURCE)}" for path in SOURCE.rglob("*.py")]
    assert [module for module in sorted(named) if not any(path.endswith(f"/{module}") for path in known)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_target_that_a_page_names_is_one(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", text_of(PROJECT / "Makefile")))
    assert sorted(set(_TARGET.findall(text_of(page))) - targets) == []
