"""What may be said of models: MLflow's own rules, in sentences, before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
    _validate_model_name,
    _validate_model_version_tag,
)

from artifactd.config import ConfigError, WatchConfig, layout_of, load_config
from artifactd.layout import Destination
from artifactd.registration import Registration


def told(tmp_path: Path, toml: str, *, watch: str = "") -> list[tuple[str, str]]:
    file = tmp_path / "config.toml"
    file.write_text(f'[[watch]]\npath = "/data"\n{watch}\n[[watch.route]]\n{toml}\n')
    try:
        load_config(file)
    except ConfigError as error:
        return [(p.key.removeprefix("watch[0].route[0]."), f"{p.wrong}: {p.instead}") for p in error.problems]
    return []


def accepts(check: Any, *args: str) -> bool:
    try:
        check(*args)
    except MlflowException:
        return False
    return True


@pytest.mark.parametrize("name", ["classifier", "a b", "ünï", "a/b", "a:b", "", " ", ".", "..", "a.b"])
def test_a_registered_name_is_accepted_as_mlflow_accepts_it(tmp_path: Path, name: str) -> None:
    problems = told(tmp_path, f'match = "m/**"\nkind = "model"\nregister = "{name}"')
    assert (not problems) == accepts(_validate_model_name, name)
    assert all(key == "register" for key, _ in problems)


@pytest.mark.parametrize("alias", ["champion", "a-b_c", "v1", "V22", "latest", "LATEST", "a b", "", "é!"])
def test_an_alias_is_accepted_as_mlflow_accepts_it(tmp_path: Path, alias: str) -> None:
    problems = told(tmp_path, f'match = "m/**"\nkind = "model"\nregister = "r"\naliases = ["{alias}"]')
    allowed = accepts(_validate_model_alias_name, alias) and accepts(_validate_model_alias_name_reserved, alias)
    assert (not problems) == allowed


@pytest.mark.parametrize("key", ["team", "a/b", "a.b", "a b", "/a", "a//b", "x!", "artifactd.model", "mlflow.x"])
def test_a_tag_is_accepted_as_mlflow_accepts_it_and_is_not_ours(tmp_path: Path, key: str) -> None:
    problems = told(tmp_path, f'match = "m/**"\nkind = "model"\nregister = "r"\ntags = {{ "{key}" = "1" }}')
    allowed = accepts(_validate_model_version_tag, key, "1") and not key.startswith(("artifactd.", "mlflow."))
    assert (not problems) == allowed


@pytest.mark.parametrize(
    ("toml", "key", "words"),
    [
        ('match = "a"\nkind = "params"\nregister = "r"', "register", 'kind is "params": remove register'),
        ('match = "a"\nkind = "model"\naliases = ["c"]', "aliases", "which registered model is meant"),
        ('match = "a"\nkind = "model"\ntags = { a = "b" }', "tags", "which registered model is meant"),
        ('match = "a"\nkind = "model"\nartifact_path = "p"', "kind", "remove artifact_path"),
        ('match = "a{version}/{version}"\nkind = "model"\nregister = "r"', "register", "more than once"),
        ('match = "a"\nkind = "model"\nregister = "r"\ntags = 3', "tags", 'write tags = {"team": "vision"}'),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path: Path, toml: str, key: str, words: str) -> None:
    ((where, said),) = told(tmp_path, toml)
    assert where == key
    assert words in said


def test_a_single_file_is_registered_only_where_its_contents_are_kept(tmp_path: Path) -> None:
    route = 'match = "weights/*.pkl"\nkind = "model"\nregister = "r"'
    ((_, said),) = told(tmp_path, route)
    assert 'on_change = "version"' in said
    assert told(tmp_path, route, watch='on_change = "version"') == []
    assert told(tmp_path, 'match = "*.pkl"\nkind = "model"') == []


def test_a_route_says_what_becomes_of_its_models() -> None:
    route = {"match": "m_v{version}/**", "kind": "model", "register": "r", "aliases": ["a"], "tags": {"t": "1"}}
    layout = layout_of(WatchConfig.model_validate({"path": "/data", "route": [route]}))
    placed = layout.place(b"e/r/m_v12/MLmodel")
    assert isinstance(placed, Destination)
    assert placed.registration == Registration("r", ("a",), (("t", "1"),), 12)
    assert layout.place(b"e/r/m_vx/MLmodel").kind == "artifact"  # type: ignore[union-attr]
    other = layout_of(WatchConfig.model_validate({"path": "/data", "route": [{**route, "aliases": ["b"]}]}))
    assert other.fingerprint != layout.fingerprint, "what is configured anew is looked at anew"
