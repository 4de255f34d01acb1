"""What the tests of servers share: the real program before one, its reason in time, what the server holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import DeliveryError, Failure
from artifactd.tracking import server
from artifactd.tracking.runs import RunSpec, prepare_run
from stores.nginx import Nginx, nginx, passing
from stores.tls import Certificate, make_certificate
from support import Oracle, Program, free_port, wait_for

KNOWN_WITHIN = 15.0
"""Seconds until the reason is there."""
QUICK = '[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
OLD, NEW = b"the old content, whole", b"the new content, wholy"  # of one length: a listing does not tell them apart


def failure_of(uri: str) -> Failure:
    """What first contact, and what is asked of a run after it, comes to."""
    begun = time.monotonic()

    def make_contact() -> None:
        client = server.connect(uri, embedded_artifacts=None)
        prepare_run(client, RunSpec("key", None, "refused", None, "r"), uri)

    with pytest.raises(DeliveryError) as caught:
        make_contact()
    assert time.monotonic() - begun < KNOWN_WITHIN
    return caught.value.failure


class Site:
    """The real program before a server, one run folder."""

    def __init__(self, base: Path, uri: str, experiment: str) -> None:
        self.program = Program(base, tracking_uri=uri, more=QUICK)
        self.folder = self.program.drop / experiment / "r"
        self.folder.mkdir(parents=True)

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def held(self, word: str) -> dict[str, Any]:
        """The failure that says this; it is there in time."""

        def found() -> dict[str, Any] | None:
            return next((f for f in self.program.status().get("failures", ()) if word in f["error"]), None)

        return wait_for(found, f"{word!r} in {self.program.status().get('failures')}", KNOWN_WITHIN)

    def all_stored(self, files: int) -> None:
        def stored() -> bool:
            status = self.program.status()
            return bool(status and status["stored"] == files and not status["pending"] and not status["failed"])

        wait_for(stored, f"all is stored: {self.program.status()}\n{self.program.text()[-2000:]}", 60)

    def sync(self, **env: Any) -> str:
        """One pass that delivers all."""
        done = self.program.call("sync", "--config", str(self.program.config), **env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return done.stdout

    def refused(self, **env: Any) -> str:
        """One pass that delivers nothing; what it says, on a line, in time."""
        begun = time.monotonic()
        done = self.program.call("sync", "--deadline", "8s", "--config", str(self.program.config), **env)
        assert done.returncode in (3, 75), done.stdout + done.stderr
        assert time.monotonic() - begun < KNOWN_WITHIN
        return " ".join((done.stdout + done.stderr).split())


def stored(uri: str, experiment: str) -> dict[str, bytes]:
    """What the server's own folder holds for the one run, read by MLflow's client past whatever stands before it."""
    oracle = Oracle(uri)
    run = oracle.run(experiment, "r")
    import mlflow.artifacts

    found: dict[str, bytes] = {}
    for info in oracle.client.list_artifacts(run.info.run_id):
        copy = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=info.path, tracking_uri=uri)
        found[info.path] = Path(copy).read_bytes()
    return found


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@contextmanager
def gateway(folder: Path, uri: str, **more: Any) -> Iterator[Nginx]:
    """nginx before a server."""
    port = free_port()
    with nginx(folder / "nginx", passing(port, uri, **more), port=port) as front:
        yield front


@contextmanager
def secure(folder: Path, uri: str, certificate: Certificate) -> Iterator[str]:
    """nginx with TLS before a server; its URI."""
    with gateway(folder, uri, tls=certificate) as front:
        yield f"https://127.0.0.1:{front.port}"


def checked(site: Site, **env: Any) -> tuple[int, str]:
    """Exit code and table of ``check``, on a line, within 15 s."""
    begun = time.monotonic()
    done = site.program.call("check", COLUMNS="250", **env)
    assert time.monotonic() - begun < KNOWN_WITHIN
    return done.returncode, " ".join(done.stdout.split())
