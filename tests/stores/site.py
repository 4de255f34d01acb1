"""A drop folder before a form of store: what a user does with it, and what stands in the store afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from artifactd.ledger import Report, State
from artifactd.names import decode_path
from artifactd.watching.signature import Signature
from stores import back
from stores.form import Form
from support import Program, environment, wait_for

_BLOCK = 2**20

Held = dict[bytes, tuple[int, str]]
"""Size and SHA-256 by path."""


class Site:
    """The real service, commands beside it, and an oracle that never asks them.

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
        self._ends = ExitStack()
        self._service: subprocess.Popen[bytes] | None = None
        self._oracle: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the service and the oracle."""
        self._ends.close()
        if self._oracle is not None:
            self._oracle.communicate(timeout=30)

    def run(self, name: str) -> Path:
        """A run's folder."""
        folder = self.program.drop / self._experiment / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def call(self, *args: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A command of artifactd, as one who has the store's credentials calls it."""
        return self.program.call(*args, timeout=timeout, **self.form.environ)

    def deliver(self, run: Path, within: float = 300) -> None:
        """Have the service, started if need be, deliver a run folder: all of it must be stored as it is now, in time.

        Args:
            run: The folder.
            within: Seconds.
        """
        if self._service is None:
            self._service = self._ends.enter_context(self.program.running(**self.form.environ))
            wait_for(self.program.status, "the service is up", 60)
        wait_for(lambda: self._is_stored(run), f"all files of {run.name} are stored", within)

    def kill(self) -> None:
        """End the service as the kernel would."""
        assert self._service is not None
        os.killpg(self._service.pid, signal.SIGKILL)
        self._service = None
        self._ends.close()

    def is_sending(self) -> bool:
        """Whether the service has a file under way now."""
        report = Report(self.program.state)
        try:
            return bool(report.totals().states.get(State.UPLOADING))
        finally:
            report.close()

    def sent(self) -> int:
        """Bytes that the service says to have sent."""
        return int(self.program.status()["bytes_sent"])

    def _is_stored(self, run: Path) -> bool:
        report = Report(self.program.state)
        try:
            states = set(report.totals().states)
            assert State.FAILED not in states, self.program.text()[-3000:]
            if not states <= {State.STORED, State.IGNORED}:
                return False
            known = {view.path: view for view in report.files(below=os.fsencode(run))}
        finally:
            report.close()
        on_disk = {path: Signature.of(os.lstat(path)) for path in _paths(run)}
        return all(
            path in known and known[path].state is State.STORED and known[path].signature == signature
            for path, signature in on_disk.items()
        )

    def held(self, run: Path) -> Held:
        """What the store holds of a run, by names on disk, as MLflow's own client reads it."""
        found: dict[str, tuple[int, str]]
        if self.form.on_disk:
            found = {os.fsdecode(path): held for path, held in on_disk(self._folder(run)).items()}
        else:
            found = self._ask(do="files", run=run.name)
        return {decode_path(path): (size, digest) for path, (size, digest) in found.items()}

    def put(self, run: Path, path: str, content: bytes) -> None:
        """Overwrite an artifact behind artifactd's back."""
        source = self._base / "other"
        source.write_bytes(content)
        if self.form.on_disk:
            shutil.copy(source, self._folder(run) / path)
            return
        self._ask(do="put", run=run.name, path=path, source=str(source))

    def remove(self, run: Path, path: str) -> None:
        """Remove an artifact behind artifactd's back."""
        if self.form.on_disk:
            (self._folder(run) / path).unlink()
            return
        self._ask(do="remove", run=run.name, path=path)

    def _folder(self, run: Path) -> Path:
        return Path(urlsplit(self._ask(do="where", run=run.name)).path)

    def _ask(self, **request: str) -> Any:
        log = self._base / "oracle.log"
        if self._oracle is None:
            with log.open("ab") as errors:
                self._oracle = subprocess.Popen(
                    [sys.executable, back.__file__, self.form.tracking_uri, self._experiment],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                    env=environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false", **self.form.environ),
                )  # fmt: skip
        assert self._oracle.stdin is not None
        assert self._oracle.stdout is not None
        print(json.dumps(request), file=self._oracle.stdin, flush=True)
        answer = self._oracle.stdout.readline()
        assert answer, log.read_text()
        return json.loads(answer)


def _paths(run: Path) -> list[bytes]:
    return [os.path.join(here, name) for here, _, names in os.walk(os.fsencode(run)) for name in names]


def on_disk(run: Path) -> Held:
    """What stands in a run folder."""
    found: Held = {}
    for path in _paths(run):
        with open(path, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        found[os.path.relpath(path, os.fsencode(run))] = (os.path.getsize(path), digest)
    return found


def write(path: Path, size: int, seed: int = 0) -> None:
    """So many bytes that no compression makes fewer; the same for the same seed."""
    rng = random.Random(f"{path.name}:{seed}")  # noqa: S311 (content, not a secret)
    with path.open("wb") as f:
        for start in range(0, size, _BLOCK):
            f.write(rng.randbytes(min(_BLOCK, size - start)))


def write_sparsely(path: Path, size: int) -> None:
    """A file that is nearly all hole, and yet no two parts of it are the same: each 5 MiB begin with their number."""
    with path.open("wb") as f:
        for start in range(0, size, 5 * _BLOCK):
            f.seek(start)
            f.write(start.to_bytes(8, "big"))
        f.truncate(size)
