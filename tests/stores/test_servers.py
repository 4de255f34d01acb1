"""MLflow's server in its forms: what is wrong is told with the setting that mends it, within seconds, and mends itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking import environment, limits, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.runs import RunSpec, prepare_run
from conftest import MlflowServer
from stores.nginx import Nginx, answering, nginx, passing
from stores.servers import ADMIN, AuthServer, Server, mlflow_form
from stores.tls import Certificate, make_certificate
from support import Oracle, Program, environment as clean, free_port, wait_for

pytestmark = [pytest.mark.stores, pytest.mark.live]

KNOWN_WITHIN = 15.0
"""Seconds until the reason is there."""
QUICK = '[retry]\ninitial = "0.2s"\nmaximum = "1s"\n'
OLD, NEW = b"the old content, whole", b"the new content, wholy"  # of one length: a listing does not tell them apart


def failure_of(uri: str) -> Failure:
    """What first contact, and what is asked of a run after it, comes to."""
    begun = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        client = server.connect(uri, embedded_artifacts=None)
        prepare_run(client, RunSpec("key", None, "refused", None, "r"), uri)
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

    def sync(self, **env: str) -> str:
        """One pass that delivers all."""
        done = self.program.call("sync", "--config", str(self.program.config), **env)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def refused(self, **env: str) -> str:
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
        copy = mlflow.artifacts.download_artifacts(
            run_id=run.info.run_id, artifact_path=info.path, tracking_uri=uri
        )
        found[info.path] = Path(copy).read_bytes()
    return found


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@contextmanager
def gateway(folder: Path, uri: str, **more: Any) -> Iterator[Nginx]:
    """nginx before a server."""
    port = free_port()
    with nginx(folder / "nginx", passing(port, uri, **more), port=port) as running:
        yield running


# -- redirects ---------------------------------------------------------------------------------------------------


def to_https(plain: int, tls: int) -> str:
    return answering(plain, f"return 301 https://127.0.0.1:{tls}$request_uri")


def test_a_redirect_to_https_is_refused_at_first_contact_with_the_url_to_set(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path
) -> None:
    plain, tls = free_port(), free_port()
    blocks = to_https(plain, tls), passing(tls, mlflow_server.uri, tls=certificate)
    with nginx(tmp_path / "nginx", *blocks, port=plain) as running:
        failure = failure_of(running.uri)
        assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
        assert failure.cure == f'Set mlflow.tracking_uri = "https://127.0.0.1:{tls}"'
        site = Site(tmp_path / "site", running.uri, "redirect-first")
        site.write("a", NEW)
        said = site.refused()
        assert f'Set mlflow.tracking_uri = "https://127.0.0.1:{tls}"' in said
        assert {r.partition(" ")[0] for r in running.requests()} == {"GET"}


def test_a_redirect_that_begins_later_leaves_the_old_content_whole(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path
) -> None:
    plain, tls = free_port(), free_port()
    through = passing(plain, mlflow_server.uri)
    there = passing(tls, mlflow_server.uri, tls=certificate)
    with nginx(tmp_path / "nginx", through, there, port=plain) as running:
        site = Site(tmp_path / "site", running.uri, "redirect-later")
        site.write("a", OLD)
        with site.program.running(MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate.ca)):
            site.all_stored(1)
            running.configure(to_https(plain, tls), there)
            site.write("a", NEW)
            said = site.held("redirects to")
            assert said["kind"] == "paused"
            assert stored(mlflow_server.uri, "redirect-later") == {"a": OLD}
            running.configure(through, there)
            wait_for(lambda: stored(mlflow_server.uri, "redirect-later") == {"a": NEW}, "it flows again")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_uploads_alone_is_never_followed(
    status: int, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """What MLflow does with 301 by itself stands beside it: the old content is gone."""
    plain, other = free_port(), free_port()
    away = f"if ($request_method = PUT) {{ return {status} http://127.0.0.1:{other}$request_uri; }}"
    blocks = passing(plain, mlflow_server.uri, location=away), passing(other, mlflow_server.uri)
    with nginx(tmp_path / "nginx", *blocks, port=plain) as running:
        uri = f"mlflow-artifacts:/0/{status}/artifacts"
        environment.prepare(running.uri)
        (tmp_path / "a").write_bytes(OLD)
        with (tmp_path / "a").open("rb") as f:
            RunArtifacts(uri, f"http://127.0.0.1:{other}").upload(f.fileno(), len(OLD), "", "a")
            with pytest.raises(DeliveryError) as caught:
                RunArtifacts(uri, running.uri).upload(f.fileno(), len(OLD), "", "a")
        assert f'Set mlflow.tracking_uri = "http://127.0.0.1:{other}"' in caught.value.failure.cure
        on_disk = mlflow_server.artifact_root / "0" / str(status) / "artifacts" / "a"
        assert on_disk.read_bytes() == OLD
        if status == 301:
            mlflow_alone(uri, running.uri, tmp_path / "a")
            assert on_disk.read_bytes() == b""


def mlflow_alone(artifact_uri: str, tracking_uri: str, file: Path) -> None:
    """MLflow's own upload, without anything of ours."""
    code = (
        "import sys; from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository as get\n"
        "get(sys.argv[1], tracking_uri=sys.argv[2]).log_artifact(sys.argv[3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, artifact_uri, tracking_uri, str(file)],
        env=clean(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


PAGE = "<!doctype html><html><form>Sign in</form></html>"


def test_a_login_page_in_place_of_uploads_is_no_receipt_though_the_old_content_is_as_long(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    port = free_port()
    through = passing(port, mlflow_server.uri)
    page = f"if ($request_method = PUT) {{ return 200 '{PAGE}'; }}"
    with nginx(tmp_path / "nginx", through, port=port) as running:
        site = Site(tmp_path / "site", running.uri, "page")
        site.write("a", OLD)
        with site.program.running():
            site.all_stored(1)
            running.configure(passing(port, mlflow_server.uri, location=page))
            site.write("a", NEW)
            assert site.held("web page")["kind"] == "paused"
            running.configure(through)
            wait_for(lambda: stored(mlflow_server.uri, "page") == {"a": NEW}, "it flows again")


@pytest.mark.parametrize(
    ("directive", "error", "cure"),
    [
        ("return 302 /login?next=$request_uri", "redirects to", "looks like a login page"),
        ("return 302 https://sso.example.com/start", "redirects to", "looks like a login page"),
        (f"return 200 '{PAGE}'", "web page", "path prefix"),
        ("return 301 http://$http_host$request_uri", "redirects to", "X-Forwarded-Proto"),
        ("return 404", "404", "path prefix"),
        ("return 401", "401", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ("return 403", "403", "rights"),
    ],
)
def test_what_is_no_mlflow_server_is_paused_with_its_reason(
    directive: str, error: str, cure: str, tmp_path: Path
) -> None:
    port = free_port()
    with nginx(tmp_path / "nginx", answering(port, directive), port=port) as running:
        failure = failure_of(running.uri)
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET), failure
    assert error in failure.error
    assert cure in failure.cure


@pytest.mark.parametrize("directive", ["return 502", "return 503", "return 504"])
def test_a_gateway_whose_server_is_away_is_transient(directive: str, tmp_path: Path) -> None:
    port = free_port()
    with nginx(tmp_path / "nginx", answering(port, directive), port=port) as running:
        failure = failure_of(running.uri)
    assert (failure.kind, failure.scope) == (Kind.TRANSIENT, Scope.TARGET)
    assert directive[-3:] in failure.error


# -- the address -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_behind_a_path_prefix(ending: str, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    experiment = f"prefix{len(ending)}"
    with gateway(tmp_path, mlflow_server.uri, prefix="/mlflow/") as running:
        site = Site(tmp_path / "site", f"{running.uri}/mlflow{ending}", experiment)
        site.write("a", OLD)
        site.sync()
        assert site.program.call("verify", "--deep").returncode == 0
        assert stored(mlflow_server.uri, experiment) == {"a": OLD}


def test_a_forgotten_path_prefix_is_named(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with gateway(tmp_path, mlflow_server.uri, prefix="/mlflow/") as running:
        failure = failure_of(running.uri)
        assert failure.kind is Kind.PAUSED
        assert failure.cure == f'Set mlflow.tracking_uri = "{running.uri}/mlflow"'


def test_a_path_prefix_that_is_not_there(mlflow_server: MlflowServer) -> None:
    failure = failure_of(f"{mlflow_server.uri}/mlflow")
    assert failure.kind is Kind.PAUSED
    assert failure.cure == f'Set mlflow.tracking_uri = "{mlflow_server.uri}"'


def test_a_server_that_does_not_know_the_name_that_it_is_called_by(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    with gateway(tmp_path, mlflow_server.uri, location="proxy_set_header Host mlflow.example.com;") as running:
        block = (tmp_path / "nginx" / "nginx.conf").read_text()
        assert "$http_host" in block
        (tmp_path / "nginx" / "nginx.conf").write_text(block.replace("proxy_set_header Host $http_host;", ""))
        running.reload()
        failure = failure_of(running.uri)
    assert failure.kind is Kind.PAUSED
    assert "--allowed-hosts" in failure.cure
