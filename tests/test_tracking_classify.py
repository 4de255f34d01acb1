"""Each error is made by the real thing where a socket or a file can make it."""

from __future__ import annotations

import errno
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifactd import installation
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.tracking import environment, server
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.classify import classify


@contextmanager
def answering(status: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Iterator[str]:
    """A web server that gives one answer to everything, after it took the body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer  # noqa: N815  (http.server's names)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def put_failure(uri: str, file: Path, leaf: str = "f.txt", folder: str = "") -> Failure:
    """What a PUT through the proxy at `uri` comes to."""
    environment.prepare(uri)
    store = RunArtifacts("mlflow-artifacts:/0/abc/artifacts", uri)
    with file.open("rb") as f, pytest.raises(DeliveryError) as caught:
        store.upload(f.fileno(), file.stat().st_size, folder, leaf)
    return caught.value.failure


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1000)
    return path


@pytest.mark.parametrize(
    ("status", "kind", "scope"),
    [
        (401, Kind.PAUSED, Scope.TARGET),
        (403, Kind.PAUSED, Scope.TARGET),
        (404, Kind.PERMANENT, Scope.FILE),
        (405, Kind.TRANSIENT, Scope.FILE),
        (413, Kind.PERMANENT, Scope.FILE),
        (429, Kind.TRANSIENT, Scope.TARGET),
        (500, Kind.TRANSIENT, Scope.FILE),
        (502, Kind.TRANSIENT, Scope.TARGET),
        (503, Kind.TRANSIENT, Scope.TARGET),
        (504, Kind.TRANSIENT, Scope.TARGET),
    ],
)
def test_what_a_server_answers_to_a_put(status: int, kind: Kind, scope: Scope, file: Path) -> None:
    with answering(status) as uri:
        failure = put_failure(uri, file)
    assert (failure.kind, failure.scope) == (kind, scope), failure
    assert str(status) in failure.error
    assert uri in failure.error
    assert failure.cure


def test_413_names_the_setting(file: Path) -> None:
    with answering(413) as uri:
        assert "client_max_body_size" in put_failure(uri, file).cure


def test_a_dead_port_is_known_at_once_and_transient(file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        failure = put_failure(f"http://127.0.0.1:{taken.getsockname()[1]}", file)
    assert (failure.kind, failure.scope) == (Kind.TRANSIENT, Scope.TARGET)
    assert "cannot be reached" in failure.error
    assert " object at 0x" not in failure.error


def test_a_path_that_mlflow_refuses_is_permanent_though_its_code_is_that_of_a_dead_server(file: Path) -> None:
    failure = put_failure("http://127.0.0.1:1", file, folder="a/../b")
    assert (failure.kind, failure.scope) == (Kind.PERMANENT, Scope.FILE)


def contact_failure(uri: str) -> Failure:
    with pytest.raises(DeliveryError) as caught:
        server.connect(uri, embedded_artifacts=None)
    return caught.value.failure


def test_a_redirect_is_refused_at_first_contact_with_the_right_url() -> None:
    with answering(301, headers={"Location": "https://mlflow.example/version"}) as uri:
        failure = contact_failure(uri)
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
    assert 'mlflow.tracking_uri = "https://mlflow.example"' in failure.cure


def test_a_login_page_is_not_taken_for_a_server() -> None:
    with answering(200, b"<!doctype html><HTML><form>Sign in</form></html>") as uri:
        failure = contact_failure(uri)
    assert failure.kind is Kind.PAUSED
    assert "web page" in failure.error


def test_a_password_in_the_uri_is_in_no_text(file: Path) -> None:
    with answering(403) as uri:
        failure = put_failure(uri.replace("http://", "http://ana:hunter2-secret@"), file)
    assert "hunter2-secret" not in str(failure)


def test_a_full_disk_is_transient_with_a_next_step() -> None:
    failure = classify(OSError(errno.ENOSPC, "No space left on device"), target="file:///store", scope=Scope.RUN)
    assert (failure.kind, failure.scope) == (Kind.TRANSIENT, Scope.RUN)
    assert "Free space" in failure.cure


def test_a_missing_sdk_names_the_extra() -> None:
    failure = classify(ModuleNotFoundError("No module named 'boto3'", name="boto3"), target="s3://b/p", scope=Scope.RUN)
    assert failure.kind is Kind.PAUSED
    assert failure.cure == str(installation.here().with_extra("s3"))


def test_a_store_without_an_extra_of_ours_names_the_package() -> None:
    environment.prepare("http://127.0.0.1:1")
    with pytest.raises(DeliveryError) as caught:
        RunArtifacts("abfss://system@account.dfs.core.windows.net/x", "http://127.0.0.1:1")
    assert caught.value.failure.kind is Kind.PAUSED
    assert "pip install azure-storage-file-datalake azure-identity" in caught.value.failure.cure


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first, target="http://m", scope=Scope.TARGET).kind is Kind.TRANSIENT


def test_a_failure_that_was_classed_stays_as_it_was() -> None:
    inner = Failure(Kind.PERMANENT, Scope.RUN, "the run is deleted")
    assert classify(DeliveryError(inner), target="http://m", scope=Scope.TARGET) is inner


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_gateways_own_json_is_no_missing_run(status: int, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    from artifactd.tracking.runs import inspect_run

    with answering(status, b'{"message": "token expired"}') as uri:
        environment.prepare(uri)
        with pytest.raises(DeliveryError) as caught:
            inspect_run(MlflowClient(uri), "0" * 32, uri)
    failure = caught.value.failure
    assert (failure.kind, failure.scope) == (Kind.PAUSED, Scope.TARGET)
    assert "token expired" in failure.error


def _sdk_failures() -> dict[str, tuple[Exception, str, Kind, str]]:
    """What SDKs raise where no server that fits into a test would make them."""
    from azure.core.exceptions import ClientAuthenticationError
    from botocore.exceptions import ClientError, ConnectTimeoutError, SSOTokenLoadError
    from google.auth.exceptions import RefreshError, TransportError
    from google.cloud.storage.exceptions import DataCorruption

    def of_s3(code: str) -> Exception:
        exc: Exception = ClientError({"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {}}, "PutObject")
        return exc

    skew = "invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe"
    return {
        "clock of google's tokens": (RefreshError(skew), "gs://b/x", Kind.PAUSED, "clock is wrong"),
        "revoked key": (RefreshError("invalid_grant: Invalid JWT"), "gs://b/x", Kind.PAUSED, "no credentials"),
        "token server down": (
            TransportError(ConnectionError("[Errno 111] Connection refused")), "gs://b/x", Kind.TRANSIENT, "reached",
        ),
        "corrupted": (DataCorruption(None, "crc32c"), "gs://b/x", Kind.TRANSIENT, "other bytes than were sent"),
        "sso": (SSOTokenLoadError(error_msg="expired"), "s3://b/x", Kind.PAUSED, "no credentials"),
        "session token": (of_s3("ExpiredToken"), "s3://b/x", Kind.PAUSED, "have expired"),
        "role": (of_s3("ExpiredTokenException"), "s3://b/x", Kind.PAUSED, "have expired"),
        "upload gone": (of_s3("NoSuchUpload"), "s3://b/x", Kind.TRANSIENT, "nothing of the upload"),
        "long name": (of_s3("KeyTooLongError"), "s3://b/x", Kind.PERMANENT, "of that name"),
        "unknown, no status": (of_s3("Strange"), "s3://b/x", Kind.PERMANENT, "refuses it"),
        "syn": (ConnectTimeoutError(endpoint_url="http://h:1/x"), "s3://b/x", Kind.TRANSIENT, "reached at h:1"),
        "entra": (ClientAuthenticationError("AADSTS7000222: expired"), "wasbs://c@a/x", Kind.PAUSED, "no credentials"),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(_sdk_failures()))
def test_what_only_a_cloud_says(name: str) -> None:
    exc, where, kind, words = _sdk_failures()[name]
    failure = classify(exc, target=where, scope=Scope.RUN)
    assert failure.kind is kind, failure
    assert words in failure.error
    assert failure.error.startswith(where)
    assert failure.cure


def test_a_process_without_memory_is_no_failure_of_the_store() -> None:
    try:
        try:
            raise MemoryError
        except MemoryError as exc:
            raise OSError("the request was not made") from exc
    except OSError as exc:
        with pytest.raises(MemoryError):
            classify(exc, target="http://mlflow", scope=Scope.TARGET)


@pytest.mark.parametrize(
    "said", ["\r\n" * 100_000, "An error occurred (" * 10_000, " Content" * 25_000, "<a" * 100_000]
)
@pytest.mark.parametrize("target", ["s3://b/x", "gs://b/x", "http://m"])
def test_what_a_server_says_at_great_length_is_judged_at_once(said: str, target: str) -> None:
    from botocore.exceptions import ClientError
    from mlflow.exceptions import MlflowException

    answer = {"Error": {"Code": "", "Message": said}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    google = type("BadRequest", (Exception,), {"__module__": "google.api_core.exceptions"})
    uploaded = type("S3UploadFailedError", (Exception,), {"__module__": "boto3.exceptions"})
    for exc in (ClientError(answer, "PutObject"), google(said), uploaded(said), MlflowException(said)):
        begun = time.process_time()
        failure = classify(exc, target=target, scope=Scope.RUN)
        assert time.process_time() - begun < 1
        assert len(failure.error) < 1000
