"""Mistakes: all at once, each with place, key, what is wrong and what to write instead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactd.config import Config, ConfigError, Problem, load_config
from artifactd.config.schema import all_keys
from artifactd.errors import UsageError


@pytest.fixture(autouse=True, scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home folder, and nobody's settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("ARTIFACTD_", "MLFLOW_", "XDG_")) or name == "STATE_DIRECTORY":
                patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "f.toml"


def problems(file: Path, text: str, **arguments: Any) -> dict[str, Problem]:
    """Every mistake in a file, by key."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file, **arguments)
    found = {problem.key: problem for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    for problem in found.values():
        assert problem.wrong and problem.instead, problem  # noqa: PT018 - one claim
        assert problem.reason in str(caught.value)
    return found


EVERYTHING_WRONG = """\
state_dir = "/data/drop/state"
wrokers = 3

[mlflow]
tracking_uri = "s3://bucket/x"
artifact_location = "rel/path"

[[watch]]
path = "/data/drop"
layout = "{experiment}//{run}"
settle = "5 sec"
moode = "fast"
mode = "fast"
include = "**"
exclude = [
  "a",
  "",
]

[[watch]]
path = "/data/drop/sub"
layout = "{run}"
scan_interval = 5

[[watch.route]]
artifact_path = "../x"
kind = "modl"

[retry]
initial = "10m"
[upload]
workers = 65
level = "info"
bandwidth_limit = 10
[log]
level = 3
[metrics]
listen = ":9464"
"""


STORE_ANSWER = (
    'write artifact_location = "s3://bucket/x" in [mlflow], and leave tracking_uri out for the embedded store in '
    'state_dir, or write a server, as "http://mlflow:5000"'
)


def test_all_mistakes_are_told_at_once_with_line_and_answer(file: Path) -> None:
    found = problems(file, EVERYTHING_WRONG)
    assert {key: (problem.line, problem.instead) for key, problem in found.items()} == {
        "wrokers": (2, "write workers, the nearest key, in [upload]"),
        "mlflow.tracking_uri": (
            5,
            STORE_ANSWER,
        ),
        "mlflow.artifact_location": (
            6,
            'write a URL or an absolute path, as "s3://bucket/path" or "/srv/artifacts"',
        ),
        "watch[0].path": (
            9,
            'set state_dir (--state-dir) to a folder outside of "/data/drop", or watch a folder beside it',
        ),
        "watch[0].layout": (10, 'write folder levels joined by "/", as "{experiment}/{run}"'),
        "watch[0].settle": (11, 'write it as "5s", "2m", "1h30m", "1d" or "500ms"'),
        "watch[0].moode": (12, "write mode, the nearest key"),
        "watch[0].mode": (13, "write 'auto', 'events' or 'scan'"),
        "watch[0].include": (14, 'write include = ["**"]'),
        "watch[0].exclude[1]": (15, 'write it as in a .gitignore, as "**/*.tmp"'),
        "watch[1].path": (21, "keep one of the two, so that no file is delivered twice"),
        "watch[1].experiment": (20, 'write experiment = "…" for all files, or add a level {experiment} to layout'),
        "watch[1].scan_interval": (23, 'write it with one, as "5s"'),
        "watch[1].route[0].match": (25, 'write match = "*.png"'),
        "watch[1].route[0].artifact_path": (
            26,
            'write names joined by "/", as "plots/train", or "." for the root itself',
        ),
        "watch[1].route[0].kind": (27, "write 'artifact', 'model', 'dataset', 'params', 'metrics' or 'tags'"),
        "retry.maximum": (29, 'write at least "10m", or a smaller initial'),
        "upload.workers": (32, 'write "auto" or a number from 1 to 64'),
        "upload.level": (33, "write level, the nearest key, in [log]"),
        "upload.bandwidth_limit": (34, 'write it with one, as "10B"'),
        "log.level": (36, "write 'debug', 'info', 'warning' or 'error'"),
        "metrics.listen": (38, 'write host and port, as "127.0.0.1:9464" or "[::1]:9464"'),
    }
    assert {problem.file for problem in found.values()} == {str(file)}


def test_the_text_lists_place_key_mistake_and_answer(file: Path) -> None:
    file.write_text('[[watch]]\npath = "/data"\nsettel = "1s"\nmode = "fast"\n', encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "The configuration has 2 mistakes:\n"
        f"  {file}:3: watch[0].settel: there is no such key\n"
        "    Write settle, the nearest key\n"
        f'  {file}:4: watch[0].mode: "fast" is not known\n'
        "    Write 'auto', 'events' or 'scan'"
    )
    # One line for a log.
    assert caught.value.problem == (
        f'{file}:3: watch[0].settel: there is no such key; {file}:4: watch[0].mode: "fast" is not known'
    )
    assert caught.value.cure == "write settle, the nearest key; write 'auto', 'events' or 'scan'"


@pytest.mark.parametrize("key", [".".join(str(part) for part in loc if part != 0) for loc in all_keys()])
def test_a_slip_in_any_key_is_answered_with_the_key(file: Path, key: str) -> None:
    *above, name = key.split(".")
    slip = f"{name[:-1]}{name[-1] * 2}"
    header = {"watch": "[[watch]]", "watch.route": "[[watch]]\n[[watch.route]]"}.get(
        ".".join(above), f"[{'.'.join(above)}]"
    )
    found = problems(file, f"{header if above else ''}\n{slip} = 1\n")
    (problem,) = (problem for problem in found.values() if problem.key.endswith(slip))
    assert problem.wrong == "there is no such key"
    assert problem.instead == f"write {name}, the nearest key"


@pytest.mark.parametrize(
    ("text", "key", "instead"),
    [
        ('[watch]\npath = "/data"', "watch", "write [[watch]], with two brackets"),
        ('watch = "/data"', "watch", "write [[watch]]"),
        ("watch = [1]", "watch[0]", "write [[watch]]"),
        ("retry = 5", "retry", "write [retry]"),
        ("[[retry]]\ninitial = '1s'", "retry", "write [retry]"),
        ('[[watch]]\nsettle = "1s"', "watch[0].path", 'write path = "/data/drop"'),
        ('settle = "1s"', "settle", "write settle, the nearest key, in [[watch]]"),
        (
            '[log]\nstate_dir = "/s"',
            "state_dir",
            "write state_dir, the nearest key, in the top, before the first table",
        ),
        ('[log]\nxyz = "/s"', "log.xyz", "known here are format, level"),
        ("state_dir = 5", "state_dir", 'as "/data/drop"'),
        (
            '[[watch]]\npath = "/d"\nlayout = "{run}"\nexperiment = 5',
            "watch[0].experiment",
            'write experiment = "vision"',
        ),
        ('[[watch]]\npath = "/d"\nexclude = [5]', "watch[0].exclude[0]", 'write exclude = ["**/*.tmp"'),
        ('[[watch]]\npath = "/d"\nsettle = true', "watch[0].settle", 'as "5s"'),
        ('[[watch]]\npath = "/d"\nsettle = 0.5', "watch[0].settle", 'as "0.5s"'),
        ('[[watch]]\npath = "/d"\nscan_interval = 0', "watch[0].scan_interval", 'as "5s"'),
        ("[upload]\nbandwidth_limit = inf", "upload.bandwidth_limit", 'as "10MiB"'),
        ("[retry]\ngive_up_after = 'soon'", "retry.give_up_after", 'write "never" or a duration'),
        ("[retry]\ninitial = 1979-05-27", "retry.initial", 'as "5s"'),
        ("[mlflow]\ntracking_uri = 'file:///srv/mlruns'", "mlflow.tracking_uri", "leave tracking_uri out"),
        ("[mlflow]\ntracking_uri = ['http://x']", "mlflow.tracking_uri", 'write tracking_uri = "http://mlflow:5000"'),
    ],
)
def test_each_kind_of_mistake_has_its_answer(file: Path, text: str, key: str, instead: str) -> None:
    found = problems(file, text)
    (problem,) = (problem for name, problem in found.items() if name.endswith(key))
    assert instead in problem.instead


def test_plain_zero_needs_no_unit(file: Path) -> None:
    file.write_text('[[watch]]\npath = "/data"\nsettle = 0\n[upload]\nbandwidth_limit = 0\n', encoding="utf-8")
    config = load_config(file)
    assert (config.watch[0].settle, config.upload.bandwidth_limit) == (0.0, 0)


@pytest.mark.parametrize(
    ("content", "wrong", "line"),
    [
        (b"state_dir = /data\n", "it is no TOML", 1),
        (b'a = 1\n\n[[watch]\npath = "/data"\n', "it is no TOML", 3),
        (b"a = 1\na = 2\n", "it is no TOML", 2),
        (b"a = " + b"[" * 5_000, "it is no TOML", None),
        (b"x = " + b"9" * 5_000, "it is no TOML", None),
        (b"a" + b".a" * 2_000 + b" = 1\n", "it is nested too deeply", None),
        (b'a = 1\nb = "\xff"\n', "it is no UTF-8 text", 2),
    ],
)
def test_a_file_that_is_no_toml(file: Path, content: bytes, wrong: str, line: int | None) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=wrong) as caught:
        load_config(file)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(file), line)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a folder"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "gone.toml")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="it cannot be read"):
        load_config(tmp_path / "loop")


def test_the_environments_mistakes_name_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the environment overlays is not looked at.
    file.write_text('[[watch]]\npath = "/data"\nsettle = "wrong too"\n', encoding="utf-8")
    variables = {
        "ARTIFACTD_RETRY__INITAL": "1s",
        "ARTIFACTD_RETRY_MAXIMUM": "1s",
        "ARTIFACTD_RETRY__INITIAL": "soon",
        "ARTIFACTD_WATCH__0__SETTLE": "x",
        "ARTIFACTD_WATCH__0__SETTLE__X": "x",
        "ARTIFACTD_WATCH__0__INCLUDE": "**",
        "ARTIFACTD_WATCH__0__ROUTE": '{"match": "*"}',
        "ARTIFACTD_WATCH__X__PATH": "/x",
        "ARTIFACTD_WATCH__5__PATH": "/x",
        "ARTIFACTD_LOG": '{"level": "all"}',
        "ARTIFACTD_WATCH__3__ROUTE__2__MACH": "x",
        "ARTIFACTD_": "x",
        "ARTIFACTD_NOTIFY": '{"a":' * 100 + "1" + "}" * 100,
        "ARTIFACTD_METRICS": "[" * 100_000,
        "MLFLOW_TRACKING_URI": "s3://bucket",
        "STATE_DIRECTORY": "relative",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    found = {(problem.file, problem.key): problem.instead for problem in caught.value.problems}
    assert found.keys() == {
        ("$ARTIFACTD_RETRY__INITAL", ""),
        ("$ARTIFACTD_RETRY_MAXIMUM", ""),
        ("$ARTIFACTD_RETRY__INITIAL", "retry.initial"),
        ("$ARTIFACTD_WATCH__0__SETTLE", "watch[0].settle"),
        ("$ARTIFACTD_WATCH__0__SETTLE__X", ""),
        ("$ARTIFACTD_WATCH__0__INCLUDE", "watch[0].include"),
        ("$ARTIFACTD_WATCH__0__ROUTE", "watch[0].route"),
        ("$ARTIFACTD_WATCH__X__PATH", ""),
        ("$ARTIFACTD_WATCH__5__PATH", "watch[5]"),
        ("$ARTIFACTD_LOG", "log.level"),
        ("$ARTIFACTD_WATCH__3__ROUTE__2__MACH", ""),
        ("$ARTIFACTD_", ""),
        ("$ARTIFACTD_NOTIFY", "notify"),
        ("$ARTIFACTD_METRICS", "metrics"),
        ("$MLFLOW_TRACKING_URI", "mlflow.tracking_uri"),
        ("$STATE_DIRECTORY", "state_dir"),
    }
    assert found["$ARTIFACTD_RETRY__INITAL", ""] == "write ARTIFACTD_RETRY__INITIAL, the nearest key, or unset it"
    assert found["$ARTIFACTD_RETRY_MAXIMUM", ""] == "write ARTIFACTD_RETRY__MAXIMUM, the nearest key, or unset it"
    assert found["$ARTIFACTD_WATCH__3__ROUTE__2__MACH", ""].startswith("write ARTIFACTD_WATCH__3__ROUTE__2__MATCH,")
    assert found["$ARTIFACTD_WATCH__0__INCLUDE", "watch[0].include"] == 'write ["**"]'


def test_a_missing_key_is_missed_in_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_WATCH__0__SETTLE", "1s")
    found = problems(file, '[[watch]]\nmode = "scan"\n')
    assert (found["watch[0].path"].file, found["watch[0].path"].line) == (str(file), 1)
    with pytest.raises(ConfigError) as caught:
        load_config(None)
    assert [problem.file for problem in caught.value.problems] == ["$ARTIFACTD_WATCH__0__SETTLE"]


def test_a_list_given_both_whole_and_by_index_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_WATCH", '[{"path": "/data"}]')
    monkeypatch.setenv("ARTIFACTD_WATCH__0__SETTLE", "1s")
    with pytest.raises(ConfigError, match="by another variable") as caught:
        load_config(None)
    assert [problem.file for problem in caught.value.problems] == ["$ARTIFACTD_WATCH__0__SETTLE"]


def test_flags_and_directories_are_named_too(file: Path) -> None:
    found = problems(file, "", directory=file.parent, overrides={"log": {"level": "all"}})
    assert found["log.level"].file == "the command line"
    found = problems(file, "", directory=file.parent, overrides={"state_dir": file.parent / "state"})
    assert [problem.file for problem in found.values()] == ["DIR"]
    with pytest.raises(ConfigError, match=r"DIR: .*holds the state folder"):
        load_config(None, directory=file.parent, overrides={"state_dir": file.parent / "state"})


def test_secrets_are_masked(file: Path) -> None:
    found = problems(
        file, '[mlflow]\ntracking_uri = "sftp://ann:s3cret@host/p"\nartifact_location = "mysql://a:s3cret@h/d"'
    )
    assert "s3cret" not in str(found)
    assert "sftp://ann:***@host/p" in found["mlflow.tracking_uri"].wrong
    found = problems(file, '[[watch]]\npath = "/data"\nlayout = "https://ann:s3cret@host/{run}"')
    assert "s3cret" not in str(found)


# -- folders within folders ------------------------------------------------------------------------------------------


def watching(*folders: Path, more: str = "", state: str = "/var/lib/artifactd") -> str:
    watches = "".join(f'[[watch]]\npath = "{folder}"\n' for folder in folders)
    return f'state_dir = "{state}"\n{more}\n{watches}'


def test_watches_may_lie_side_by_side(file: Path, tmp_path: Path) -> None:
    file.write_text(watching(tmp_path / "drop", tmp_path / "drop2", tmp_path / "dro"), encoding="utf-8")
    assert len(load_config(file).watch) == 3


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "link/b"), ("link", "a")])
def test_watches_must_not_overlap(file: Path, tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    found = problems(file, watching(tmp_path / first, tmp_path / "x", tmp_path / second))
    assert found.keys() == {"watch[2].path"}
    assert "watch[0].path" in found["watch[2].path"].wrong


@pytest.mark.parametrize("state", ["drop", "drop/x/state", "link/state"])
def test_a_watch_must_not_hold_the_state_folder(file: Path, tmp_path: Path, state: str) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "link").symlink_to("drop")
    found = problems(file, watching(tmp_path / "drop", state=str(tmp_path / state)))
    assert "holds the state folder" in found["watch[0].path"].wrong


def test_a_watch_must_not_hold_the_default_state_folder(file: Path) -> None:
    found = problems(file, f'[[watch]]\npath = "{os.environ["HOME"]}"\n')
    assert "holds the state folder" in found["watch[0].path"].wrong


def test_a_watch_must_not_be_among_the_embedded_stores_files(file: Path, tmp_path: Path) -> None:
    for folder in ("state/artifacts", "state/artifacts/0"):
        found = problems(file, watching(tmp_path / folder, state=str(tmp_path / "state")))
        assert "embedded store keeps its files" in found["watch[0].path"].wrong
    file.write_text(watching(tmp_path / "state/drop", state=str(tmp_path / "state")), encoding="utf-8")
    assert load_config(file).embedded


def test_a_watch_must_not_hold_the_tracking_database_or_the_artifacts(file: Path, tmp_path: Path) -> None:
    more = f'[mlflow]\ntracking_uri = "sqlite:///{tmp_path}/drop/mlflow.db"'
    assert "tracking database" in problems(file, watching(tmp_path / "drop", more=more))["watch[0].path"].wrong
    for location in (f"{tmp_path}/drop", f"{tmp_path}/drop/store", f"file://{tmp_path}/drop/my%20store"):
        more = f'[mlflow]\nartifact_location = "{location}"'
        assert "artifact_location" in problems(file, watching(tmp_path / "drop", more=more))["watch[0].path"].wrong
    more = f'[mlflow]\nartifact_location = "{tmp_path}/store"\ntracking_uri = "sqlite:///{tmp_path}/mlflow.db"'
    file.write_text(watching(tmp_path / "drop", more=more), encoding="utf-8")
    assert not load_config(file).embedded


def test_the_folders_are_compared_where_other_keys_are_wrong(file: Path, tmp_path: Path) -> None:
    text = watching(tmp_path, tmp_path / "a", more="wrong = 1", state=str(tmp_path / "state")) + 'mode = "x"\npaht = 1'
    assert problems(file, text).keys() == {"wrong", "watch[0].path", "watch[1].path", "watch[1].mode", "watch[1].paht"}


def test_a_watch_that_is_a_file_is_told(file: Path) -> None:
    assert "is no folder" in problems(file, watching(file))["watch[0].path"].wrong


def test_a_state_folder_that_a_database_url_cannot_name(file: Path, tmp_path: Path) -> None:
    assert "ends the path" in problems(file, watching(tmp_path / "drop", state="/what?"))["state_dir"].wrong


# -- anything at all -------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    sorted({str(part) for loc in all_keys() for part in loc} | {"x", "", "model_config", "self", "_env_file"})
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=5)
    | st.sampled_from(["5s", "/data", "{run}", "s3://b", "auto", "never", "*", "/data/\udcff", "\udcff"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_whatever_is_configured_the_answer_is_a_config_or_its_mistakes(data: dict[str, Any]) -> None:
    try:
        config = load_config(None, directory=Path("/data/drop"), overrides=data)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - most are wrong, some are not
        str(error).encode()
    else:
        assert isinstance(config, Config)


def test_a_database_of_ones_own_needs_a_place_for_artifacts(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    uri = "postgresql+psycopg2://db/mlflow"
    file.write_text(f'[mlflow]\ntracking_uri = "{uri}"\n[[watch]]\npath = "{tmp_path}/drop"\n')
    with pytest.raises(ConfigError, match="where artifacts are kept") as caught:
        load_config(file)
    assert [p.key for p in caught.value.problems] == ["mlflow.artifact_location"]
    file.write_text(file.read_text().replace("[mlflow]", '[mlflow]\nartifact_location = "/srv/artifacts"'))
    assert load_config(file).tracking_uri == uri


def test_one_host_of_a_fleet_gives_up_no_run(file: Path) -> None:
    found = problems(file, '[[watch]]\npath = "/d"\nrun_scope = "fleet"\nabandon_after = "6h"\n')
    assert "one host does not see whether the others live" in str(found["watch[0].abandon_after"])
    found = problems(file, '[[watch]]\npath = "/d"\nabandon_after = "soon"\nmode = "x"\n')
    assert 'write "never" or a duration' in str(found["watch[0].abandon_after"])
