"""Each error that the code makes has a code, and each code a page that says what happened, why, and what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.causes import CAUSES, Cause, code_of, coded
from artifactd.tracking import refusals

PROJECT = Path(__file__).parent.parent
SOURCE = PROJECT / "daemon" / "artifactd"
PAGES = PROJECT / "docs" / "errors"
MAKERS = {"Failure", "fail", "_fails", "_failed", "_refused", "_paused", "_wrong", "_misaddressed"}
"""What makes the failure of a try: its first text is the error."""
OF_NO_KNOWN_CAUSE = re.compile(
    r"[x :]+"  # what differs alone: those who made it are looked at
    r"|its run has still to be told what it says"  # no error: what a receipt is short of
    r"|x answered x: x|it x|x refuses x+"  # a status, a finding, keys
)


def made() -> Iterator[tuple[str, str]]:
    """Each error as the source writes it, what differs being x, with its place."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in MAKERS:
                continue
            error = next((argument for argument in node.args if not is_how(argument)), None)
            if error is not None and (text := written(error)):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", text


def is_how(argument: ast.expr) -> bool:
    """Whether it says how a failure is treated, and what it concerns."""
    name = argument.value if isinstance(argument, ast.Attribute) else argument
    return isinstance(name, ast.Name) and name.id in {"Kind", "Scope", "kind", "scope", "row", "failure"}


def written(node: ast.expr) -> str:
    """The text that an expression writes; empty for another one."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(written(value) or "x" for value in values)
        case ast.BinOp(left=left):
            return written(left)
        case ast.Call(func=ast.Name(id="mask"), args=[argument]):
            return written(argument)
        case ast.IfExp(body=body):
            return written(body)
    return ""


@pytest.mark.parametrize(("place", "error"), list(made()))
def test_each_failure_has_a_code(place: str, error: str) -> None:
    if not OF_NO_KNOWN_CAUSE.fullmatch(error):
        assert code_of(f"x {error}") is not None, f"{place} makes an error without a code: {error}"


def test_each_trouble_of_a_store_has_a_code_of_its_own() -> None:
    rows = {row.what for row in vars(refusals).values() if isinstance(row, refusals._Row)}
    assert len(rows) > 15
    said = "(403 Odd, the server at 10.0.0.1 cannot be reached)"
    codes = {what: code_of(f"s3://bucket/path {what} {said}") for what in rows}
    assert [what for what, code in codes.items() if code is None] == []
    assert len(set(codes.values())) == len(rows)


def test_what_others_say_is_not_taken_for_ours() -> None:
    assert code_of("http://mlflow:5000 answered 403: Invalid Host header: x") == "AD103"
    assert code_of("http://mlflow:5000 answered 403: ann: no permission there, as it is full") == "AD104"
    assert code_of("run 12 is deleted on the server, which would hide what is sent into it") == "AD401"
    assert code_of("quite another thing") is None


def test_a_code_stands_behind_its_error_once() -> None:
    assert coded("the service's user may not read it") == "the service's user may not read it [AD301]"
    assert coded(coded("the service's user may not read it")) == "the service's user may not read it [AD301]"
    assert coded("quite another thing") == "quite another thing"


# -- pages -------------------------------------------------------------------------------------------------------------


def test_each_code_is_given_once_and_has_its_page() -> None:
    codes = [cause.code for cause in CAUSES]
    assert len(set(codes)) == len(codes)
    assert {path.stem for path in PAGES.glob("AD*.md")} == set(codes)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.code)
def test_each_page_says_what_happened_why_and_what_to_do(cause: Cause) -> None:
    text = (PAGES / f"{cause.code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {cause.code}: {cause.what}\n")
    parts = dict(re.findall(r"(?ms)^## (.+?)\n+(.*?)(?=^## |\Z)", text))
    assert list(parts) == ["What happened", "Why", "What to do"]
    assert all(len(part.split()) > 5 for part in parts.values())
