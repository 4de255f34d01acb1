"""What another process sees of a delivery process that comes up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from artifactd.delivery import birth
from artifactd.delivery.messages import PrepareRun, Target
from artifactd.delivery.pool import Pool
from artifactd.tracking.runs import RunSpec
from support import wait_for


def test_it_is_seen_until_it_bears_a_worker(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    pool = Pool(1, uri)
    assert birth.taken(os.getpid()) == 0.0
    pool.warm()
    try:
        first = wait_for(lambda: birth.taken(os.getpid()), "it is seen")
        wait_for(lambda: birth.taken(os.getpid()) > first, "it grows")
        wait_for(lambda: pool.answers() == [] and pool.free, "it is there", 60)
        artifacts = tmp_path / "artifacts"
        pool.submit(PrepareRun(Target(uri, artifacts), 1, RunSpec("k" * 40, None, "e", artifacts.as_uri(), "r")))
        assert birth.taken(os.getpid()) == 0.0
    finally:
        pool.stop()


def test_other_processes_and_none_are_nothing_that_comes_up() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert birth.taken(os.getpid()) == 0.0
    ended.wait()
    assert birth.taken(ended.pid) == 0.0
