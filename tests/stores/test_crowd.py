"""A store that is asked for too much at a time, and says so: jobs at once become fewer, and later as many as before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import MlflowServer
from faults.proxy import Fault, Proxy, uploads
from stores.form import Form
from stores.objects import ObjectStore
from stores.site import Site, on_disk
from support import wait_for

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
WORKERS = 4
RUNS = 6
FILES = 12
# Uploads of two workers at once do meet: without it, each may find the moments in which the other sends nothing.
TAKES = 0.05


@dataclass(frozen=True, slots=True)
class Crowd:
    """A form of store with a proxy before it that takes one upload at a time, and refuses others as the store would."""

    form: Form
    proxy: Proxy
    refusal: Fault


@contextmanager
def _s3(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    store: ObjectStore = request.getfixturevalue("seaweed")
    proxy = Proxy(store.endpoint)
    environ = {**store.environ, "MLFLOW_S3_ENDPOINT_URL": proxy.uri}
    xml = (("Content-Type", "application/xml"),)
    try:
        yield Crowd(
            Form("crowded S3", server.uri, f"{store.artifact_location}/crowd", environ), proxy,
            Fault("answer", where=uploads, status=503, headers=xml, body=SLOW_DOWN, beyond=1, takes=TAKES),
        )  # fmt: skip
    finally:
        proxy.close()


@contextmanager
def _server(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    server: MlflowServer = request.getfixturevalue("mlflow_server")
    proxy = Proxy(server.uri)
    try:
        yield Crowd(
            Form("crowded server", proxy.uri), proxy,
            Fault("answer", where=uploads, status=429, headers=(("Retry-After", "1"),), beyond=1, takes=TAKES),
        )  # fmt: skip
    finally:
        proxy.close()


def _said(site: Site, event: str) -> list[int]:
    """Jobs at a time, as the log told them."""
    return [line["jobs"] for line in site.program.events() if line["event"] == event]


def _drop(site: Site, prefix: str, files: int) -> None:
    for n in range(RUNS):
        for k in range(files):
            (site.run(f"r{n}") / f"{prefix}-{k}.bin").write_bytes(os.urandom(30_000))


Crowded = Callable[[pytest.FixtureRequest], AbstractContextManager[Crowd]]


@pytest.mark.parametrize("crowded", [_s3, _server])
def test_jobs_at_a_time_become_fewer_and_come_back(
    crowded: Crowded, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with crowded(request) as crowd, ExitStack() as ends:
        more = f'[upload]\nworkers = {WORKERS}\n[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
        site = Site(tmp_path, crowd.form, more=more)
        ends.callback(site.close)

        def stored() -> bool:
            status = site.program.status()
            return status.get("stored") == len(list(site.program.drop.rglob("*.bin"))) and not status["pending"]

        with site.program.running(**crowd.form.environ):
            with crowd.proxy.misbehaving(crowd.refusal):
                _drop(site, "crowd", FILES)
                wait_for(stored, f"all is stored in the crowd\n{site.program.text()[-1500:]}", 120)
            assert min(_said(site, "fewer jobs at a time")) == 1
            assert site.program.status()["failed"] == 0
            for n in range(WORKERS**2):
                if _said(site, "as many jobs at a time as before"):
                    break
                _drop(site, f"later-{n}", 1)
                wait_for(stored, "all is stored", 60)
            else:
                pytest.fail("jobs at a time stayed few")
        for n in range(RUNS):
            assert site.held(site.run(f"r{n}")) == on_disk(site.run(f"r{n}"))
        assert "Traceback" not in site.program.text()
