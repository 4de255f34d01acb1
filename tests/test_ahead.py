"""A run made ahead has the identity that a look would give it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifactd.ahead import make_run, placed_at
from artifactd.config import Config, MlflowConfig, WatchConfig
from artifactd.errors import DeliveryError, UsageError
from support import free_port


@pytest.mark.parametrize("folder", [b"", b"e", b"e/r/sub", b"e/.git"])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, folder: bytes) -> None:
    with pytest.raises(UsageError, match="is no run folder of"):
        placed_at(WatchConfig(path=tmp_path, exclude=(".git",)), folder)


def test_a_server_that_is_away_is_told_in_time(tmp_path: Path) -> None:
    (tmp_path / "drop/e/r").mkdir(parents=True)
    watch = WatchConfig(path=tmp_path / "drop")
    server = MlflowConfig(tracking_uri=f"http://127.0.0.1:{free_port()}")
    config = Config(state_dir=tmp_path / "state", mlflow=server, watch=(watch,))
    with pytest.raises(DeliveryError, match="cannot be reached"):
        make_run(config, watch, b"e/r")
    assert os.listdir(tmp_path / "drop/e/r") == []
