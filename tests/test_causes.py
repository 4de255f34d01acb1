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
ENDERS = {
    "ArtifactdError", "UnreachableError", "UnknownError", "LedgerError", "InstallError", "NurseryError",
    "NotStoredError",
}  # fmt: skip
"""What ends a command or the service; wrong usage says itself what to write instead."""
FINDERS = {"wrong"}
"""What `doctor` finds wrong: the subject, and what is wrong with it."""
SAYS_IT_ALL = frozenset({
    # What was asked for is not there, or is more than one: the error names what there is.
    "there is no model x", "there is no artifact x in it", "x is no glob: x", "x holds x runs",
    "the registered model x has no version yet",
    # `ui`
    "there is no embedded store in x yet", "a x database has no UI of its own",
    "MLflow's server does not run; its last words:\nx",
    # A place that was named cannot be written.
    "x cannot be written to: x", "x cannot be written: x", "x cannot be made: x",
    # What this user may not open: whose it is, who this is, and what mends it.
    "x: x, and this is x", "x: x, and its folder to x, who this is",
    # Mistakes of the installation, or of ours.
    "there is no systemd here",
    "the page of x is not in x", "this program's own path is not known", "x is not held",
    "there is no process to bear a worker", "the thread that serves metrics has died: x",
    "there is no memory for the thread that serves metrics",
    # What others say stands in it, with its code.
    "x: x", "run x: x", "x is in use: x", "no artifactd works with x, x",
    # `doctor` names what it looked at, and has the command that mends it.
    "x: x cannot be read: x", "x cannot be read: x", "the token in x cannot be read: x", "it is not there",
    "it is no folder", "its filesystem is mounted read-only", "x and x are one folder under two names (a bind mount?)",
    "x is not what MLflow can read, so no request can be made", "x ended x ago (x)",
    "a body of x did not get through: x", "x x failed, and time alone does not mend that",
    "x belongs to x, and the folder to x: a service that may not open it is kept from its work",
    "there is no program x in PATH, so x", "x is no file, so x", "x holds nothing, so x", "x is not there, so x",
    "it lies on x, which several hosts may write to: SQLite's ledger needs the memory and the locks of one host",
})  # fmt: skip


def said(names: set[str], argument: int) -> Iterator[tuple[str, str]]:
    """What an argument of each call of these names says, what differs being x, with its place."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or len(node.args) <= argument:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in names and (text := written(node.args[argument])):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", text


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


@pytest.mark.parametrize(("place", "error"), [*said(ENDERS, 0), *said(FINDERS, 1)])
def test_what_ends_a_command_or_is_found_wrong_has_a_code_unless_it_says_it_all(place: str, error: str) -> None:
    has_code = code_of(f"x {error}") is not None
    assert has_code is not (error in SAYS_IT_ALL), f"{place}: {'both' if has_code else 'no code'}: {error}"


def test_nothing_is_excused_that_is_not_said() -> None:
    found = {error for _, error in [*said(ENDERS, 0), *said(FINDERS, 1)]}
    assert [error for error in SAYS_IT_ALL if error not in found] == []


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
