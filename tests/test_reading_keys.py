"""Keys: whatever a file says, MLflow takes what comes out, and different keys stay different."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from mlflow.utils import validation

from artifactd.reading import keys
from artifactd.reading.keys import fit, plain, shown, why_reserved, why_unfit, why_unfit_value

tricky = st.lists(
    st.sampled_from(
        ["_", "x", "28", "_x28_", "_x2", "/", "//", ".", "..", "(", ")", " ", "%", "é", "\n", "🎉", "a", ":", "-"]
    ),
    max_size=10,
).map("".join)
any_key = tricky | st.text() | st.text(st.characters())


@given(any_key)
def test_what_comes_out_mlflow_takes(raw: str) -> None:
    key = fit(raw)
    assume(why_unfit(key) is None)
    validation._validate_param(key, "x")
    validation._validate_tag(key, "x")
    validation._validate_metric(key, 1.0, 0, 0)
    assert "\n" not in key


@given(any_key)
def test_the_key_comes_back_but_for_blanks_at_its_ends_and_parentheses(raw: str) -> None:
    assert plain(fit(raw)) == raw.replace("(", "").replace(")", "").strip()


@given(tricky)
def test_a_key_that_mlflow_takes_is_left_alone(raw: str) -> None:
    try:
        validation._validate_param(raw, "x")
    except validation.MlflowException:
        return
    assume(raw == raw.strip() and "\n" not in raw and "_x2" not in raw)
    assert fit(raw) == raw


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ("metrics/mAP50(B)", "metrics/mAP50B"),
        ("   train/box_loss ", "train/box_loss"),
        ("top@5", "top_x40_5"),
        ("a//b", "a_x2F_/b"),
        ("/a", "_x2F_a"),
        ("../a", "_x2E_./a"),
        ("a/..", "a/_x2E_."),
        ("a_x41", "a_x5F_x41"),
        ("größe", "größe"),
    ],
)
def test_keys_of_the_world(raw: str, key: str) -> None:
    assert fit(raw) == key


def test_the_limits_are_those_of_the_mlflow_that_is_installed() -> None:
    assert keys.MAX_KEY_CHARACTERS == validation.MAX_ENTITY_KEY_LENGTH
    assert keys.MAX_PARAM_CHARACTERS == validation.MAX_PARAM_VAL_LENGTH
    assert keys.MAX_TAG_CHARACTERS == validation.MAX_TAG_VAL_LENGTH


def test_what_is_unfit_says_why() -> None:
    assert why_unfit(fit("()")) == "it has no name"
    assert why_unfit("k" * 250) is None
    assert why_unfit("k" * 251) == "its name has 251 characters; MLflow takes 250"
    assert why_unfit_value("v" * 6001, 6000) == "it has 6001 characters; MLflow would cut it at 6000"
    assert "NUL" in (why_unfit_value("a\0", 6000) or "")
    assert "surrogate" in (why_unfit_value("\ud800", 6000) or "")


@pytest.mark.parametrize(
    ("tag", "is_reserved"),
    [("artifactd.key", True), ("mlflow.runName", True), ("mlflow.note.content", False), ("team", False)],
)
def test_tags_that_steer_are_reserved(tag: str, is_reserved: bool) -> None:
    assert (why_reserved(tag) is not None) == is_reserved


@given(st.text())
def test_a_key_in_an_errors_text_is_one_short_line(raw: str) -> None:
    assert shown(raw).isprintable()
    assert len(shown(raw * 50)) <= 82
