"""The effective configuration as it is shown, what it lacks, and the example."""

from __future__ import annotations

import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artifactd import installation
from artifactd.config import (
    Config,
    MetricsConfig,
    MlflowConfig,
    RetryConfig,
    RouteConfig,
    UploadConfig,
    WatchConfig,
    load_config,
    masked,
)
from artifactd.config.schema import all_keys, example_value, field_at, table_of
from artifactd.config.timetable import parse_timetable

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
DATA = Path("/data/drop")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("ARTIFACTD_", "MLFLOW_", "XDG_")) or name == "STATE_DIRECTORY":
            monkeypatch.delenv(name)


# -- masked ----------------------------------------------------------------------------------------------------------


def test_the_effective_configuration_is_shown_as_people_write_it() -> None:
    config = Config(
        state_dir=Path("/state"),
        watch=(WatchConfig(path=DATA, settle=0.5, route=(RouteConfig(match="*.png"),)),),
        upload=UploadConfig(bandwidth_limit=10 * 2**20, read_limit=parse_timetable("8:00,1MiB 20:00,0")),
        retry=RetryConfig(give_up_after=5_400),
    )
    shown = masked(config)
    assert shown["state_dir"] == "/state"
    assert shown["mlflow"] == {"tracking_uri": "sqlite:////state/mlflow.db", "artifact_location": None}
    assert shown["watch"][0]["path"] == "/data/drop"
    assert (shown["watch"][0]["settle"], shown["watch"][0]["scan_interval"]) == ("500ms", "5m")
    (route,) = shown["watch"][0]["route"]
    assert route == {
        "match": "*.png", "artifact_path": None, "kind": "artifact", "context": None, "register": None, "aliases": [],
        "tags": {},
    }  # fmt: skip
    limits = {"bandwidth_limit": "10MiB", "read_limit": "08:00,1MiB 20:00,0"}
    assert shown["upload"] == {"workers": "auto", **limits, "order": "age"}
    assert shown["retry"] == {"initial": "1s", "maximum": "5m", "give_up_after": "1h30m"}
    assert masked(Config())["retry"]["give_up_after"] == "never"


def test_what_is_shown_can_be_configured_again() -> None:
    config = Config(
        state_dir=Path("/state"),
        mlflow=MlflowConfig(tracking_uri="http://mlflow:5000", artifact_location="s3://bucket/p"),
        watch=(WatchConfig(path=DATA, layout=".", experiment="e", run="r", settle=1 / 3),),
        metrics=MetricsConfig(listen="127.0.0.1:1"),
    )
    assert load_config(None, directory=DATA, overrides=json.loads(json.dumps(masked(config)))) == config


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://ann:s3cret@mlflow:5000/x", "https://ann:***@mlflow:5000/x"),
        ("https://s3cret@mlflow:5000/x", "https://***@mlflow:5000/x"),
        ("postgresql://ann:s3cret@db/mlflow", "postgresql://ann:***@db/mlflow"),
        ("https://mlflow:5000/?token=s3cret", "https://mlflow:5000/?token=***"),
    ],
)
def test_a_tracking_uris_secrets_are_masked(uri: str, shown: str) -> None:
    assert masked(Config(mlflow=MlflowConfig(tracking_uri=uri)))["mlflow"]["tracking_uri"] == shown


@pytest.mark.parametrize(
    "location",
    ["sftp://ann:s3cret@host/p", "https://acc.blob.core.windows.net/c?sv=1&sig=s3cret", "ftp://ann:s3cret@host/p?x=1"],
)
def test_an_artifact_locations_secrets_are_masked(location: str) -> None:
    shown = json.dumps(masked(Config(mlflow=MlflowConfig(artifact_location=location))))
    assert "s3cret" not in shown
    assert "***" in shown


def test_odd_paths_can_be_shown() -> None:
    path = Path(os.fsdecode(b"/data/\xff\x1b"))
    shown = masked(Config(state_dir=path, watch=(WatchConfig(path=path),)))
    json.dumps(shown, ensure_ascii=False).encode()
    assert shown["watch"][0]["path"] == "/data/\\xff\\x1b"
    assert shown["mlflow"]["tracking_uri"] == "sqlite:////data/\\xff\\x1b/mlflow.db"


# -- notices ---------------------------------------------------------------------------------------------------------


def test_defaults_give_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is looked up for one: a service that starts does without."""
    monkeypatch.delattr(installation, "here")
    assert Config(watch=(WatchConfig(path=DATA, live=(), run_scope="fleet"),)).notices() == ()


def test_a_route_that_makes_more_of_a_file_does_all_that_it_says() -> None:
    kinds = ("params", "metrics", "tags", "dataset", "model")
    route = tuple(RouteConfig.model_validate({"match": f"*.{kind}", "kind": kind}) for kind in kinds)
    assert Config(watch=(WatchConfig(path=DATA, route=route),)).notices() == ()


# -- the example -----------------------------------------------------------------------------------------------------


def uncommented() -> str:
    """The example with every commented key uncommented: '#' without a space after it."""
    return re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text(encoding="utf-8"))


def leaves(data: Any, loc: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(data, dict) and loc[-1:] != ("tags",):  # a table whose keys are the user's
        for key, value in data.items():
            yield from leaves(value, (*loc, key))
    elif isinstance(data, list) and data and isinstance(data[0], dict):
        for item in data:
            yield from leaves(item, loc)
    else:
        yield loc, data


def test_the_example_is_valid_as_it_is() -> None:
    config = load_config(EXAMPLE)
    assert masked(config) == masked(load_config(None, directory=DATA))
    assert config.source == str(EXAMPLE)


def test_the_example_is_valid_with_every_key_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(uncommented(), encoding="utf-8")
    assert [watch.path for watch in load_config(file).watch] == [DATA, Path("/scratch/nightly")]


def test_the_example_shows_every_key_with_its_default() -> None:
    shown = list(leaves(tomllib.loads(uncommented())))
    keys = [loc for loc in all_keys() if (field := field_at(loc)) and table_of(field) is None]
    assert {loc for loc, _ in shown} == {tuple(str(part) for part in loc if part != 0) for loc in keys}
    for loc in keys:
        first = next(value for name, value in shown if name == tuple(part for part in loc if part != 0))
        assert first == example_value(loc), loc


def test_each_key_of_the_example_has_its_reason_before_it() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    seen = set()
    for above, line in itertools.pairwise(lines):
        key = re.match(r"#?([a-z_]+) = ", line)
        if key and key[1] not in seen:
            assert above.startswith("# "), line
            seen.add(key[1])
    assert len(seen) > 20
