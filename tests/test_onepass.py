from __future__ import annotations

import pytest

from artifactd.errors import Kind
from artifactd.ledger import Blockage, FileId, FileView, State
from artifactd.onepass import Progress, Result, _concerns
from artifactd.watching.signature import Signature

FILE = FileView(
    FileId(1, b"a"), 1, b"/d/a", State.DUE, 1, Signature(1, 1, 1, 1), "e", "r", None, None, "a", None, None, None, 1.0,
    0, None, None, None, None,
)  # fmt: skip
DOWN = Blockage(Kind.TRANSIENT, "cannot be reached", "", 3, 9.0)
REFUSED = Blockage(Kind.PAUSED, "401", "", 1, 9.0)


@pytest.mark.parametrize(
    ("failed", "left", "blockage", "away", "code"),
    [
        (0, 0, None, 0, 0),
        (0, 0, DOWN, 0, 0),
        (1, 0, None, 0, 3),
        (0, 1, None, 0, 3),
        (0, 1, DOWN, 0, 75),
        (1, 1, DOWN, 0, 3),
        (0, 1, REFUSED, 0, 3),
        (0, 0, None, 1, 3),
        (0, 1, DOWN, 1, 3),
    ],
)
def test_the_exit_code_says_what_is_left_and_why(
    failed: int, left: int, blockage: Blockage | None, away: int, code: int
) -> None:
    result = Result(Progress(), [FILE] * failed, [FILE] * left, [], blockage, {b"/gone": "away"} if away else {})
    assert result.exit_code == code


def test_a_run_that_was_not_told_something_is_left() -> None:
    assert Result(Progress(), runs=[b"/d/e/r"]).exit_code == 3
    assert Result(Progress(), runs=[b"/d/e/r"], blockage=DOWN).exit_code == 75


@pytest.mark.parametrize(
    ("below", "concerns"),
    [(None, True), (b"/d", True), (b"/d/e/r", True), (b"/d/e/r/plots", True), (b"/d/e/r2", False), (b"/d/f", False)],
)
def test_a_pass_over_one_folder_answers_for_its_runs_alone(below: bytes | None, concerns: bool) -> None:
    assert _concerns(b"/d/e/r", below) is concerns
