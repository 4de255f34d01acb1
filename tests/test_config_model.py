"""Keys, defaults and the rules for one value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from artifactd.config import Config, MetricsConfig, MlflowConfig, RetryConfig, RouteConfig, UploadConfig, WatchConfig
from artifactd.config.fields import Table
from artifactd.layout import Layout, Route

DATA = Path("/data")


def wrong(table: type[Table], **keys: Any) -> dict[str, str]:
    """What is wrong, by key."""
    with pytest.raises(ValidationError) as caught:
        table(**keys)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def test_defaults() -> None:
    watch = WatchConfig(path=DATA)
    assert watch.layout == "{experiment}/{run}"
    assert (watch.experiment, watch.run) == (None, None)
    assert (watch.settle, watch.scan_interval) == (5.0, 300.0)
    assert (watch.mode, watch.on_change, watch.after_upload, watch.run_scope) == ("auto", "overwrite", "keep", "host")
    assert watch.include == ("**",)
    assert watch.live == ("**/events.out.tfevents.*", "**/*.log")
    assert {"**/*.tmp", "**/*.part", "**/tmp-checkpoint-*", "**/.git/"} <= set(watch.exclude)
    assert watch.route == ()
    assert RouteConfig(match="*") == RouteConfig(match="*", artifact_path=None, kind="artifact")
    assert UploadConfig() == UploadConfig(workers="auto", bandwidth_limit=0)
    assert RetryConfig() == RetryConfig(initial=1.0, maximum=300.0, give_up_after=None)
    config = Config()
    assert (config.log.format, config.log.level, config.metrics.listen, config.watch) == ("auto", "info", None, ())
    assert config.source == "defaults"


def test_the_default_state_folder_is_xdgs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert Config().state_dir == Path("/xdg/artifactd")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert Config().state_dir == Path("/home/ann/.local/state/artifactd")


def test_the_embedded_store_is_the_fallback() -> None:
    config = Config(state_dir=Path("/state"))
    assert config.tracking_uri == "sqlite:////state/mlflow.db"
    assert config.embedded
    assert config.embedded_artifacts == Path("/state/artifacts")
    server = Config(state_dir=Path("/state"), mlflow=MlflowConfig(tracking_uri="http://mlflow:5000"))
    assert server.tracking_uri == "http://mlflow:5000"
    assert not server.embedded


def test_tables_are_frozen_and_closed() -> None:
    config = Config(state_dir=Path("/state"), watch=(WatchConfig(path=DATA),))
    with pytest.raises(ValidationError, match="frozen"):
        config.watch[0].settle = 1.0
    assert "settel" in wrong(WatchConfig, path=DATA, settel=1)
    assert hash(config.watch[0]) == hash(WatchConfig(path=DATA))


def test_numbers_in_code_are_seconds_and_bytes() -> None:
    assert WatchConfig(path=DATA, settle=0.2, scan_interval=1).settle == 0.2
    assert UploadConfig(bandwidth_limit=1_000).bandwidth_limit == 1_000


@pytest.mark.parametrize(
    ("given_path", "path"),
    [
        ("/data/drop", "/data/drop"),
        ("/data//drop/./x/../", "/data/drop"),
        ("//data", "/data"),
        ("~/drop", "/home/ann/drop"),
    ]
    + [("/", "/"), (Path("/data/\udcff"), "/data/\udcff"), ("/data/ä ", "/data/ä ")],
)
def test_paths_are_absolute_and_normalised(given_path: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert str(WatchConfig(path=given_path).path) == path


def test_symbolic_links_stay_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert WatchConfig(path=tmp_path / "link").path == tmp_path / "link"


@pytest.mark.parametrize("path", ["", "data", "./data", "~nobody-of-that-name/x", 5, None, ["/data"], "/a\0b"])
def test_what_is_no_absolute_path_is_refused(path: Any) -> None:
    assert wrong(WatchConfig, path=path).keys() == {"path"}


@pytest.mark.parametrize(
    "layout",
    [
        "",
        "/{run}",
        "{run}/",
        "{experiment}//{run}",
        "../{run}",
        "{experiment}-{run}",
        "{run}/{run}",
        "{Run}",
        "*/{run}",
    ],
)
def test_a_layout_of_another_form_is_refused_alone(layout: str) -> None:
    assert wrong(WatchConfig, path=DATA, layout=layout).keys() == {"layout"}


def test_constants_complement_the_layout() -> None:
    assert WatchConfig(path=DATA, layout="{run}", experiment="vision").experiment == "vision"
    assert WatchConfig(path=DATA, layout="{experiment}", run="one").run == "one"
    assert WatchConfig(path=DATA, layout=".", experiment="vision", run="one").layout == "."
    assert WatchConfig(path=DATA, layout="projects/{user}/{experiment}/{run}").experiment is None
    assert wrong(WatchConfig, path=DATA, layout="{run}").keys() == {"experiment"}
    assert wrong(WatchConfig, path=DATA, layout=".").keys() == {"experiment", "run"}
    assert wrong(WatchConfig, path=DATA, experiment="vision", run="one").keys() == {"experiment", "run"}
    assert wrong(WatchConfig, path=DATA, layout="{run}", experiment=" ").keys() == {"experiment"}
    assert wrong(WatchConfig, path=DATA, layout="{run}", experiment="x" * 501).keys() == {"experiment"}


def test_constants_are_looked_at_where_other_keys_are_wrong() -> None:
    found = wrong(WatchConfig, path="data", layout="{run}", settle="soon", mode="fast", exclude=["a", ""], x=1)
    assert found.keys() == {"path", "experiment", "settle", "mode", "exclude.1", "x"}


@pytest.mark.parametrize("key", ["include", "exclude", "live"])
@pytest.mark.parametrize("glob", ["", "# no", "a//b", "../x", "[a"])
def test_a_glob_that_cannot_be_used_is_refused(key: str, glob: str) -> None:
    assert wrong(WatchConfig, path=DATA, **{key: ["*", glob]}).keys() == {f"{key}.1"}


def test_only_exclude_has_exceptions_and_may_be_empty() -> None:
    assert WatchConfig(path=DATA, exclude=("*.tmp", "!keep.tmp")).exclude == ("*.tmp", "!keep.tmp")
    assert WatchConfig(path=DATA, exclude=(), live=()).exclude == ()
    assert wrong(WatchConfig, path=DATA, include=["!a"], live=["!a"], route=[{"match": "!a"}]).keys() == {
        "include.0",
        "live.0",
        "route.0.match",
    }
    assert wrong(WatchConfig, path=DATA, include=[]).keys() == {"include"}


@pytest.mark.parametrize("path", ["plots", "plots/train", ".", "with space", "..."])
def test_a_route_leads_into_the_run(path: str) -> None:
    assert RouteConfig(match="*", artifact_path=path).artifact_path == path


@pytest.mark.parametrize("path", ["", "/plots", "plots/", "a//b", "..", "a/../b", "./a", "a\0"])
def test_a_route_leads_nowhere_else(path: str) -> None:
    assert wrong(RouteConfig, match="*", artifact_path=path).keys() == {"artifact_path"}


NAMES = st.sampled_from(["a", "{run}", "{experiment}", "{user}", ".", "..", "", "*", "b c", "{x", "\\", "é", "#", "!"])
GLOBS = st.text("ab*?[]!/\\{}. #", max_size=6)


@given(
    layout=st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    constants=st.fixed_dictionaries({}, optional={"experiment": st.just("e"), "run": st.just("r")}),
    globs=st.lists(GLOBS, max_size=2),
    match=GLOBS,
    artifact_path=st.none() | st.lists(NAMES, max_size=3).map("/".join),
)
def test_whatever_is_accepted_makes_a_layout(
    layout: str, constants: dict[str, Any], globs: list[str], match: str, artifact_path: str | None
) -> None:
    try:
        watch = WatchConfig(
            path=DATA,
            layout=layout,
            **constants,
            include=("**", *globs),
            exclude=tuple(globs),
            live=tuple(globs),
            route=(RouteConfig(match=match, artifact_path=artifact_path),),
        )
    except ValidationError:
        return
    Layout(
        watch.layout,
        constants=constants,
        include=watch.include,
        exclude=watch.exclude,
        live=watch.live,
        routes=[Route(route.match, route.artifact_path, route.kind) for route in watch.route],
    )


@pytest.mark.parametrize("workers", ["auto", 1, 64, "8"])
def test_workers(workers: Any) -> None:
    assert UploadConfig(workers=workers).workers == (8 if workers == "8" else workers)


@pytest.mark.parametrize("workers", ["many", 0, 65, -1, 1.5, True, None, "", "9" * 5_000])
def test_what_is_no_number_of_workers(workers: Any) -> None:
    assert wrong(UploadConfig, workers=workers).keys() == {"workers"}


def test_retry() -> None:
    assert RetryConfig(give_up_after="never").give_up_after is None  # type: ignore[arg-type]  # as in a file
    assert RetryConfig(give_up_after="12h").give_up_after == 43_200  # type: ignore[arg-type]  # as in a file
    assert wrong(RetryConfig, initial=0, maximum=0, give_up_after="soon").keys() == {
        "initial",
        "maximum",
        "give_up_after",
    }
    assert wrong(RetryConfig, initial="10m", give_up_after=0).keys() == {"maximum", "give_up_after"}
    assert RetryConfig(initial=2, maximum=2).maximum == 2


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "localhost:1", "[::1]:65535", "127.9.9.9:80"])
def test_an_address_is_host_and_port(listen: str) -> None:
    assert MetricsConfig(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:1", "10.0.0.1:9464", "training-7:9464"])
def test_an_address_that_others_can_reach_takes_a_token(listen: str) -> None:
    with pytest.raises(ValidationError, match="token_file"):
        MetricsConfig(listen=listen)
    assert MetricsConfig(listen=listen, token_file=Path("/etc/token")).listen == listen


@pytest.mark.parametrize(
    "listen", ["", ":9464", "9464", "host", "host:", "host:0", "host:65536", "::1:80", "http://h:80"]
)
def test_anything_else_is_no_address(listen: str) -> None:
    assert wrong(MetricsConfig, listen=listen).keys() == {"listen"}


def test_plugins_of_pydantic_have_no_say(tmp_path: Path) -> None:
    (tmp_path / "loud-1.dist-info").mkdir()
    (tmp_path / "loud-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1\n")
    (tmp_path / "loud-1.dist-info" / "entry_points.txt").write_text("[pydantic]\nloud = loud:plugin\n")
    (tmp_path / "loud.py").write_text("print('here I am'); plugin = None\n")
    program = (
        f"import sys, os; sys.path.insert(0, {str(tmp_path)!r}); before = dict(os.environ); import artifactd.config\n"
        "assert dict(os.environ) == before; artifactd.config.WatchConfig(path='/data')"
    )
    for more, said in (("", b""), ("; import loud", b"here I am\n")):
        done = subprocess.run([sys.executable, "-c", program + more], capture_output=True, check=True, timeout=60)
        assert done.stdout == said


def test_importing_it_brings_in_nothing_heavy() -> None:
    program = "import json, sys, artifactd.config; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60).stdout
    assert {"mlflow", "rich", "typer", "watchdog", "sqlite3", "requests"}.isdisjoint(json.loads(output))
