"""Where configuration comes from, and what goes before what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactd.config import Config, ConfigError, WatchConfig, load, load_config


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder, and nobody's settings."""
    for name in os.environ:
        if name.startswith(("ARTIFACTD_", "MLFLOW_", "XDG_")) or name == "STATE_DIRECTORY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("artifactd.config.load.SYSTEM_FILE", tmp_path / "etc" / "config.toml")
    return tmp_path / "home"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(
        tmp_path / "f.toml",
        """
        state_dir = "/var/lib/artifactd"
        [mlflow]
        tracking_uri = "http://file:5000"
        [[watch]]
        path = "/data/a"
        settle = "1m"
        mode = "scan"
        [[watch.route]]
        match = "*.png"
        artifact_path = "plots"
        [[watch]]
        path = "/data/b"
        exclude = []
        [retry]
        initial = "3s"
        maximum = "10m"
        give_up_after = "7d"
        [upload]
        workers = 3
        bandwidth_limit = "10MiB"
        [log]
        level = "debug"
        [metrics]
        listen = "127.0.0.1:9464"
        """,
    )


def test_a_file_sets_every_key_it_names(file: Path) -> None:
    config = load_config(file)
    assert config.source == str(file)
    assert config.state_dir == Path("/var/lib/artifactd")
    assert config.tracking_uri == "http://file:5000"
    assert [watch.path for watch in config.watch] == [Path("/data/a"), Path("/data/b")]
    assert (config.watch[0].settle, config.watch[0].mode, config.watch[1].settle) == (60.0, "scan", 5.0)
    assert [(r.match, r.artifact_path) for r in config.watch[0].route] == [("*.png", "plots")]
    assert config.watch[1].exclude == ()
    assert (config.retry.initial, config.retry.maximum, config.retry.give_up_after) == (3.0, 600.0, 604_800.0)
    assert (config.upload.workers, config.upload.bandwidth_limit) == (3, 10 * 2**20)
    assert (config.log.level, config.log.format, config.metrics.listen) == ("debug", "auto", "127.0.0.1:9464")


def test_flags_go_before_environment_before_file_before_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_RETRY__INITIAL", "2s")
    monkeypatch.setenv("ARTIFACTD_RETRY__MAXIMUM", "20m")
    monkeypatch.setenv("ARTIFACTD_LOG__FORMAT", "json")
    monkeypatch.setenv("ARTIFACTD_UPLOAD__WORKERS", "")  # empty is not set
    config = load_config(file, overrides={"retry": {"initial": "1s", "maximum": None}, "log": {}, "state_dir": None})
    assert (config.retry.initial, config.retry.maximum, config.retry.give_up_after) == (1.0, 1_200.0, 604_800.0)
    assert (config.log.format, config.log.level, config.upload.workers) == ("json", "debug", 3)


def test_the_environment_reaches_into_lists_by_index(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_WATCH__1__SETTLE", "2s")
    monkeypatch.setenv("ARTIFACTD_WATCH__0__EXCLUDE", '["x", "y"]')
    monkeypatch.setenv("ARTIFACTD_WATCH__0__ROUTE__1", '{"match": "*.csv"}')
    monkeypatch.setenv("ARTIFACTD_WATCH__0__ROUTE__0__KIND", "dataset")
    monkeypatch.setenv("ARTIFACTD_WATCH__2__PATH", "/data/c")
    first, second, third = load_config(file).watch
    assert (first.settle, first.exclude, second.settle, second.exclude) == (60.0, ("x", "y"), 2.0, ())
    assert [(r.match, r.artifact_path, r.kind) for r in first.route] == [
        ("*.png", "plots", "dataset"),
        ("*.csv", None, "artifact"),
    ]
    assert third == WatchConfig(path=Path("/data/c"))


def test_json_in_the_environment_replaces_a_list_and_is_laid_over_a_table(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACTD_WATCH", '[{"path": "/data/c", "settle": "9s"}]')
    monkeypatch.setenv("ARTIFACTD_RETRY", '{"initial": "7s", "maximum": "7m"}')
    monkeypatch.setenv("ARTIFACTD_RETRY__MAXIMUM", "8m")
    config = load_config(file)
    assert config.watch == (WatchConfig(path=Path("/data/c"), settle=9),)
    assert (config.retry.initial, config.retry.maximum, config.retry.give_up_after) == (7.0, 480.0, 604_800.0)


def test_every_key_is_an_environment_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "STATE_DIR": "/s",
        "MLFLOW__TRACKING_URI": "databricks",
        "MLFLOW__ARTIFACT_LOCATION": "s3://b/p",
        "WATCH__0__PATH": "/d",
        "WATCH__0__LAYOUT": ".",
        "WATCH__0__EXPERIMENT": "e",
        "WATCH__0__RUN": "r",
        "WATCH__0__PRESET": '["keras"]',
        "WATCH__0__SETTLE": "1s",
        "WATCH__0__MODE": "scan",
        "WATCH__0__SCAN_INTERVAL": "2s",
        "WATCH__0__INCLUDE": '["i"]',
        "WATCH__0__EXCLUDE": '["x"]',
        "WATCH__0__LIVE": '["l"]',
        "WATCH__0__ON_CHANGE": "version",
        "WATCH__0__AFTER_UPLOAD": "delete",
        "WATCH__0__RUN_SCOPE": "fleet",
        "WATCH__0__ABANDON_AFTER": "never",
        "WATCH__0__ROUTE__0__MATCH": "m",
        "WATCH__0__ROUTE__0__ARTIFACT_PATH": "p",
        "WATCH__0__ROUTE__0__KIND": "dataset",
        "WATCH__0__ROUTE__0__CONTEXT": "c",
        "WATCH__0__ROUTE__1__MATCH": "n",
        "WATCH__0__ROUTE__1__KIND": "model",
        "WATCH__0__ROUTE__1__REGISTER": "r",
        "WATCH__0__ROUTE__1__ALIASES": '["a"]',
        "WATCH__0__ROUTE__1__TAGS": '{"t": "1"}',
        "UPLOAD__WORKERS": "2",
        "UPLOAD__BANDWIDTH_LIMIT": "1kB",
        "UPLOAD__READ_LIMIT": "08:00,1kB 20:00,off",
        "UPLOAD__ORDER": "fresh",
        "RETRY__INITIAL": "1ms",
        "RETRY__MAXIMUM": "2ms",
        "RETRY__GIVE_UP_AFTER": "never",
        "LOG__FORMAT": "journald",
        "LOG__LEVEL": "error",
        "METRICS__LISTEN": "127.0.0.1:1",
        "METRICS__TOKEN_FILE": "/t",
        "METRICS__PAGE": "false",
        "NOTIFY__COMMAND": '["page"]',
        "NOTIFY__WEBHOOK": "https://h/x",
        "NOTIFY__SECRET_FILE": "/k",
        "NOTIFY__ON": '["disk"]',
        "NOTIFY__LAG": "1m",
        "NOTIFY__DISK": "1kB",
        "NOTIFY__EVERY": "2m",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"ARTIFACTD_{name}", value)
    config = load_config(None)  # no file is needed where the environment names the folder
    assert config.source == "defaults"
    assert config.model_dump(mode="json") == {
        "state_dir": "/s",
        "mlflow": {"tracking_uri": "databricks", "artifact_location": "s3://b/p"},
        "watch": [
            {
                "path": "/d",
                "layout": ".",
                "experiment": "e",
                "run": "r",
                "preset": ["keras"],
                "settle": "1s",
                "mode": "scan",
                "scan_interval": "2s",
                "include": ["i"],
                "exclude": ["x"],
                "live": ["l"],
                "on_change": "version",
                "after_upload": "delete",
                "run_scope": "fleet",
                "abandon_after": "never",
                "route": [
                    {
                        "match": "m",
                        "artifact_path": "p",
                        "kind": "dataset",
                        "context": "c",
                        "register": None,
                        "aliases": [],
                        "tags": {},
                    },
                    {
                        "match": "n",
                        "artifact_path": None,
                        "kind": "model",
                        "context": None,
                        "register": "r",
                        "aliases": ["a"],
                        "tags": {"t": "1"},
                    },
                ],
            }
        ],
        "upload": {"workers": 2, "bandwidth_limit": "1kB", "read_limit": "08:00,1kB 20:00,0", "order": "fresh"},
        "retry": {"initial": "1ms", "maximum": "2ms", "give_up_after": "never"},
        "log": {"format": "journald", "level": "error"},
        "metrics": {"token_file": "/t", "listen": "127.0.0.1:1", "page": False},
        "notify": {
            "command": ["page"], "webhook": "https://h/x", "secret_file": "/k", "on": ["disk"], "lag": "1m",
            "disk": "1kB", "every": "2m",
        },
    }  # fmt: skip


def test_the_file_is_looked_for_in_this_order(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[[watch]]\npath = "/data"\n'
    with pytest.raises(ConfigError, match="no config file") as caught:
        load_config(None)
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == ("the command line", "watch")  # what commands that only look go by
    assert problem.instead == "give DIR, or a file with --config"
    assert caught.value.exit_code == 2
    system = written(load.SYSTEM_FILE, text)
    assert load_config(None).source == str(system)
    user = written(home / ".config" / "artifactd" / "config.toml", text)
    assert load_config(None).source == str(user)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    xdg = written(tmp_path / "xdg" / "artifactd" / "config.toml", text)
    assert load_config(None).source == str(xdg)
    named = written(tmp_path / "named.toml", text)
    monkeypatch.setenv("ARTIFACTD_CONFIG", str(named))
    assert load_config(None).source == str(named)
    given = written(tmp_path / "given.toml", text)
    assert load_config(given).source == str(given)


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(load.SYSTEM_FILE, '[[watch]]\npath = "/data"\n')
    monkeypatch.setenv("ARTIFACTD_CONFIG", str(tmp_path / "gone.toml"))
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_config(None)
    assert caught.value.problems[0].file == str(tmp_path / "gone.toml")


def test_a_directory_alone_is_watched_with_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(load.SYSTEM_FILE, "no toml")
    monkeypatch.setenv("ARTIFACTD_CONFIG", str(tmp_path / "gone.toml"))
    monkeypatch.chdir(tmp_path)
    for directory in (tmp_path / "drop", Path("drop"), Path("./drop/")):
        config = load_config(None, directory=directory)
        assert config.watch == (WatchConfig(path=tmp_path / "drop"),)
        assert config.source == "defaults"
        assert config.embedded


def test_the_environment_holds_for_a_directory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTD_WATCH__0__SETTLE", "1s")
    monkeypatch.setenv("ARTIFACTD_UPLOAD__WORKERS", "2")
    config = load_config(None, directory=tmp_path / "drop")
    assert config.watch == (WatchConfig(path=tmp_path / "drop", settle=1),)
    assert config.upload.workers == 2


def test_a_directory_keeps_the_watch_it_lies_in(file: Path) -> None:
    for directory in ("/data/b", "/data/b/exp/run"):
        config = load_config(file, directory=Path(directory))
        assert [(watch.path, watch.exclude) for watch in config.watch] == [(Path("/data/b"), ())]
        assert config.retry.initial == 3.0
        assert config.source == str(file)


def test_a_directory_keeps_the_watch_of_a_file_that_nobody_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook names its run folder alone: what the service's file says of it holds, as the help promises."""
    watch = f'[[watch]]\npath = "{tmp_path}/drop"\nlayout = "{{user}}/{{experiment}}/{{run}}"\n'
    system = written(load.SYSTEM_FILE, f'state_dir = "/var/lib/artifactd"\n{watch}')
    for directory in (tmp_path / "drop", tmp_path / "drop" / "ann" / "vision"):
        config = load_config(None, directory=directory, usual=True)
        assert [(watch.path, watch.layout) for watch in config.watch] == [
            (tmp_path / "drop", "{user}/{experiment}/{run}")
        ]
        assert (config.state_dir, config.source) == (Path("/var/lib/artifactd"), str(system))
    alone = load_config(None, directory=tmp_path / "drop")  # as `run DIR`
    assert (alone.watch, alone.source) == ((WatchConfig(path=tmp_path / "drop"),), "defaults")
    elsewhere = load_config(None, directory=tmp_path / "drop2", usual=True)
    assert (elsewhere.watch, elsewhere.source) == ((WatchConfig(path=tmp_path / "drop2"),), "defaults")
    monkeypatch.setenv("ARTIFACTD_CONFIG", str(written(tmp_path / "named.toml", '[log]\nlevel = "error"\n')))
    assert load_config(None, directory=tmp_path / "drop", usual=True).source == "defaults"


def test_a_directory_in_no_watch_is_watched_with_the_defaults(file: Path) -> None:
    for directory in ("/data/c", "/data/bb", "/data"):
        assert load_config(file, directory=Path(directory)).watch == (WatchConfig(path=Path(directory)),)


def test_symbolic_links_lead_to_the_watch(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "link").symlink_to("drop")
    file = written(tmp_path / "f.toml", f'[[watch]]\npath = "{tmp_path}/link"\nsettle = "1s"\n')
    for directory in (tmp_path / "drop", tmp_path / "link" / "run"):
        (watch,) = load_config(file, directory=directory).watch
        assert (watch.path, watch.settle) == (tmp_path / "link", 1.0)


def test_a_file_without_a_watch_serves_a_directory(tmp_path: Path) -> None:
    file = written(tmp_path / "f.toml", '[log]\nlevel = "error"\n')
    config = load_config(file, directory=tmp_path / "drop")
    assert (config.watch, config.log.level) == ((WatchConfig(path=tmp_path / "drop"),), "error")
    with pytest.raises(ConfigError, match="no folder is watched"):
        load_config(file)


def test_directories_need_not_be_utf8(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"dr\xffp")
    assert load_config(None, directory=directory).watch[0].path == directory


def test_mlflows_variable_is_the_fallback(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:5000")
    assert load_config(file).tracking_uri == "http://file:5000"
    config = load_config(None, directory=tmp_path / "drop")
    assert config.tracking_uri == "http://env:5000"
    assert not config.embedded
    monkeypatch.setenv("ARTIFACTD_MLFLOW__TRACKING_URI", "http://ours:5000")
    assert load_config(file).tracking_uri == "http://ours:5000"
    monkeypatch.delenv("ARTIFACTD_MLFLOW__TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert load_config(None, directory=tmp_path / "drop").embedded


def test_the_embedded_store_stays_embedded_where_its_uri_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, directory=tmp_path / "drop", overrides={"state_dir": tmp_path / "state"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", config.tracking_uri)
    again = load_config(None, directory=tmp_path / "drop", overrides={"state_dir": tmp_path / "state"})
    assert again.embedded
    assert again.tracking_uri == config.tracking_uri


def test_where_the_state_folder_is(file: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = tmp_path / "drop"
    assert load_config(None, directory=drop).state_dir == home / ".local" / "state" / "artifactd"
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert load_config(None, directory=drop).state_dir == Path("/xdg/artifactd")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert load_config(None, directory=drop).state_dir == Path("/var/lib/one")
    assert load_config(file).state_dir == Path("/var/lib/artifactd")
    monkeypatch.setenv("ARTIFACTD_STATE_DIR", "/env")
    assert load_config(file).state_dir == Path("/env")
    monkeypatch.chdir(tmp_path)
    assert load_config(file, overrides={"state_dir": Path("state")}).state_dir == tmp_path / "state"


def test_nothing_is_made_and_the_watched_folder_may_be_away(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    config = load_config(None, directory=tmp_path / "gone", overrides={"state_dir": tmp_path / "state"})
    assert isinstance(config, Config)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scan_interval_that_was_asked_for_is_kept_and_the_default_may_become_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longest(lines: str) -> float:
        (watch,) = load_config(written(tmp_path / "f.toml", f'[[watch]]\npath = "/d"\n{lines}')).watch
        return watch.longest_scan_interval

    assert longest("") == 3600.0
    assert longest('scan_interval = "5m"') == 300.0
    assert longest('scan_interval = "2h"') == 7200.0
    assert longest('abandon_after = "1h"') == 900.0
    assert longest('abandon_after = "10m"') == 300.0
