"""MLflow's server at a wrong address, behind redirects, login pages and TLS: refused with the setting that mends it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.tracking import environment
from artifactd.tracking.artifacts import RunArtifacts
from conftest import MlflowServer
from stores.nginx import answering, nginx, passing
from stores.running import answers, running
from stores.serving import NEW, OLD, Site, failure_of, gateway, secure, stored
from stores.tls import Certificate, make_certificate
from support import environment as clean
from support import free_port, wait_for

pytestmark = [pytest.mark.stores, pytest.mark.live]


# -- redirects ---------------------------------------------------------------------------------------------------


def to_https(plain: int, tls: int) -> str:
    return answering(plain, f"return 301 https://127.0.0.1:{tls}$request_uri")


def test_a_redirect_to_https_is_refused_at_first_contact_with_the_url_to_set(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path
) -> None:
    plain, tls = free_port(), free_port()
    blocks = to_https(plain, tls), passing(tls, mlflow_server.uri, tls=certificate)
    with nginx(tmp_path / "nginx", *blocks, port=plain) as front:
        failure = failure_of(front.uri)
        assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
        assert failure.cure == f'Set mlflow.tracking_uri = "https://127.0.0.1:{tls}"'
        site = Site(tmp_path / "site", front.uri, "redirect-first")
        site.write("a", NEW)
        said = site.refused()
        assert f'Set mlflow.tracking_uri = "https://127.0.0.1:{tls}"' in said
        assert {r.partition(" ")[0] for r in front.requests()} == {"GET"}


def test_a_redirect_that_begins_later_leaves_the_old_content_whole(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path
) -> None:
    plain, tls = free_port(), free_port()
    through = passing(plain, mlflow_server.uri)
    there = passing(tls, mlflow_server.uri, tls=certificate)
    with nginx(tmp_path / "nginx", through, there, port=plain) as front:
        site = Site(tmp_path / "site", front.uri, "redirect-later")
        site.write("a", OLD)
        with site.program.running(MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate.ca)):
            site.all_stored(1)
            front.configure(to_https(plain, tls), there)
            site.write("a", NEW)
            said = site.held("redirects to")
            assert said["kind"] == "paused"
            assert stored(mlflow_server.uri, "redirect-later") == {"a": OLD}
            front.configure(through, there)
            wait_for(lambda: stored(mlflow_server.uri, "redirect-later") == {"a": NEW}, "it flows again")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_uploads_alone_is_never_followed(
    status: int, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """What MLflow does with 301 by itself stands beside it: the old content is gone."""
    plain, other = free_port(), free_port()
    away = f"if ($request_method = PUT) {{ return {status} http://127.0.0.1:{other}$request_uri; }}"
    blocks = passing(plain, mlflow_server.uri, location=away), passing(other, mlflow_server.uri)
    with nginx(tmp_path / "nginx", *blocks, port=plain) as front:
        uri = f"mlflow-artifacts:/0/{status}/artifacts"
        environment.prepare(front.uri)
        (tmp_path / "a").write_bytes(OLD)
        with (tmp_path / "a").open("rb") as f:
            RunArtifacts(uri, f"http://127.0.0.1:{other}").upload(f.fileno(), len(OLD), "", "a")
            with pytest.raises(DeliveryError) as caught:
                RunArtifacts(uri, front.uri).upload(f.fileno(), len(OLD), "", "a")
        assert f'Set mlflow.tracking_uri = "http://127.0.0.1:{other}"' in caught.value.failure.cure
        on_disk = mlflow_server.artifact_root / "0" / str(status) / "artifacts" / "a"
        assert on_disk.read_bytes() == OLD
        if status == 301:
            mlflow_alone(uri, front.uri, tmp_path / "a")
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
    with nginx(tmp_path / "nginx", through, port=port) as front:
        site = Site(tmp_path / "site", front.uri, "page")
        site.write("a", OLD)
        with site.program.running():
            site.all_stored(1)
            front.configure(passing(port, mlflow_server.uri, location=page))
            site.write("a", NEW)
            assert site.held("web page")["kind"] == "paused"
            front.configure(through)
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
    with nginx(tmp_path / "nginx", answering(port, directive), port=port) as front:
        failure = failure_of(front.uri)
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET), failure
    assert error in failure.error
    assert cure in failure.cure


@pytest.mark.parametrize("directive", ["return 502", "return 503", "return 504"])
def test_a_gateway_whose_server_is_away_is_transient(directive: str, tmp_path: Path) -> None:
    port = free_port()
    with nginx(tmp_path / "nginx", answering(port, directive), port=port) as front:
        failure = failure_of(front.uri)
    assert (failure.kind, failure.scope) == (Kind.TRANSIENT, Scope.TARGET)
    assert directive[-3:] in failure.error


# -- the address -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "/"])
def test_behind_a_path_prefix(ending: str, mlflow_server: MlflowServer, tmp_path: Path) -> None:
    experiment = f"prefix{len(ending)}"
    with gateway(tmp_path, mlflow_server.uri, prefix="/mlflow/") as front:
        site = Site(tmp_path / "site", f"{front.uri}/mlflow{ending}", experiment)
        site.write("a", OLD)
        site.sync()
        assert site.program.call("verify", "--deep").returncode == 0
        assert stored(mlflow_server.uri, experiment) == {"a": OLD}


def test_a_forgotten_path_prefix_is_named(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with gateway(tmp_path, mlflow_server.uri, prefix="/mlflow/") as front:
        failure = failure_of(front.uri)
        assert failure.kind is Kind.PAUSED
        assert failure.cure == f'Set mlflow.tracking_uri = "{front.uri}/mlflow"'


def test_a_path_prefix_that_is_not_there(mlflow_server: MlflowServer) -> None:
    failure = failure_of(f"{mlflow_server.uri}/mlflow")
    assert failure.kind is Kind.PAUSED
    assert failure.cure == f'Set mlflow.tracking_uri = "{mlflow_server.uri}"'


def test_a_server_that_does_not_know_the_name_that_it_is_called_by(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with gateway(tmp_path, mlflow_server.uri, host="mlflow.example.com") as front:
        failure = failure_of(front.uri)
    assert failure.kind is Kind.PAUSED
    assert "--allowed-hosts" in failure.cure


# -- TLS ---------------------------------------------------------------------------------------------------------


def test_a_certificate_that_is_not_trusted_and_the_three_ways_with_it(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secure(tmp_path, mlflow_server.uri, certificate) as uri:
        failure = failure_of(uri)
        assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
        assert "is not trusted" in failure.error
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in failure.cure
        site = Site(tmp_path / "site", uri, "tls")
        site.write("a", OLD)
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in site.refused()
        site.sync(MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate.ca))
        site.write("b", NEW)
        site.sync(MLFLOW_TRACKING_INSECURE_TLS="true")
        site.write("c", b"by the system's own setting")
        site.sync(REQUESTS_CA_BUNDLE=str(certificate.ca))
        assert stored(mlflow_server.uri, "tls") == {"a": OLD, "b": NEW, "c": b"by the system's own setting"}
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate.ca))
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        assert "not together with MLFLOW_TRACKING_INSECURE_TLS" in failure_of(uri).cure
        monkeypatch.delenv("MLFLOW_TRACKING_INSECURE_TLS")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "gone.pem"))
        failure = failure_of(uri)
        assert failure.kind is Kind.PAUSED
        assert "gone.pem" in failure.error
        assert "Correct MLFLOW_TRACKING_SERVER_CERT_PATH" in failure.cure


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [({"expired": True}, "Renew the server's certificate"), ({"host": "127.0.0.2"}, "the name that the certificate")],
)
def test_a_certificate_that_is_wrong_though_its_authority_is_trusted(
    wrong: dict[str, Any], cure: str, mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, **wrong)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate.ca))
    with secure(tmp_path, mlflow_server.uri, certificate) as uri:
        failure = failure_of(uri)
    assert failure.kind is Kind.PAUSED
    assert cure in failure.cure, failure


def test_https_spoken_to_http(mlflow_server: MlflowServer) -> None:
    failure = failure_of(mlflow_server.uri.replace("http:", "https:"))
    assert failure.kind is Kind.PAUSED
    assert failure.cure == f'Set mlflow.tracking_uri = "{mlflow_server.uri}"'


def test_http_spoken_to_https(mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path) -> None:
    with secure(tmp_path, mlflow_server.uri, certificate) as uri:
        failure = failure_of(uri.replace("https:", "http:"))
    assert failure.kind is Kind.PAUSED
    assert failure.cure == f'Set mlflow.tracking_uri = "{uri}"'


def test_http_spoken_to_a_server_that_says_nothing_of_its_tls(certificate: Certificate) -> None:
    """As MLflow's own server with ``--uvicorn-opts --ssl-keyfile``: it ends the connection."""
    port = free_port()
    command = ["openssl", "s_server", "-accept", str(port), "-cert", str(certificate.chain), "-key",
               str(certificate.key), "-quiet", "-www"]  # fmt: skip
    with running(command, certificate.ca.with_name("openssl.log"), lambda: answers(port)):
        failure = failure_of(f"http://127.0.0.1:{port}")
    assert failure.kind is Kind.PAUSED
    assert failure.cure == f'Set mlflow.tracking_uri = "https://127.0.0.1:{port}"'
