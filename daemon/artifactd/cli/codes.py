"""What ``artifactd explain AD301`` prints: the page of that code, which comes with the package."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from artifactd import __version__
from artifactd.causes import CAUSES
from artifactd.cli import common
from artifactd.errors import ArtifactdError, UsageError

_FORM = re.compile(r"AD[0-9]{3}")
_LINK = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "codes", _PACKAGE.parents[1] / "docs" / "errors")
"""Where pages are: as it was installed, or in a checkout."""


@dataclass(frozen=True, slots=True)
class Page:
    """What there is to say of a code.

    Attributes:
        code: As ``AD301``.
        title: What happened, in some words.
        text: What happened, why, and what to do: Markdown without links.
    """

    code: str
    title: str
    text: str


def is_code(word: str) -> bool:
    """Whether a word is meant for a code: it has the form of one, and is the name of nothing in the current folder."""
    return _FORM.fullmatch(word) is not None and not os.path.lexists(word)


def page(code: str) -> Page:
    """The page of a code.

    Args:
        code: Of the form of one.

    Raises:
        UsageError: There is no such code.
        ArtifactdError: The pages are not where they were installed.
    """
    titles = {cause.code: cause.what for cause in CAUSES}
    if code not in titles:
        near = min(titles, key=lambda other: abs(int(other[2:]) - int(code[2:])))
        raise UsageError(
            f"artifactd {__version__} has no code {code}",
            f"The nearest is {near}: {titles[near]}. docs/errors/index.md has all",
        )
    files = [folder / f"{code}.md" for folder in _FOLDERS]
    for file in files:
        if file.is_file():
            _, _, text = file.read_text(encoding="utf-8").partition("\n")
            return Page(code, titles[code], _LINK.sub(_without_link, text).strip())
    raise ArtifactdError(f"the page of {code} is not in {files[0].parent}", "Install artifactd anew: it comes with it")


def show(page: Page) -> None:
    """Print a page: laid out on a terminal, else as it was written, so that it can be searched and piped."""
    text = f"# {page.code}: {page.title}\n\n{page.text}\n"
    console = common.out()
    if not console.is_terminal:
        sys.stdout.write(text)
        return
    from rich.markdown import Markdown  # noqa: PLC0415 (for this alone)

    console.print(Markdown(text))


def _without_link(link: re.Match[str]) -> str:
    """Where a link leads, for who has no site: pages name each other by where they lie."""
    path, _, _ = link[2].partition("#")
    return f"{link[1]} ({os.path.normpath(os.path.join('docs/errors', path))})"
