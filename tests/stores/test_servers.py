"""MLflow's server in its forms: what is wrong is told with the setting that mends it, within seconds."""

from __future__ import annotations

import socket
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
from artifactd.tracking.probe import probe
from artifactd.tracking.runs import RunSpec, prepare_run
from artifactd.tracking.trial import Question
from conftest import MlflowServer
from stores.nginx import Nginx, answering, nginx, passing
from stores.running import answers, running
from stores.servers import ADMIN, AuthServer, Server
from stores.tls import Certificate, make_certificate
from support import Oracle, Program, free_port, wait_for
from support import environment as clean

pytestmark = [pytest.mark.stores, pytest.mark.live]

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


@contextmanager
def secure(folder: Path, uri: str, certificate: Certificate) -> Iterator[str]:
    """nginx with TLS before a server; its URI."""
    with gateway(folder, uri, tls=certificate) as front:
        yield f"https://127.0.0.1:{front.port}"


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


# -- who asks ----------------------------------------------------------------------------------------------------


def home_with(folder: Path, user: str, password: str) -> Path:
    """A home folder with MLflow's file of credentials."""
    (folder / ".mlflow").mkdir(parents=True, exist_ok=True)
    (folder / ".mlflow" / "credentials").write_text(
        f"[mlflow]\nmlflow_tracking_username = {user}\nmlflow_tracking_password = {password}\n"
    )
    return folder


def test_no_wrong_and_hidden_credentials_are_told_apart(
    auth_server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    failure = failure_of(auth_server.uri)
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
    assert "no credentials are set" in failure.error
    home_with(tmp_path, "eve", "hunter-2-secret")
    failure = failure_of(auth_server.uri)
    assert "does not accept the credentials of 'eve' from ~/.mlflow/credentials" in failure.error
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mallory")
    assert "of 'mallory' from MLFLOW_TRACKING_USERNAME" in failure_of(auth_server.uri).error
    in_uri = auth_server.uri.replace("http://", "http://oscar:hunter-2-secret@")
    assert "of 'oscar' in the tracking URI" in failure_of(in_uri).error
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login trudy password hunter-2-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
    failure = failure_of(auth_server.uri)
    assert "'trudy' from ~/.netrc, which take the place" in failure.error
    assert "hunter-2-secret" not in str(failure)
    netrc.unlink()
    assert server.connect(auth_server.uri, embedded_artifacts=None).search_experiments()


def test_a_token(mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    gate = 'if ($http_authorization != "Bearer right-token") { return 401; }'
    with gateway(tmp_path, mlflow_server.uri, location=gate) as front:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wrong-token-of-old")
        failure = failure_of(front.uri)
        assert "does not accept the token from MLFLOW_TRACKING_TOKEN" in failure.error
        assert "wrong-token-of-old" not in str(failure)
        site = Site(tmp_path / "site", front.uri, "token")
        site.write("a", OLD)
        site.sync(MLFLOW_TRACKING_TOKEN="right-token")
        assert stored(mlflow_server.uri, "token") == {"a": OLD}


def test_credentials_that_are_corrected_and_changed_while_the_service_runs(
    auth_server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_with(tmp_path / "home", ADMIN[0], "not-the-password")
    auth_server.add_user("rita", "first-password-1")
    site = Site(tmp_path / "site", auth_server.uri, "corrected")
    site.write("a", OLD)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
    with site.program.running(HOME=str(home)):
        assert site.held("does not accept")["kind"] == "paused"
        home_with(home, "rita", "first-password-1")
        site.all_stored(1)
        auth_server.change_password("rita", "second-password-2")
        site.write("b", NEW)
        assert site.held("does not accept the credentials of 'rita'")["kind"] == "paused"
        home_with(home, "rita", "second-password-2")
        site.all_stored(2)
    assert stored(auth_server.uri, "corrected") == {"a": OLD, "b": NEW}


def test_a_user_without_permission_holds_back_that_experiment_alone(
    auth_server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth_server.add_user("bob", "bobs-own-password")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
    admin = Oracle(auth_server.uri).client
    theirs = admin.create_experiment("theirs")
    site = Site(tmp_path / "site", auth_server.uri, "theirs")
    site.write("a", OLD)
    mine = site.program.drop / "bobs" / "r"
    mine.mkdir(parents=True)
    (mine / "b").write_bytes(NEW)
    with site.program.running(HOME=str(home_with(tmp_path / "home", "bob", "bobs-own-password"))):
        said = site.held("the credentials of 'bob' from ~/.mlflow/credentials: no permission there")
        assert said["kind"] == "paused"
        wait_for(lambda: site.program.status()["stored"] == 1, "the other experiment flows")
        auth_server.allow(theirs, "bob", "EDIT")
        site.all_stored(2)
    assert stored(auth_server.uri, "theirs") == {"a": OLD}
    assert stored(auth_server.uri, "bobs") == {"b": NEW}


# -- limits ------------------------------------------------------------------------------------------------------

LIMIT = 2 * 2**20


def test_the_limit_is_learnt_without_sending_anything(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits.largest_body(mlflow_server.uri) is None
    assert limits.refuses(mlflow_server.uri, limits.LARGEST) is False
    before = sorted(mlflow_server.artifact_root.rglob("*"))
    with gateway(tmp_path, mlflow_server.uri, tls=certificate) as front:
        uri = f"https://127.0.0.1:{front.port}"
        assert limits.refuses(uri, 1) is None, "nobody is asked who may be somebody else"
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate.ca))
        assert limits.largest_body(uri) is None
    with gateway(tmp_path, mlflow_server.uri, location=f"client_max_body_size {LIMIT};", prefix="/m/") as front:
        begun = time.monotonic()
        assert limits.largest_body(f"{front.uri}/m/") == LIMIT
        assert time.monotonic() - begun < 5
    assert sorted(mlflow_server.artifact_root.rglob("*")) == before


def test_a_body_limit_is_named_with_its_setting_and_holds_back_nothing_else(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    port = free_port()
    through = passing(port, mlflow_server.uri)
    limited = passing(port, mlflow_server.uri, location=f"client_max_body_size {LIMIT};")
    with nginx(tmp_path / "nginx", limited, port=port) as front:
        site = Site(tmp_path / "site", front.uri, "limit")
        site.write("over", b"x" * (LIMIT + 1))
        with (site.folder / "far over").open("wb") as f:
            f.truncate(200 * 2**20)
        with site.program.running():
            for name in ("over", "far over"):
                said = wait_for(
                    lambda name=name: next(  # type: ignore[misc]
                        (f for f in site.program.status().get("failures", ()) if f["path"].endswith(f"/{name}")), None
                    ),
                    "it fails", KNOWN_WITHIN,
                )  # fmt: skip
                assert said["kind"] == "permanent", said
                assert f"at most {LIMIT:,} bytes at once" in said["error"]
            assert "client_max_body_size" in site.program.call("explain", str(site.folder / "over")).stdout
            assert not any("far" in r for r in front.requests()), "not sent in vain"
            site.write("small", OLD)
            site.write("at the limit", b"x" * LIMIT)
            wait_for(lambda: site.program.status()["stored"] == 2, "the others flow")
            checked = site.program.call("check")
            assert checked.returncode == 0
            assert "client_max_body_size" in checked.stdout
            assert "2.0 MiB" in checked.stdout
            front.configure(through)
            assert site.program.call("retry", "--all").returncode == 0
            site.all_stored(4)


# -- the database under it ---------------------------------------------------------------------------------------


def test_a_database_that_stops_and_freezes_costs_time_alone(postgres_server: Server, tmp_path: Path) -> None:
    database = postgres_server.database
    assert database is not None
    site = Site(tmp_path / "site", postgres_server.uri, "postgres")
    site.write("a", OLD)
    with site.program.running():
        site.all_stored(1)
        database.stop()
        try:
            site.write("b", NEW)
            said = site.held("503")
            assert said["kind"] == "transient"
            assert "psycopg2" in said["error"], "it says whose trouble it is"
        finally:
            database.start()
        site.all_stored(2)
        with database.frozen():
            site.write("c", NEW)
            assert site.held("cannot be reached")["kind"] == "transient"
        site.all_stored(3)
    assert stored(postgres_server.uri, "postgres") == {"a": OLD, "b": NEW, "c": NEW}


# -- direct or through the server --------------------------------------------------------------------------------


def test_a_server_that_serves_no_artifacts_with_a_folder_that_both_see(direct_server: Server, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", direct_server.uri, "direct")
    site.write("a", OLD)
    site.sync()
    assert site.program.call("verify", "--deep").returncode == 0
    assert stored(direct_server.uri, "direct") == {"a": OLD}
    assert "directly, past the server" in " ".join(site.program.call("check").stdout.split())


def test_a_server_that_serves_no_artifacts_though_its_experiment_says_so(direct_server: Server, tmp_path: Path) -> None:
    Oracle(direct_server.uri).client.create_experiment("unserved", artifact_location="mlflow-artifacts:/unserved")
    site = Site(tmp_path / "site", direct_server.uri, "unserved")
    site.write("a", OLD)
    said = site.refused()
    assert "serves no artifacts" in said
    assert "--serve-artifacts" in said


# -- two servers in one process ----------------------------------------------------------------------------------


def test_two_servers_in_one_process_never_mix(
    mlflow_server: MlflowServer, auth_server: AuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same artifact URI at both, in turns: MLflow's own cache of repositories would take one for the other."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN[1])
    uri = "mlflow-artifacts:/0/00000000000000000000000000000000/artifacts"
    servers = {mlflow_server.uri: b"for the open one", auth_server.uri: b"for the one that asks"}
    for server_ in servers:
        server.connect(server_, embedded_artifacts=None)
    stores = {server_: RunArtifacts(uri, server_) for server_ in servers}
    for turn in range(10):
        for server_, content in servers.items():
            (tmp_path / "f").write_bytes(content)
            with (tmp_path / "f").open("rb") as f:
                stores[server_].upload(f.fileno(), len(content), "", f"f{turn}")
    below = Path("artifacts", *uri.split("/")[1:])
    for folder, content in (
        (mlflow_server.artifact_root.parent, servers[mlflow_server.uri]),
        (auth_server.folder, servers[auth_server.uri]),
    ):
        assert {p.name: p.read_bytes() for p in (folder / below).iterdir()} == {f"f{n}": content for n in range(10)}
    for server_, content in servers.items():
        assert set(stores[server_].sizes("").values()) == {len(content)}


# -- what `check` says -------------------------------------------------------------------------------------------


def checked(site: Site, **env: Any) -> tuple[int, str]:
    """Exit code and table of ``check``, on a line, within 15 s."""
    begun = time.monotonic()
    done = site.program.call("check", COLUMNS="250", **env)
    assert time.monotonic() - begun < KNOWN_WITHIN
    return done.returncode, " ".join(done.stdout.split())


def test_check_tells_a_store_that_cannot_list_from_one_that_cannot_write(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    port = free_port()
    blocks = {
        "list": passing(port, mlflow_server.uri, location="if ($arg_path) { return 403; }"),
        "write": passing(port, mlflow_server.uri, location="if ($request_method = PUT) { return 403; }"),
    }
    with nginx(tmp_path / "nginx", blocks["list"], port=port) as front:
        site = Site(tmp_path / "site", front.uri, "rights")
        code, said = checked(site)
        assert code == 1
        assert "an object was written" in said
        assert "but it could not be listed" in said
        front.configure(blocks["write"])
        code, said = checked(site)
        assert code == 1
        assert "answered 403" in said
        assert "an object was written" not in said


def test_check_looks_at_several_stores_at_once_and_one_that_hangs_holds_back_no_other(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/mlflow.db"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Oracle(database).client
        client.create_experiment("hung", artifact_location=f"ftp://127.0.0.1:{silent.getsockname()[1]}/x")
        begun = time.monotonic()
        question = Question(database, None, (tmp_path / "near").as_uri(), ("hung",))
        store, *artifacts = probe(question, within=12)
        assert time.monotonic() - begun < KNOWN_WITHIN
    assert store.ok
    near, hung = artifacts
    assert (near.ok, near.subject) == (True, (tmp_path / "near").as_uri())
    assert (hung.ok, hung.detail) == (False, "it could not be written within 12 s")
    assert hung.subject.startswith("ftp://127.0.0.1")


def test_a_location_that_the_server_does_not_allow(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    site = Site(tmp_path / "site", mlflow_server.uri, "elsewhere")
    config = site.program.config.read_text()
    site.program.config.write_text(config.replace("[mlflow]", '[mlflow]\nartifact_location = "sftp://host/x"'))
    site.write("a", OLD)
    said = site.refused()
    assert "does not allow the artifact location" in said
    assert "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES" in said


def test_check_warns_of_tls_that_is_not_looked_at(
    mlflow_server: MlflowServer, certificate: Certificate, tmp_path: Path
) -> None:
    with secure(tmp_path, mlflow_server.uri, certificate) as uri:
        site = Site(tmp_path / "site", uri, "insecure")
        code, said = checked(site, MLFLOW_TRACKING_INSECURE_TLS="true")
        assert code == 0
        assert "the server's certificate is not looked at" in said
        code, said = checked(site, MLFLOW_TRACKING_SERVER_CERT_PATH=str(certificate.ca))
        assert code == 0
        assert "Mind:" not in said
