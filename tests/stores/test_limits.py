"""A limit holds whatever a store's client does: S3's sends ten parts at once, SFTP's has its own protocol."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.test_limits import LATE, MIB, fill, seconds
from stores.objects import ObjectStore
from stores.sshd import sshd
from support import Program, tree

pytestmark = pytest.mark.stores

LIMIT = 8


def program(base: Path, location: str) -> Program:
    more = f'[mlflow]\nartifact_location = "{location}"\n[upload]\nworkers = 2\nbandwidth_limit = "{LIMIT}MiB"\n'
    return Program(base, more=more)


def test_s3s_parts_and_small_files_together_keep_to_the_limit(seaweed: ObjectStore, tmp_path: Path) -> None:
    made = program(tmp_path, f"{seaweed.artifact_location}/limits")
    fill(made, 20 * MIB, MIB, MIB, 100, 100)
    with made.running(**seaweed.environ):
        made.wait_idle()
    assert seconds(made) > 22 / LIMIT - LATE
    assert made.status()["stored"] == 5


def test_sftp_keeps_to_the_limit(tmp_path: Path) -> None:
    with sshd(tmp_path / "store") as server:
        made = program(tmp_path / "own", server.uri)
        fill(made, 10 * MIB, 10 * MIB, 100)
        with made.running(HOME=str(server.home)):
            made.wait_idle()
        assert seconds(made) > 20 / LIMIT - LATE
        held = {os.path.basename(path): content for path, content in tree(server.data).items()}
        assert held.items() >= tree(made.drop / "e" / "r").items()
