"""What the tests of the commands share: calling them, and a real ledger over a real folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from artifactd.cli import app
from artifactd.config import WatchConfig, layout_of
from artifactd.errors import Failure, Kind, Scope
from artifactd.explain import Watch
from artifactd.ledger import Blockage, Ledger, Report, StateLock
from artifactd.look import Looker
from artifactd.runs import Place
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.runs import RunSpec, prepare_run
from artifactd.tracking.server import connect
from artifactd.watching.inside import open_root
from artifactd.watching.scan import walk
from schemas import hold

RUN_ID = "0123456789abcdef0123456789abcdef"


def call(*args: str | Path) -> Result:
    """A command, in this process; what it prints as JSON is held against the schema that programs rely on."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    if "--json" in args and done.stdout:
        hold(json.loads(done.stdout), str(args[0]))
    return done


@contextlib.contextmanager
def own_environment(home: Path) -> Iterator[None]:
    """The environment of a user who has set nothing; what a command sets in it does not stay."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("ARTIFACTD_", "MLFLOW_", "XDG_"))]:
            patch.delenv(name)
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("HOME", str(home))
        before = dict(os.environ)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


class Book:
    """A real ledger over a real folder, filled by real looks; deliveries are written down as workers report them."""

    def __init__(self, base: Path, *, target: str = "http://mlflow.test", settle: float = 5.0, **rules: Any) -> None:
        self.drop, self.state, self.target = base / "drop", base / "state", target
        self.drop.mkdir()
        self.state.mkdir()
        self.config = WatchConfig(path=self.drop, settle=settle, **rules)
        path = os.fsencode(self.drop)
        self.watch = Watch(path, layout_of(self.config), settle)
        self.ledger = Ledger(self.state)
        self.root = self.ledger.use_roots([path])[path]
        self.ledger.describe_root(self.root, "events", healthy=True, detail="")
        self._looker = Looker(self.ledger, self.root, path, self.watch.layout, settle, Place(target, "host", False))

    def close(self) -> None:
        self.ledger.close()

    def write(self, rel: str, content: bytes = b"content") -> Path:
        path = self.drop / rel
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def look(self) -> None:
        fd = open_root(os.fsencode(self.drop))
        try:
            with self.ledger.transaction():
                for listing in walk(fd, skip=self._looker.skip):
                    self._looker.apply(fd, listing, time.time())
        finally:
            os.close(fd)

    def rows(self) -> list[int]:
        return [row for row, _ in self.ledger.runs_with_due()]

    def deliver(self, run_id: str = RUN_ID) -> None:
        """All that is due is stored."""
        for row in self.rows():
            self.ledger.set_run_id(row, run_id, "RUNNING", "")
            for file in self.ledger.claim(row, time.time() + 3600, 10_000, 2**40):
                digest = hashlib.sha256((self.drop / os.fsdecode(file.rel)).read_bytes()).digest()
                self.ledger.delivered(file, digest, size=file.signature.size, now=time.time(), sent=True, due_again=0.0)
                self.ledger.count("bytes_sent", file.signature.size)
                self.ledger.count("bytes_unique", file.signature.size)

    def send(self, server: str) -> dict[str, str]:
        """All that is due is stored, on a real server. Returns the run ids by run name."""
        client = connect(server, embedded_artifacts=None)
        ids: dict[str, str] = {}
        for row in self.rows():
            run = self.ledger.run(row)
            spec = RunSpec(run.identity, None, run.experiment, None, run.name)
            info = prepare_run(client, spec, server)
            ids[run.name] = info.run_id
            self.ledger.set_run_id(row, info.run_id, info.status, "")
            artifacts = RunArtifacts(info.artifact_uri, server)
            for file in self.ledger.claim(row, time.time() + 3600, 10_000, 2**40):
                with open(os.path.join(self.watch.path, file.rel), "rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").digest()
                    artifacts.upload(stream.fileno(), file.signature.size, file.dir, file.leaf)
                self.ledger.delivered(file, digest, size=file.signature.size, now=time.time(), sent=True, due_again=0.0)
        return ids

    def fail(self, error: str = "it cannot be read", kind: Kind = Kind.PERMANENT, next_try: float = 0.0) -> None:
        """All that is due fails."""
        for row in self.rows():
            for file in self.ledger.claim(row, time.time() + 3600, 10_000, 2**40):
                failure = Failure(kind, Scope.FILE, error, "Give it access")
                self.ledger.not_delivered(file.id, failure, next_try, touched=False)

    def hold(self, error: str = "http://mlflow.test cannot be reached: refused", wait: float = 60.0) -> None:
        """The target takes nothing for a while."""
        blockage = Blockage(Kind.TRANSIENT, error, "It is tried again by itself", 3, time.time() + wait)
        self.ledger.block_target(self.target, blockage)

    @contextlib.contextmanager
    def report(self) -> Iterator[Report]:
        report = Report(self.state)
        try:
            yield report
        finally:
            report.close()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """As if a service worked here."""
        lock = StateLock(self.state)
        lock.acquire("artifactd run")
        try:
            yield
        finally:
            lock.release()
