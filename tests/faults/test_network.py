"""A network and a server that misbehave: what waits is said, what is well again flows, nothing is taken for stored."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import MlflowServer
from faults.proxy import LOGIN, Fault, Proxy, creations, uploads
from faults.table import Row
from support import Oracle, Program, tree, wait_for

FILES = 20
HTML = (("Content-Type", "text/html"),)
TO_LOGIN = (("Location", "/login"),)


def but_login(_method: str, path: str) -> bool:
    return path != "/login"


@dataclass
class Site:
    """A service before a server with a proxy between them, and one run folder."""

    program: Program
    proxy: Proxy
    oracle: Oracle
    folder: Path
    begun: int = 0

    def drop(self, name: str, count: int = FILES) -> None:
        for n in range(count):
            (self.folder / f"{name}-{n}").write_bytes(os.urandom(2000 + n))

    def held(self, word: str) -> dict[str, Any] | None:
        """The failure in `status` that says this."""
        return next((f for f in self.program.status().get("failures", ()) if word in f["error"]), None)

    def stored(self) -> bool:
        status = self.program.status()
        return bool(status["stored"] == len(tree(self.program.drop)) and not status["pending"] and not status["failed"])

    def assert_exact(self, to: Path) -> None:
        run = self.oracle.run(self.folder.parent.name, self.folder.name)
        assert self.oracle.files(run.info.run_id, to) == tree(self.folder)
        assert "Traceback" not in self.program.text()


@pytest.fixture(scope="module")
def shared(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("network")
    proxy = Proxy(mlflow_server.uri)
    program = Program(base, tracking_uri=proxy.uri, more='[retry]\ninitial = "0.2s"\nmaximum = "1s"\n')
    folder = program.drop / "network" / "r"
    folder.mkdir(parents=True)
    (folder / "first").write_bytes(b"1")
    try:
        with program.running():
            program.wait_idle()
            yield Site(program, proxy, Oracle(mlflow_server.uri), folder)
    finally:
        proxy.close()


@pytest.fixture
def site(shared: Site) -> Site:
    """The shared service, at rest."""
    wait_for(shared.stored, "the service is at rest", 60)
    shared.begun = shared.proxy.counts.repeats
    return shared


TRANSIENT = {
    "connection refused": (Fault("refuse"), "cannot be reached"),
    "closed in the middle of an upload": (Fault("cut", uploads), ""),
    "500": (Fault("answer", status=500, body=b"{}"), "500"),
    "500 to uploads alone": (Fault("answer", uploads, status=500, body=b"{}"), "500"),
    "429 with Retry-After": (Fault("answer", status=429, headers=(("Retry-After", "1"),)), "429"),
    "503 to uploads": (Fault("answer", uploads, status=503), "503"),
    "401": (Fault("answer", status=401), "401"),
    "403": (Fault("answer", status=403), "403"),
    "403 to uploads": (Fault("answer", uploads, status=403), "403"),
    "redirect to a login page": (Fault("answer", but_login, status=302, headers=TO_LOGIN), "redirect"),
    "endless redirects": (Fault("answer", status=302, headers=TO_LOGIN), "redirect"),
    "404 to everything": (Fault("answer", status=404, body=b"not found"), "404"),
    "uploads redirected to a login page": (
        Fault("answer", uploads, status=302, headers=TO_LOGIN), "redirects to"),
    "200 with HTML": (Fault("answer", status=200, headers=HTML, body=LOGIN), "web page"),
    "uploads answered 200 with HTML": (
        Fault("answer", uploads, status=200, headers=HTML, body=LOGIN), "web page"),
    "black hole": (Fault("black_hole"), "cannot be reached"),
    "hang after headers": (Fault("hang"), "cannot be reached"),
}  # fmt: skip


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", TRANSIENT)
def test_a_fault_that_passes_delays_and_does_no_harm(
    name: str, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    fault, word = TRANSIENT[name]
    before = len(tree(site.program.drop))
    with site.proxy.misbehaving(fault):
        site.drop(name.replace(" ", "_"))
        said = wait_for(lambda: site.held(word), f"status says why: {site.program.status().get('failures')}", 60)
        assert said["kind"] in ("transient", "paused"), said
        assert said["next_try"], said
        status = site.program.status()
        assert status["stored"] == before, "nothing counts as stored meanwhile"
        assert status["failed"] == 0
    healed = time.monotonic()
    wait_for(site.stored, f"all is delivered: {site.program.status()}", 60)
    took = time.monotonic() - healed
    site.assert_exact(tmp_path / "back")
    record(Row(name, 1, 0, 0, site.proxy.counts.repeats - site.begun, 0, took))


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_server_that_refuses_is_asked_by_one_small_probe_per_backoff(status: int, site: Site) -> None:
    with site.proxy.misbehaving(Fault("answer", status=status)):
        site.drop(f"probe-{status}", 200)
        wait_for(lambda: site.held(str(status)), "status says why")
        requests, body, begun = site.proxy.counts.total(), sum(site.proxy.counts.bytes.values()), time.monotonic()
        wait_for(lambda: time.monotonic() - begun > 5, "some backoffs")
        requests = site.proxy.counts.total() - requests
        body = sum(site.proxy.counts.bytes.values()) - body
    # Backoff with full jitter up to 1 s: two a second in the mean.
    assert requests < 40, f"{requests} requests in 5 s for 200 files"
    assert body < 40 * 4096, f"{body} bytes in 5 s"
    wait_for(site.stored, "all is delivered", 60)


@pytest.mark.parametrize(("status", "cure"), [(413, "client_max_body_size"), (404, "server's log")])
def test_what_will_not_mend_itself_fails_with_its_reason_and_is_delivered_after_a_retry(
    status: int, cure: str, site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    with site.proxy.misbehaving(Fault("answer", uploads, status=status)):
        site.drop(f"final-{status}", 3)
        wait_for(lambda: site.program.status()["failed"] == 3, f"they fail: {site.program.status()}")
        said = site.held(str(status))
        assert said is not None
        assert said["kind"] == "permanent"
        assert cure in site.program.call("explain", str(site.folder / f"final-{status}-0")).stdout
    assert site.program.call("retry", str(site.folder)).returncode == 0
    begun = time.monotonic()
    wait_for(site.stored, "the retry delivers them")
    site.assert_exact(tmp_path / "back")
    record(Row(f"{status} to uploads, then retry", 1, 0, 0, site.proxy.counts.repeats - site.begun, 0,
               time.monotonic() - begun))  # fmt: skip


def test_a_lost_answer_to_create_run_makes_no_second_run(
    site: Site, tmp_path: Path, record: Callable[[Row], None]
) -> None:
    folder = site.program.drop / "network" / "lost answer"
    with site.proxy.misbehaving(Fault("drop", creations, times=1)):
        folder.mkdir()
        (folder / "a").write_bytes(b"a")
        wait_for(lambda: site.proxy.counts.wrong, "the answer was lost")
        begun = time.monotonic()
        run = wait_for(
            lambda: [r for r in site.oracle.runs("network") if r.info.run_name == "lost answer"], "the run is there"
        )[0]
        wait_for(lambda: site.oracle.client.list_artifacts(run.info.run_id), "it is delivered")
        took = time.monotonic() - begun
    assert len([r for r in site.oracle.runs("network") if r.info.run_name == "lost answer"]) == 1
    assert site.oracle.files(run.info.run_id, tmp_path / "back") == {b"a": b"a"}
    record(Row("answer of create_run lost", 1, 0, 0, site.proxy.counts.repeats - site.begun, 0, took))


def test_a_slow_upload_is_never_cut(site: Site, tmp_path: Path) -> None:
    """64 KiB/s, longer than a request's timeout."""

    def tries() -> int:
        return sum(n for (m, p), n in list(site.proxy.counts.requests.items()) if m == "PUT" and p.endswith("/slow"))

    with site.proxy.misbehaving(Fault("throttle", uploads, rate=64 * 1024)):
        (site.folder / "slow").write_bytes(os.urandom(20 * 64 * 1024))
        wait_for(lambda: site.stored() or tries() > 1, "it is delivered", 60)
        assert tries() == 1
    site.assert_exact(tmp_path / "back")
