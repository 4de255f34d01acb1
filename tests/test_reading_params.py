"""Params and tags: each format's file says the same, the bad ones are named, and nothing is ever executed."""

from __future__ import annotations

import json
import string
import tomllib
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_param, _validate_tag

from artifactd.reading.params import Entries, read_params, read_tags
from artifactd.reading.problems import Unreadable

LIGHTNING = b"""\
batch_size: 32
betas: !!python/tuple
- 0.9
- 0.999
act: !!python/name:torch.nn.modules.activation.ReLU ''
device: !!python/object/apply:torch.device
- cpu
lr: 0.001
model:
  dropout: 1e-1
  layers: &id001
  - 64
  - 32
other: *id001
run: !!python/object/apply:os.system ["touch PWNED"]
unknown: !thing {a: 1}
scheduler: null
"""
ULTRALYTICS = b"""\
task: detect
mode: train
model: yolo11n.pt
epochs: 3
time: null
batch: 16
imgsz: 640
save: true
lr0: 0.01
fliplr: 0.5
freeze: null
classes: [0, 2]
save_dir: runs/detect/train
"""


def told(text: bytes, name: bytes) -> dict[str, str]:
    read = read_params(text, name)
    assert read.problems == ()
    return dict(read.entries)


def test_lightnings_hparams_are_data_and_no_tag_is_executed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(LIGHTNING, b"hparams.yaml") == {
        "batch_size": "32",
        "betas": "[0.9, 0.999]",
        "act": "torch.nn.modules.activation.ReLU",
        "device": '["cpu"]',
        "lr": "0.001",
        "model.dropout": "1e-1",
        "model.layers": "[64, 32]",
        "other": "[64, 32]",
        "run": '["touch PWNED"]',
        "unknown.a": "1",
        "scheduler": "None",
    }
    assert list(tmp_path.iterdir()) == []


def test_ultralytics_args() -> None:
    entries = told(ULTRALYTICS, b"args.yaml")
    assert entries["save"] == "True"
    assert entries["time"] == "None"
    assert entries["classes"] == "[0, 2]"
    assert list(entries)[:3] == ["task", "mode", "model"]


def test_each_format_says_the_same() -> None:
    wanted = {"lr": "0.001", "model.name": "net", "model.layers": "[64, 32]", "debug": "False"}
    assert told(b'{"lr": 1e-3, "model": {"name": "net", "layers": [64, 32]}, "debug": false}', b"p.json") == wanted
    assert told(b"lr: 0.001\nmodel:\n  name: net\n  layers: [64, 32]\ndebug: no\n", b"p.YML") == wanted
    assert told(b'lr = 1e-3\nmodel.name = "net"\nmodel.layers = [64, 32]\ndebug = false', b"p.toml") == wanted | {
        "debug": "False"
    }
    assert (
        told(b"export lr=\"0.001\" # rate\n# no\nmodel.name=net\nmodel.layers='[64, 32]'\ndebug = False\n", b".env")
        == wanted
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (b'\n {"a": 1}', "a", "1"),
        (b"# c\n[a]\nb = 2", "a.b", "2"),
        (b"a = 'x: y'", "a", "x: y"),
        (b"A=b c", "A", "b c"),
        (b"a: b=c", "a", "b=c"),
        (b"\xef\xbb\xbfa: 1", "a", "1"),
    ],
)
def test_without_a_suffix_the_content_decides(text: bytes, key: str, value: str) -> None:
    assert told(text, b"params") == {key: value}
    assert told(text, b"params.txt") == {key: value}


def test_lists_of_tables_are_told_one_by_one_and_the_empty_ones_as_they_are() -> None:
    text = b'{"a": [{"n": 1}, [2, {"m": 3}]], "b": [[1, 2], [3]], "c": {}, "d": [], "e": {"f": {}}}'
    assert told(text, b"a.json") == {"a.0.n": "1", "a.1.0": "2", "a.1.1.m": "3", "b": "[[1, 2], [3]]"} | {
        "c": "{}",
        "d": "[]",
        "e.f": "{}",
    }


def test_a_table_without_a_name_is_a_level_all_the_same() -> None:
    assert told(b'{"": {"a": 1}, "a": 2}', b"a.json") == {".a": "1", "a": "2"}


def test_the_good_ones_go_and_the_bad_ones_are_named() -> None:
    long = "k" * 251
    data = {"ok": 1, "big": "v" * 6001, long: 1, "": 2, "nul": "a\0b", "top@5": 3, "half": "\ud800"}
    read = read_params(json.dumps(data).encode(), b"p.json")
    assert read.entries == (("ok", "1"), ("top_x40_5", "3"))
    assert [str(problem) for problem in read.problems] == [
        "'big': it has 6001 characters; MLflow would cut it at 6000",
        f"'{'k' * 79}…': its name has 251 characters; MLflow takes 250",
        "'': it has no name",
        "'nul': it has a NUL character, which databases refuse",
        "'half': it has half of a surrogate pair, which is no character",
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"a": {"b": 1}, "a.b": 2, "c": 3}', b"p.json"),
        (b'{"a.b": 1, "a.b": 2, "c": 3}', b"p.json"),
        (b"a.b: 1\na.b: 2\nc: 3", b"p.yaml"),
        (b"a.b=1\nc=3\na.b=2", b"p.env"),
    ],
)
def test_of_two_values_of_a_key_the_first_is_told_and_the_other_named(text: bytes, name: bytes) -> None:
    read = read_params(text, name)
    assert dict(read.entries) == {"a.b": "1", "c": "3"}
    assert [str(problem) for problem in read.problems] == ["'a.b': the key 'a.b' stands twice, with different values"]
    assert read_params(text.replace(b"2", b"1"), name).problems == ()


def test_a_name_over_names_is_not_followed_without_end() -> None:
    read = read_params(json.dumps({"k" * 2001: {"a": 1, "b": 2}, "c": 3}).encode(), b"p.json")
    assert read.entries == (("c", "3"),)
    assert [problem.reason for problem in read.problems] == ["its name has 2001 characters; MLflow takes 250"]


def test_yaml_merges_are_written_out_and_ones_own_keys_win() -> None:
    text = b"base: &b {x: 1, y: 2}\nnet:\n  <<: *b\n  y: 3\nboth:\n  <<: [{x: 5}, *b]\n"
    assert told(text, b"p.yaml") == {"base.x": "1", "base.y": "2", "net.x": "1", "net.y": "3"} | {
        "both.x": "5",
        "both.y": "2",
    }


def test_yaml_keys_dates_and_sets_are_as_written() -> None:
    text = b"on: 1\n2: a\nwhen: 2024-13-45\ntags: !!set {a, b}\nbad: !!int abc\nb: !!bool maybe\nraw: !!binary aGk=\n"
    assert told(text, b"p.yaml") == {"on": "1", "2": "a", "when": "2024-13-45", "tags": '["a", "b"]', "bad": "abc"} | {
        "b": "maybe",
        "raw": "aGk=",
    }


BOMB = b"a: &a [1,2,3,4,5,6,7,8,9,0]\n" + b"".join(
    b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (c + 1, c + 1, *[c] * 9) for c in range(97, 115)
)
MERGES = b"a: &a {x: 1}\n" + b"".join(
    b"%c: &%c {<<: [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]}\n" % (c + 1, c + 1, *[c] * 9) for c in range(97, 115)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "unfolds to more than 100,000 values"),
        (MERGES, "unfolds to more than 100,000 values"),
        (b"a: &a [*a]", "an alias stands inside what it names"),
        (b"[" * 100_000, "nest"),
        (b"a: " + b"[" * 200 + b"]" * 200, "nested more than 100 levels deep"),
        (b"? [a]\n: 1", "a key is a list or a mapping"),
        (b"a: 1\n--- \nb: 2", "found another document"),
        (b"a: \xff", "byte 3 is not UTF-8"),
        (b"a: 'x", "line 1"),
        (b"- 1", "holds a list"),
        (b"<<: 1", "must name a mapping"),
        (b"a: \x00", "not YAML"),
        (b"x" * (1024 * 1024 + 1), "longer than 1024 KiB"),
    ],
)
def test_hostile_or_broken_yaml_is_a_sentence(text: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as error:
        read_params(text, b"p.yaml")
    assert reason in str(error.value)


@pytest.mark.timeout(20)
def test_a_number_without_end_takes_no_time() -> None:
    assert read_params(b"a: 1" + b":59" * 300_000, b"p.yaml").problems[0].reason.startswith("it has 900001 char")


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        (b"", b"p.json", "line 1: not JSON: Expecting value (column 1)"),
        (b'{"a": 1,\n "b": sesame}', b"p.json", "line 2: not JSON: Expecting value (column 7)"),
        (b'{"a": ' + b"9" * 5000 + b"}", b"p.json", "thousands of digits"),
        (b'{"a":' * 100_000, b"p.json", "nested too deeply"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, b"p.json", "nested more than 100 levels deep"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", b"p.json", "nested more than 100 levels deep"),
        (b"a = 1\nb = sesame", b"p.toml", "line 2: not TOML: Invalid value"),
        (b"a = 1\na = 2", b"p.toml", "not TOML: Cannot overwrite a value"),
        (b"a = " + b"[" * 50_000, b"p.toml", "nested too deeply"),
        (b"a." * 500 + b"b = 1", b"p.toml", "nested"),
        (b"a." * 40_000 + b"b = 1", b"p.toml", "TOML of more than 64 KiB. Write JSON or YAML"),
        (b"sesame open", b"p.env", "line 1: it is not KEY=value"),
        (b"a\n\xc3(", b"p.env", "line 2: byte 2 is not UTF-8"),
    ],
)
def test_a_broken_file_names_its_place_and_no_value(text: bytes, name: bytes, wanted: str) -> None:
    with pytest.raises(Unreadable) as error:
        read_params(text, name)
    assert wanted in str(error.value)
    assert "sesame" not in str(error.value)


def test_a_broken_line_of_an_env_file_is_named_and_the_rest_goes() -> None:
    read = read_params(b'A=1\n\n\nopen sesame\nB\nC="x\\ny"\n', b".env.local")
    assert read.entries == (("A", "1"), ("C", "x\ny"))
    assert [str(problem) for problem in read.problems] == [
        "line 4: it is not KEY=value",
        "line 5: it is not KEY=value",
    ]


@pytest.mark.parametrize("name", [b"p.yaml", b"p.toml", b"p.env", b"p"])
def test_an_empty_file_says_nothing(name: bytes) -> None:
    assert read_params(b"", name).entries == ()
    assert read_params(b"# nothing\n", name).entries == ()


def test_tags_may_be_longer_and_may_not_steer() -> None:
    data = {"a": "v" * 8000, "b": "v" * 8001, "mlflow.runName": "x", "artifactd.key": "y", "mlflow.note.content": "hi"}
    read = read_tags(json.dumps(data).encode(), b"t.json")
    assert [key for key, _ in read.entries] == ["a", "mlflow.note.content"]
    assert [problem.place for problem in read.problems] == ["'b'", "'mlflow.runName'", "'artifactd.key'"]


plain_keys = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=8).filter(
    lambda k: "_x" not in k
)
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
)
trees = st.dictionaries(plain_keys, st.recursive(scalars, lambda some: st.dictionaries(plain_keys, some, max_size=4)))


def flat(tree: dict[str, Any], path: str = "") -> dict[str, str]:
    out = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            out.update(flat(value, f"{path}{key}."))
        else:
            out[f"{path}{key}"] = str(value)
    return out


@given(trees)
def test_json_and_yaml_of_any_tree_say_what_log_params_would_get(tree: dict[str, Any]) -> None:
    assert told(json.dumps(tree).encode(), b"p.json") == flat(tree)
    assert told(yaml.safe_dump(tree, sort_keys=False).encode(), b"p.yaml") == flat(yaml.safe_load(yaml.safe_dump(tree)))


@given(st.binary() | st.text().map(str.encode), st.sampled_from([b"p.json", b"p.yaml", b"p.toml", b"p.env", b"p"]))
def test_any_file_gives_entries_that_mlflow_takes_or_a_sentence(data: bytes, name: bytes) -> None:
    try:
        params, tags = read_params(data, name), read_tags(data, name)
    except Unreadable as error:
        params = tags = Entries((), (error.problem,))
    for key, value in params.entries:
        assert _validate_param(key, value).value == value
    for key, value in tags.entries:
        assert _validate_tag(key, value).value == value
    for problem in params.problems + tags.problems:
        assert "\n" not in str(problem)


@given(st.text("=[]{}'\"#.:\n ab1-", max_size=40))
def test_toml_is_read_as_python_reads_it(text: str) -> None:
    try:
        wanted = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(Unreadable):
            read_params(text.encode(), b"p.toml")
        return
    read = read_params(text.encode(), b"p.toml")
    assert bool(wanted) == bool(read.entries or read.problems)
