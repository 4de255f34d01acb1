"""What each object store, its SDK, and what may stand before it can say or fail to say; each made for real."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking import environment as process
from artifactd.tracking.artifacts import RunArtifacts
from stores import attempt
from stores.objects import ObjectStore, moved
from stores.relay import Relay, answering, black_hole, response, self_signed
from support import environment, free_port

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

KNOWN_WITHIN = 15.0
"""Seconds in which whatever is wrong must be known."""

TRACKING = "sqlite:////nowhere.db"
STORES = ("seaweed", "azurite", "fakegcs")
Set = Callable[[Mapping[str, str]], None]


@pytest.fixture
def set_environ(monkeypatch: pytest.MonkeyPatch) -> Set:
    process.prepare(TRACKING)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    def set_all(environ: Mapping[str, str]) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def failure(location: str, source: Path) -> Failure:
    """What an upload there comes to, known in time."""
    begun = time.monotonic()
    with source.open("rb") as stream, pytest.raises(DeliveryError) as caught:
        RunArtifacts(f"{location}/run", TRACKING).upload(stream.fileno(), source.stat().st_size, "", source.name)
    assert time.monotonic() - begun < KNOWN_WITHIN
    assert caught.value.failure.error.startswith(location), "it names the store"
    assert caught.value.failure.cure, "it says what to do"
    return caught.value.failure


def test_who_may_only_read(seaweed: ObjectStore, azurite: ObjectStore, source: Path, set_environ: Set) -> None:
    for store in (seaweed, azurite):
        set_environ(store.read_only)
        said = failure(store.artifact_location, source)
        assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
        assert "does not permit it" in said.error


def test_no_such_bucket(object_store: ObjectStore, source: Path, set_environ: Set) -> None:
    set_environ(object_store.environ)
    said = failure(object_store.missing, source)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
    assert "no such bucket or container" in said.error


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not know the key"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-0123456789"}, "the secret does not fit the key"),
        ({"AWS_PROFILE": "no-such-profile", "AWS_ACCESS_KEY_ID": ""}, "no credentials that can be used"),
    ],
)
def test_a_wrong_key_of_s3(
    wrong: dict[str, str], words: str, seaweed: ObjectStore, source: Path, set_environ: Set
) -> None:
    set_environ({**seaweed.environ, **wrong})
    said = failure(seaweed.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
    assert words in said.error
    assert "AWS_ACCESS_KEY_ID" in said.cure
    assert "wrong-secret" not in str(said)


def test_a_wrong_key_of_azure(azurite: ObjectStore, source: Path, set_environ: Set) -> None:
    from stores.azurite import connection_string

    set_environ({"AZURE_STORAGE_CONNECTION_STRING": connection_string(azurite.endpoint, "d3Jvbmcta2V5")})
    said = failure(azurite.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
    assert "the secret does not fit the key" in said.error
    assert "d3Jvbmcta2V5" not in str(said)


def test_a_connection_string_that_is_none(azurite: ObjectStore, source: Path, set_environ: Set) -> None:
    set_environ({"AZURE_STORAGE_CONNECTION_STRING": "nonsense"})
    said = failure(azurite.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
    assert "settings cannot be used" in said.error


def test_a_key_is_taken_up_as_soon_as_its_file_has_it(
    seaweed: ObjectStore, source: Path, set_environ: Set, tmp_path: Path
) -> None:
    """Rotation without a restart: boto3 itself would keep the first key for as long as the process lives."""
    keys = tmp_path / "credentials"

    def write(key: str, secret: str) -> None:
        keys.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")

    others = {name: value for name, value in seaweed.environ.items() if "KEY" not in name}
    set_environ({**others, "AWS_SHARED_CREDENTIALS_FILE": str(keys)})
    assert "no credentials" in failure(seaweed.artifact_location, source).error
    store = RunArtifacts(f"{seaweed.artifact_location}/rotated", TRACKING)

    def upload() -> None:
        with source.open("rb") as stream:
            store.upload(stream.fileno(), source.stat().st_size, "", "file")

    from stores import seaweed as there

    write(*there.ADMIN)
    upload()
    write(*there.READER)
    with pytest.raises(DeliveryError, match="does not permit it"):
        upload()
    write(*there.ADMIN)
    upload()


@pytest.mark.parametrize("size", [7, 6 * 2**20, 20 * 2**20], ids=["small", "one request", "parts"])
def test_a_store_that_swallows_requests(size: int, object_store: ObjectStore, source: Path, set_environ: Set) -> None:
    source.write_bytes(bytes(size))
    with black_hole() as endpoint:
        set_environ(moved(object_store, endpoint))
        said = failure(object_store.artifact_location, source)
        assert (said.kind, said.scope) == (Kind.TRANSIENT, Scope.RUN)
        assert f"cannot be reached at {endpoint.removeprefix('http://')}: timed out" in said.error
        with pytest.raises(DeliveryError) as caught:
            _timed(lambda: RunArtifacts(f"{object_store.artifact_location}/run", TRACKING).sizes(""))
        assert caught.value.failure.kind is Kind.TRANSIENT


def _timed(call: Callable[[], object]) -> None:
    begun = time.monotonic()
    try:
        call()
    finally:
        assert time.monotonic() - begun < KNOWN_WITHIN


def test_a_dead_port(object_store: ObjectStore, source: Path, set_environ: Set) -> None:
    port = free_port()
    set_environ(moved(object_store, f"http://127.0.0.1:{port}"))
    said = failure(object_store.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.TRANSIENT, Scope.RUN)
    assert said.error.endswith(f"cannot be reached at 127.0.0.1:{port}: Connection refused")


def test_a_host_that_no_name_server_knows(object_store: ObjectStore, source: Path, set_environ: Set) -> None:
    set_environ(moved(object_store, "http://no-such-host.invalid:80"))
    said = failure(object_store.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.TRANSIENT, Scope.RUN)
    assert "no-such-host.invalid" in said.error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("certificate"))


def test_a_certificate_that_nobody_trusts(
    object_store: ObjectStore, source: Path, set_environ: Set, certificate: Path
) -> None:
    with answering(response("200 OK"), certificate) as endpoint:
        set_environ(moved(object_store, endpoint))
        said = failure(object_store.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
    assert "its certificate is not trusted (self-signed certificate)" in said.error
    assert "Name its CA with" in said.cure


def test_the_named_setting_makes_a_certificate_trusted(
    object_store: ObjectStore, source: Path, set_environ: Set, certificate: Path
) -> None:
    """What the message tells the user to do helps: the failure is another one then."""
    with answering(response("507 Insufficient Storage"), certificate) as endpoint:
        set_environ(moved(object_store, endpoint))
        variable = failure(object_store.artifact_location, source).cure.split("Name its CA with ")[1].split(";")[0]
        set_environ({variable: str(certificate)})
        assert "is full" in failure(object_store.artifact_location, source).error


def test_a_port_that_speaks_no_tls(object_store: ObjectStore, source: Path, set_environ: Set) -> None:
    with answering(response("200 OK")) as endpoint:
        set_environ(moved(object_store, endpoint.replace("http:", "https:")))
        said = failure(object_store.artifact_location, source)
    assert said.kind in (Kind.PAUSED, Kind.TRANSIENT)
    assert "TLS" in said.error or "cannot be reached" in said.error


def _s3(status: str, code: str, message: str, **headers: str) -> bytes:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return response(status, body, Content_Type="application/xml", **headers)


def _azure(status: str, code: str, message: str, detail: str = "") -> bytes:
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message>{detail}</Error>'
    )
    return response(status, body, Content_Type="application/xml", x_ms_error_code=code)


def _google(status: str, reason: str, message: str, **headers: str) -> bytes:
    number = status.split(maxsplit=1)[0]
    body = f'{{"error":{{"code":{number},"message":"{message}","errors":[{{"reason":"{reason}"}}]}}}}'
    return response(status, body, Content_Type="application/json", **headers)


_HTML = "<html><body>Sign in</body></html>"
ANSWERS = [
    ("seaweed", _s3("503 Slow Down", "SlowDown", "Please reduce your request rate.", Retry_After="7"), Kind.TRANSIENT,
     Scope.RUN, "is overloaded (503 SlowDown", 7.0),
    ("seaweed", _s3("403 Forbidden", "RequestTimeTooSkewed", "The difference is too large."), Kind.PAUSED, Scope.RUN,
     "clock is wrong", 0.0),
    ("seaweed", _s3("400 Bad Request", "ExpiredToken", "The provided token has expired."), Kind.PAUSED, Scope.RUN,
     "credentials have expired", 0.0),
    ("seaweed", _s3("301 Moved Permanently", "PermanentRedirect", "Use the specified endpoint."), Kind.PAUSED,
     Scope.RUN, "the bucket is elsewhere: wrong region or endpoint (301 PermanentRedirect", 0.0),
    ("seaweed", _s3("400 Bad Request", "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting "
     "'eu-west-1'"), Kind.PAUSED, Scope.RUN, "expecting 'eu-west-1'", 0.0),
    ("seaweed", _s3("507 Insufficient Storage", "XMinioStorageFull", "Storage backend has reached its minimum."),
     Kind.TRANSIENT, Scope.RUN, "is full", 0.0),
    ("seaweed", _s3("403 Forbidden", "QuotaExceeded", "The quota is exceeded."), Kind.TRANSIENT, Scope.RUN, "is full",
     0.0),
    ("seaweed", _s3("400 Bad Request", "EntityTooLarge", "Your proposed upload exceeds the maximum."), Kind.PERMANENT,
     Scope.FILE, "takes no object of that size", 0.0),
    ("seaweed", _s3("400 Bad Request", "BadDigest", "The CRC32 you specified did not match."), Kind.TRANSIENT,
     Scope.FILE, "other bytes than were sent", 0.0),
    ("azurite", _azure("503 Busy", "ServerBusy", "The server is busy."), Kind.TRANSIENT, Scope.RUN, "is overloaded",
     0.0),
    ("azurite", _azure("403 Forbidden", "AuthenticationFailed", "Server failed to authenticate the request.",
     "<AuthenticationErrorDetail>Request date header too old: 'Mon'</AuthenticationErrorDetail>"), Kind.PAUSED,
     Scope.RUN, "clock is wrong", 0.0),
    ("azurite", _azure("403 Forbidden", "AuthenticationFailed", "Server failed to authenticate the request.",
     "<AuthenticationErrorDetail>Signature not valid in the specified time frame</AuthenticationErrorDetail>"),
     Kind.PAUSED, Scope.RUN, "credentials have expired", 0.0),
    ("azurite", _azure("403 Forbidden", "AuthorizationPermissionMismatch", "This request is not authorized."),
     Kind.PAUSED, Scope.RUN, "does not permit it", 0.0),
    ("azurite", _azure("409 Conflict", "AccountBeingCreated", "Not yet."), Kind.PERMANENT, Scope.FILE, "refuses it",
     0.0),
    ("fakegcs", _google("403 Forbidden", "forbidden", "sa@project does not have storage.objects.create access."),
     Kind.PAUSED, Scope.RUN, "does not permit it", 0.0),
    ("fakegcs", _google("429 Too Many Requests", "rateLimitExceeded", "Slow down.", Retry_After="9"), Kind.TRANSIENT,
     Scope.RUN, "is overloaded", 9.0),
    ("fakegcs", _google("403 Forbidden", "quotaExceeded", "The quota is exceeded."), Kind.TRANSIENT, Scope.RUN,
     "is full", 0.0),
    ("fakegcs", _google("404 Not Found", "notFound", "The specified bucket does not exist."), Kind.PAUSED, Scope.RUN,
     "no such bucket", 0.0),
    *((store, response("429 Too Many Requests", Retry_After="11"), Kind.TRANSIENT, Scope.RUN, "is overloaded", 11.0)
      for store in STORES),
    *((store, response("503 Service Unavailable", _HTML, Content_Type="text/html", Retry_After="3"), Kind.TRANSIENT,
       Scope.RUN, "is overloaded", 3.0) for store in STORES),
    *((store, response("507 Insufficient Storage"), Kind.TRANSIENT, Scope.RUN, "is full", 0.0) for store in STORES),
    *((store, response("413 Content Too Large", _HTML, Content_Type="text/html"), Kind.PERMANENT, Scope.FILE,
       "takes no object of that size", 0.0) for store in STORES),
    *((store, response("500 Internal Server Error"), Kind.TRANSIENT, Scope.FILE, "trouble of its own", 0.0)
      for store in STORES),
]  # fmt: skip


@pytest.mark.parametrize(
    ("store", "answer", "kind", "scope", "words", "retry_after"), ANSWERS,
    ids=[f"{a[0]}-{a[1].split(None, 2)[1].decode()}-{n}" for n, a in enumerate(ANSWERS)],
)  # fmt: skip
def test_what_a_store_or_a_gateway_answers(
    store: str, answer: bytes, kind: Kind, scope: Scope, words: str, retry_after: float, source: Path,
    set_environ: Set, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    running: ObjectStore = request.getfixturevalue(store)
    with answering(answer) as endpoint:
        set_environ(moved(running, endpoint))
        said = failure(running.artifact_location, source)
    assert (said.kind, said.scope, said.retry_after) == (kind, scope, retry_after), said
    assert words in said.error


def _upload_and_list(artifacts: RunArtifacts, source: Path) -> None:
    with source.open("rb") as stream:
        artifacts.upload(stream.fileno(), source.stat().st_size, "", "file")
    artifacts.sizes("")


def test_a_login_page_in_place_of_a_store(object_store: ObjectStore, source: Path, set_environ: Set) -> None:
    """Whether the upload is believed or not: no store is seen where there is none."""
    page = response("200 OK", "<!DOCTYPE html>" + _HTML, Content_Type="text/html")
    with answering(page) as endpoint:
        set_environ(moved(object_store, endpoint))
        with pytest.raises(DeliveryError) as caught:
            _upload_and_list(RunArtifacts(f"{object_store.artifact_location}/run", TRACKING), source)
    assert caught.value.failure.kind is Kind.PAUSED
    assert "web page" in caught.value.failure.error


@pytest.mark.parametrize("tunnel", [False, True], ids=["http", "https"])
def test_a_proxy_that_asks_who_we_are(
    tunnel: bool,
    object_store: ObjectStore,
    source: Path,
    set_environ: Set,
) -> None:
    with answering(response("407 Proxy Authentication Required", Proxy_Authenticate="Basic")) as proxy:
        there = "https://store.invalid" if tunnel else "http://store.invalid"
        set_environ({**moved(object_store, there), "HTTP_PROXY": proxy, "HTTPS_PROXY": proxy})
        set_environ({"http_proxy": proxy, "https_proxy": proxy, "NO_PROXY": "", "no_proxy": ""})
        said = failure(object_store.artifact_location, source)
    assert (said.kind, said.scope) == (Kind.PAUSED, Scope.RUN)
    assert "407" in said.error
    assert "HTTPS_PROXY" in said.cure


@contextlib.contextmanager
def _refusing() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("metadata", [_refusing, black_hole], ids=["no metadata service", "a dumb one"])
@pytest.mark.parametrize("location", ["s3://bucket/x", "wasbs://c@account.blob.core.windows.net/x", "gs://bucket/x"])
def test_no_credentials_at_all(
    location: str, metadata: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> None:
    """Nor is anything sent as nobody, which is what MLflow does with Google's store."""
    with metadata() as endpoint:
        host = endpoint.removeprefix("http://")
        done = subprocess.run(
            [sys.executable, attempt.__file__, location],
            env=environment(
                HOME=str(tmp_path), AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint, GCE_METADATA_HOST=host,
                GCE_METADATA_IP=host, AZURE_POD_IDENTITY_AUTHORITY_HOST=endpoint,
            ),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds, said = done.stdout.strip().split("\t")
    assert float(seconds) < KNOWN_WITHIN, said
    assert said.startswith("paused: ")
    assert "no credentials that can be used" in said


@pytest.mark.parametrize(("store", "size"), [("seaweed", 9), ("azurite", 3), ("fakegcs", 3)])
def test_an_upload_that_moves_slowly_is_not_cut(
    store: str, size: int, source: Path, set_environ: Set, request: pytest.FixtureRequest
) -> None:
    """64 KiB/s for each connection: longer than any limit for silence, in requests that SDKs send as one piece."""
    running: ObjectStore = request.getfixturevalue(store)
    source.write_bytes(bytes(range(256)) * 4096 * size)
    with Relay(int(running.endpoint.rpartition(":")[2])) as relay:
        set_environ(moved(running, f"http://127.0.0.1:{relay.port}"))
        artifacts = RunArtifacts(f"{running.artifact_location}/slow", TRACKING)
        artifacts.sizes("")
        relay.rate = 64 * 1024 * (2 if size > 8 else 1)
        with source.open("rb") as stream:
            artifacts.upload(stream.fileno(), source.stat().st_size, "", "file")
        relay.rate = 0
        assert artifacts.sizes("") == {"file": source.stat().st_size}
        artifacts.download("file", source.with_name("back"))
        assert source.with_name("back").read_bytes() == source.read_bytes()


@pytest.mark.big
@pytest.mark.timeout(900)
def test_parts_that_share_a_slow_line_are_not_cut(seaweed: ObjectStore, source: Path, set_environ: Set) -> None:
    """64 KiB/s for all of them: each waits for the others' bytes too."""
    source.write_bytes(bytes(range(256)) * 4096 * 24)
    with Relay(int(seaweed.endpoint.rpartition(":")[2])) as relay:
        set_environ(moved(seaweed, f"http://127.0.0.1:{relay.port}"))
        artifacts = RunArtifacts(f"{seaweed.artifact_location}/slower", TRACKING)
        artifacts.sizes("")
        relay.rate = 64 * 1024
        with source.open("rb") as stream:
            artifacts.upload(stream.fileno(), source.stat().st_size, "", "file")
        relay.rate = 0
        assert artifacts.sizes("") == {"file": source.stat().st_size}
