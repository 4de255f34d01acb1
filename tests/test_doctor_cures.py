"""What mends a finding, in the source of all of them: never nothing, and what a shell is to take, it takes whole.

Texts that are made when a finding is are looked at where that is tested.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifactd import doctor
from artifactd.doctor.finding import Finding, Level, notice, wrong
from cures import mends

FOLDER = Path(doctor.__file__).parent
MAKERS = {"notice": 2, "wrong": 2, "lasting": 5}
"""Which argument is the cure, unless it has its name."""
PLACE = "X"


def found_in(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line of each finding that is made there, and the texts of its cure, as far as they stand there."""
    module = importlib.import_module(f"artifactd.doctor.{path.stem}")
    tree = ast.parse(path.read_text())
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        here = {
            target.id: node.value
            for node in ast.walk(function) if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)
        }  # fmt: skip
        for node in ast.walk(function):
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name in MAKERS and len(node.args) + len(node.keywords) > 2:
                cure = next((word.value for word in node.keywords if word.arg == "cure"), None)
                yield node.lineno, texts(cure or node.args[MAKERS[name]], here, vars(module))


def texts(cure: ast.expr, here: dict[str, ast.expr], module: dict[str, object]) -> list[str]:
    match cure:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(one_of(part, here, module) for part in parts)]
        case ast.Name(id=name) if name in here:
            return texts(here[name], {}, module)
        case ast.Name(id=name):
            return [str(module[name])] if name in module else []
        case ast.BoolOp(values=several):
            return [text for one in several for text in texts(one, here, module)]
        case ast.IfExp(body=one, orelse=other):
            return texts(one, here, module) + texts(other, here, module)
    return []


def one_of(part: ast.expr, here: dict[str, ast.expr], module: dict[str, object]) -> str:
    known = texts(part.value if isinstance(part, ast.FormattedValue) else part, here, module)
    return known[0] if known else PLACE


ALL = [
    pytest.param(text, id=f"{path.name}:{line}")
    for path in sorted(FOLDER.glob("*.py"))
    for line, several in found_in(path)
    for text in several
]


@pytest.mark.parametrize("cure", ALL)
def test_each_mends(cure: str) -> None:
    mends(cure)


def test_none_is_passed_over() -> None:
    for path in FOLDER.glob("*.py"):
        made = re.findall(r"(?:yield|return) (?:notice|wrong)\(", path.read_text())
        assert len(list(found_in(path))) >= len(made), path
    assert len(ALL) > 50


@pytest.mark.parametrize("made", [notice, wrong])
def test_what_has_none_is_to_be_reported(made: Callable[[str, str, str], Finding]) -> None:
    found = made("it", "it is broken", "")
    assert found.level is not Level.OK
    mends(found.cure)
