"""A drop folder before a form of store: what a user does with it, and what stands in the store afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from artifactd.ledger import Report, State
from artifactd.names import decode_path
from stores import back
from stores.form import Form
from support import Program, environment

_BLOCK = 2**20

Held = dict[bytes, tuple[int, str]]
"""Size and SHA-256 by path."""


class Site:
    """The real program, used by command, and an oracle that never asks it.

    Args:
        base: Folder for all of it.
        form: The store.
        more: Further tables of the configuration.
    """

    def __init__(self, base: Path, form: Form, more: str = "") -> None:
        self.form = form
        self._experiment = f"conformance, {form.name}"  # forms may share a server
        location = "" if form.artifact_location is None else f'artifact_location = "{form.artifact_location}"\n'
        self.program = Program(base, tracking_uri=form.tracking_uri, more=location + more)
        self._base = base

    def run(self, name: str) -> Path:
        """A run's folder."""
        folder = self.program.drop / self._experiment / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def call(self, *args: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A command of artifactd, as one who has the store's credentials calls it."""
        return self.program.call(*args, timeout=timeout, **self.form.environ)

    def sync(self, run: Path) -> dict[str, int]:
        """Deliver a run folder; all of it must be stored. Returns what the command counted."""
        done = self.call("sync", str(run), "--json", "--config", str(self.program.config))
        assert done.returncode == 0, done.stdout + done.stderr
        counted: dict[str, int] = json.loads(done.stdout)
        return counted

    def is_sending(self) -> bool:
        """Whether the service has a file under way now."""
        report = Report(self.program.state)
        try:
            return bool(report.totals().states.get(State.UPLOADING))
        finally:
            report.close()

    def held(self, run: Path) -> Held:
        """What the store holds of a run, by names on disk, as MLflow's own client reads it."""
        found: dict[str, tuple[int, str]]
        if self.form.on_disk:
            found = {os.fsdecode(path): held for path, held in on_disk(self._folder(run)).items()}
        else:
            found = json.loads(self._back("files", run))
        return {decode_path(path): (size, digest) for path, (size, digest) in found.items()}

    def put(self, run: Path, path: str, content: bytes) -> None:
        """Overwrite an artifact behind artifactd's back."""
        source = self._base / "other"
        source.write_bytes(content)
        if self.form.on_disk:
            shutil.copy(source, self._folder(run) / path)
            return
        self._back("put", run, "--path", path, "--source", str(source))

    def remove(self, run: Path, path: str) -> None:
        """Remove an artifact behind artifactd's back."""
        if self.form.on_disk:
            (self._folder(run) / path).unlink()
            return
        self._back("remove", run, "--path", path)

    def _folder(self, run: Path) -> Path:
        return Path(urlsplit(self._back("where", run)).path)

    def _back(self, do: str, run: Path, *more: str) -> str:
        done = subprocess.run(
            [sys.executable, back.__file__, do, "--uri", self.form.tracking_uri, "--experiment", self._experiment,
             "--run", run.name, *more],
            env=environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false", **self.form.environ),
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


def on_disk(run: Path) -> Held:
    """What stands in a run folder."""
    found: Held = {}
    root = os.fsencode(run)
    for here, _, names in os.walk(root):
        for name in names:
            path = os.path.join(here, name)
            with open(path, "rb") as f:
                digest = hashlib.file_digest(f, "sha256").hexdigest()
            found[os.path.relpath(path, root)] = (os.path.getsize(path), digest)
    return found


def write(path: Path, size: int, seed: int = 0) -> None:
    """So many bytes that no compression makes fewer; the same for the same seed."""
    rng = random.Random(f"{path.name}:{seed}")  # noqa: S311 (content, not a secret)
    with path.open("wb") as f:
        for start in range(0, size, _BLOCK):
            f.write(rng.randbytes(min(_BLOCK, size - start)))
