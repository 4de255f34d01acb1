"""What an MLflow server asks, limits, rests on and serves: who one is, how much, its database, direct or through it."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from artifactd.errors import Kind, Scope
from artifactd.tracking import limits, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.contact import contact
from artifactd.tracking.probe import probe
from artifactd.tracking.trial import Question
from conftest import MlflowServer
from stores.nginx import nginx, passing
from stores.servers import ADMIN, AuthServer, Server
from stores.serving import KNOWN_WITHIN, NEW, OLD, Site, checked, failure_of, gateway, secure, stored
from stores.tls import Certificate
from support import Oracle, free_port, wait_for

pytestmark = [pytest.mark.stores, pytest.mark.live]


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
        assert sorted(mlflow_server.artifact_root.rglob("*")) == before
        found = contact(Question(uri, None, None))
        assert (found.error, found.refuses) == ("", False)
        assert found.sent is not None
        assert found.sent.ok, found.sent
        assert 29 < ((found.certificate_end or 0.0) - time.time()) / 86_400 < 31
    before = sorted(mlflow_server.artifact_root.rglob("*"))
    with gateway(tmp_path, mlflow_server.uri, location=f"client_max_body_size {LIMIT};", prefix="/m/") as front:
        begun = time.monotonic()
        assert limits.largest_body(f"{front.uri}/m/") == LIMIT
        assert time.monotonic() - begun < 5
    assert sorted(mlflow_server.artifact_root.rglob("*")) == before


@pytest.mark.parametrize(
    ("location", "refuses", "says"),
    [
        (f"client_max_body_size {LIMIT};", True, None),
        ("if ($request_method = PUT) { return 413; }", False, "413"),  # it takes what is announced, and no upload
    ],
)
def test_five_mebibytes_are_sent_unless_they_are_refused_before(
    location: str, refuses: bool, says: str | None, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    with gateway(tmp_path, mlflow_server.uri, location=location) as front:
        found = contact(Question(front.uri, None, None))
        puts = [request for request in front.requests() if request.startswith("PUT")]
    assert (found.error, found.refuses) == ("", refuses)
    assert bool(puts) is not refuses
    assert (found.sent is None) is refuses
    assert found.sent is None or (not found.sent.ok and str(says) in found.sent.detail), found.sent


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
            wait_for(lambda: "run ready" in site.program.text(), "it has begun", 60)
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
            doctor = site.program.call("doctor")
            assert doctor.returncode == 1, "files failed, and 5 MiB would"
            assert "what stands before the server refuses a body of 5 MiB (413)" in doctor.stdout
            assert "2 files failed" in doctor.stdout
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


def test_check_looks_at_several_stores_at_once_and_those_that_hang_hold_back_no_other(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/mlflow.db"
    names = tuple(f"hung-{n}" for n in range(7))
    with contextlib.ExitStack() as ends:
        client = Oracle(database).client
        for name in names:
            silent = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
            client.create_experiment(name, artifact_location=f"ftp://127.0.0.1:{silent.getsockname()[1]}/x")
        begun = time.monotonic()
        store, *artifacts = probe(Question(database, None, (tmp_path / "near").as_uri(), names), within=12)
        assert time.monotonic() - begun < KNOWN_WITHIN
    assert store.ok
    near, *hung = artifacts
    assert (near.ok, near.subject) == (True, (tmp_path / "near").as_uri())
    assert {(step.ok, step.detail) for step in hung} == {(False, "it could not be written within 12 s")}
    assert len({step.subject for step in hung}) == len(names)


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
