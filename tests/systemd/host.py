"""A training host in a box: the unit as it is installed, a drop folder, and the store as the host sees it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from artifactd.cli.status import as_data
from artifactd.errors import ArtifactdError
from artifactd.ledger import Report
from artifactd.standing import read
from artifactd.unit import unit_name, unit_text
from made_store import copy_store
from support import idle, tree, wait_for
from systemd.box import Box

UNIT = "artifactd.service"

_STORED = re.compile(rb"[0-9a-f]{32}/artifacts/(.*)", re.DOTALL)
"""Where an artifact lies below the embedded store's root: run, path."""


class Host:
    """artifactd as an administrator has installed it.

    Args:
        box: Running, or about to be.
    """

    def __init__(self, box: Box) -> None:
        self.box = box

    def set_up(self, tracking_uri: str = "") -> None:
        """Configuration and environment, with a server, or with an embedded store that is there and empty."""
        self.configure(tracking_uri=tracking_uri)
        (self.box.etc / "environment").write_text("MLFLOW_DISABLE_TELEMETRY=true\n")
        if not tracking_uri:
            copy_store(self.box.state / "mlflow.db", "file:///var/lib/artifactd/artifacts")

    # -- the administrator --

    def configure(self, watch: str = "", *, more: str = "", tracking_uri: str = "", path: str = "/data/drop") -> None:
        target = f'[mlflow]\ntracking_uri = "{tracking_uri}"\n' if tracking_uri else ""
        (self.box.etc / "config.toml").write_text(
            f'{target}{more}\n[[watch]]\npath = "{path}"\nsettle = "0.3s"\n{watch}\n'
        )

    def drop_in(self, text: str, name: str = "test", unit: str = UNIT) -> None:
        folder = self.box.units / f"{unit}.d"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.conf").write_text(text)
        self.systemctl("daemon-reload")

    def systemctl(self, *args: str, check: bool = True) -> str:
        return self.box.run("systemctl", *args, check=check)

    def start(self) -> None:
        """Returns once the unit is active, which is after READY=1."""
        self.systemctl("start", UNIT)

    def show(self, *names: str, unit: str = UNIT) -> dict[str, str]:
        return self.box.show(unit, *names)

    @property
    def pid(self) -> int:
        """The service's process, by its number in the box; 0 where none runs."""
        return int(self.show("MainPID")["MainPID"])

    def said(self, event: str) -> list[dict[str, Any]]:
        """What the service wrote into the journal under this event's name."""
        return self.box.journal("-u", UNIT, f"ARTIFACTD_EVENT={event}")

    # -- the training job --

    def write(self, name: str, content: bytes, folder: Path | None = None) -> Path:
        path = (folder or self.box.drop) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    # -- the store --

    def stored(self, state: str = "/var/lib/artifactd") -> dict[str, bytes]:
        """What stands in the embedded store: artifact path → content. One run at most has each path."""
        found: dict[str, bytes] = {}
        for path, content in tree(self.box.path(f"{state}/artifacts")).items():
            if match := _STORED.fullmatch(path):
                name = os.fsdecode(match[1])
                assert name not in found, f"{name} is in two runs"
                found[name] = content
        return found

    def status(self) -> dict[str, Any]:
        """What ``artifactd status --json`` says of the service's state folder."""
        try:
            with contextlib.closing(Report(self.box.state)) as report:
                data: dict[str, Any] = json.loads(json.dumps(as_data(read(report, self.box.state))))
        except (ArtifactdError, sqlite3.Error):
            return {}
        return data

    def wait_stored(self, files: dict[str, bytes], deadline: float = 40, state: str = "/var/lib/artifactd") -> None:
        """Until exactly these artifacts are in the store, with these contents."""
        wait_for(lambda: self.stored(state) == files, f"{sorted(files)} stored\n{self.last_words()}", deadline)

    def wait_idle(self) -> dict[str, Any]:
        return wait_for(lambda: idle(self.status()), "the ledger says that all is stored")

    def last_words(self) -> str:
        return self.box.run("journalctl", "-u", f"{UNIT[:-8]}*", "-n", "15", "-o", "cat", "--no-pager", check=False)


def embed(box: Box, state: str) -> None:
    """Put an empty embedded store into a state folder of the box; it saves its making."""
    made = box.base / "made" / "mlflow.db"  # SQLite would follow the link that `path` begins with
    copy_store(made, f"file://{state}/artifacts")
    box.path(state).mkdir(parents=True)
    shutil.copy(made, box.path(state))


def install_template(box: Box) -> None:
    """Put the unit for instances into a running box."""
    (box.units / unit_name(template=True)).write_text(unit_text(template=True))
    box.run("systemctl", "daemon-reload")
