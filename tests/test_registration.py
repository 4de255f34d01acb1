"""Names and roles of models, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_logged_model_name

from artifactd.names import decode_path
from artifactd.registration import ModelMark, ModelRole, Registration, in_words, is_weights, model_name

names = st.binary(min_size=1, max_size=40).filter(
    lambda b: not {b"", b".", b".."} & {*b.split(b"/")} and b"\0" not in b
)


@given(names)
def test_mlflow_takes_each_name_and_each_is_undone(folder: bytes) -> None:
    name = model_name(folder)
    _validate_logged_model_name(name)
    assert len(name) <= 250
    if "_x~" not in name:
        assert decode_path(name) == folder


@given(names, names)
def test_two_folders_never_share_a_name(one: bytes, other: bytes) -> None:
    assert (model_name(one) == model_name(other)) == (one == other)


def test_long_paths_have_names_of_their_own() -> None:
    a, b = b"a" * 300, b"a" * 299 + b"b"
    assert model_name(a) != model_name(b)
    assert max(len(model_name(a)), len(model_name(b))) <= 250


def test_plain_folders_keep_their_names() -> None:
    assert [model_name(f) for f in (b"", b"model", b"a/b", b"v1.2")] == ["model", "model", "a_x2F_b", "v1_x2E_2"]


@pytest.mark.parametrize("number", [None, 7])
def test_roles_and_marks_are_read_back(number: int | None) -> None:
    role = ModelRole(3, number, Registration("r").token)
    assert ModelRole.of(str(role)) == role
    assert role.folder(b"e/r/m/data/x") == b"e/r/m"
    registration = Registration("r", ("a", "b"), (("k", "v"),), number)
    assert Registration.from_text(registration.to_text()) == registration
    mark = ModelMark("m-1", "r", "2")
    assert ModelMark.from_bytes(mark.to_bytes()) == mark


@pytest.mark.parametrize("role", ["", "params", "dataset:training", "unwhole:x", "weights:[]"])
def test_other_roles_are_none_of_a_model(role: str) -> None:
    assert ModelRole.of(role) is None


def test_a_number_that_differs_is_told() -> None:
    assert ModelMark("m-1").sentence(None) == "It is part of the logged model m-1"
    assert ModelMark("m-1", "r", "2").sentence(2).endswith("version 2 of r")
    assert ModelMark("m-1", "r", "2").sentence(5).endswith("version 2 of r, which its folder calls 5")


def test_the_token_is_one_for_all_numbers_of_a_route() -> None:
    route = Registration("r", ("a",))
    assert route.numbered("3").token == route.numbered("4").token != Registration("r", ("b",)).token
    assert route.numbered("007").number == 7
    assert route.numbered(None) == route


def test_weights_are_told_by_their_suffix() -> None:
    assert [is_weights(n) for n in (b"a.pkl", b"A.SafeTensors", b"a.txt", b"a.png", b"pkl")] == [
        True, True, True, False, False
    ]  # fmt: skip
    assert [in_words(r) for r in ("model:3::ab", "weights:[]", "dataset:training", "metrics:trainer")] == [
        "model", "model", "dataset:training", "metrics"
    ]  # fmt: skip
