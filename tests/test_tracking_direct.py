"""Small artifacts to a server: as MLflow sends them, and whatever is out of the ordinary is MLflow's to decide."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from artifactd.errors import DeliveryError, Kind, Scope
from artifactd.tracking import direct, environment
from artifactd.tracking.artifacts import RunArtifacts
from artifactd.tracking.waits import note_answers
from conftest import MlflowServer


@dataclass
class Server:
    """A web server that takes what is put, and answers with what stands first in `answers`, or with 200 and {}.

    One that `dies` ends the connection instead.
    """

    uri: str = ""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    listing: bytes = b'{"files": []}'
    speaks: threading.Event = field(default_factory=threading.Event)
    dies: bool = False


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    server.speaks.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((self.path, dict(self.headers), body))
            server.connections.add(self.client_address)
            server.speaks.wait(10)
            if server.dies:
                self.close_connection = True
                return
            status, content, headers = server.answers.pop(0) if server.answers else (200, b"{}", {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.listing)))
            self.end_headers()
            self.wfile.write(server.listing)

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    server.uri = f"http://127.0.0.1:{httpd.server_address[1]}"
    try:
        yield server
    finally:
        server.speaks.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        environment.prepare(made.uri)
        note_answers()
        yield made


@pytest.fixture
def store(server: Server) -> RunArtifacts:
    return RunArtifacts("mlflow-artifacts:/0/abc/artifacts", server.uri)


def put(store: RunArtifacts, tmp_path: Path, content: bytes, leaf: str, folder: str = "") -> None:
    (tmp_path / "source").write_bytes(content)
    with (tmp_path / "source").open("rb") as f:
        store.upload(f.fileno(), len(content), folder, leaf)


def test_the_second_is_sent_as_mlflow_has_sent_the_first(
    server: Server, store: RunArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-password")
    asked = []
    theirs = direct.Direct._put_by_mlflow

    def counted(self: direct.Direct, *args: str) -> None:
        asked.append(args)
        theirs(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(direct.Direct, "_put_by_mlflow", counted)
    names = [("", "a.txt"), ("sub/deep", "b.json"), ("sub", "c"), ("", "MLmodel"), ("", "d.bin"), ("x", "e.tar.gz")]
    for number, (folder, leaf) in enumerate(names):
        put(store, tmp_path, b"%d" % number, leaf, folder)
    assert len(asked) == 1
    base = "/api/2.0/mlflow-artifacts/artifacts/0/abc/artifacts"
    assert [path for path, _, _ in server.got] == [
        f"{base}/{folder}/{leaf}".replace("//", "/") for folder, leaf in names
    ]
    assert [body for _, _, body in server.got] == [b"%d" % n for n in range(len(names))]
    own = {"Content-Type", "Content-Length"}
    (_, first, _), *others = server.got
    assert first["Authorization"].startswith("Basic ")
    for _, headers, body in others:
        assert {k: v for k, v in headers.items() if k not in own} == {k: v for k, v in first.items() if k not in own}
        assert headers["Content-Length"] == str(len(body))
    kinds = [headers["Content-Type"] for _, headers, _ in server.got]
    assert kinds == [direct._kind(leaf) for _, leaf in names]
    assert kinds[:4] == ["text/plain", "text/plain", "application/octet-stream", "text/plain"]
    assert len(server.connections) == 1


@pytest.mark.parametrize("leaf", ["ä.txt", "a b", "a%20b", "a?b", "a#b", "..b", "a+b"])
def test_a_name_that_does_not_stand_in_a_url_as_it_is_goes_mlflows_way(
    leaf: str, server: Server, store: RunArtifacts, tmp_path: Path
) -> None:
    alone = RunArtifacts("mlflow-artifacts:/0/abc/artifacts", server.uri)
    put(alone, tmp_path, b"1", leaf)
    put(store, tmp_path, b"2", "plain")
    put(store, tmp_path, b"1", leaf)
    (by_mlflow, _, _), _, (after, _, body) = server.got
    assert (after, body) == (by_mlflow, b"1")


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"", {}), (400, b'{"message": "no"}', {}), (302, b"", {"Location": "/login"}),
        (200, b"<html>log in</html>", {}), (201, b"{}", {}),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_of_an_upload_is_asked_for_again_by_mlflow(
    answer: tuple[int, bytes, dict[str, str]], server: Server, store: RunArtifacts, tmp_path: Path
) -> None:
    put(store, tmp_path, b"1", "a")
    if answer[0] == 500:
        server.answers = [answer]
        with pytest.raises(DeliveryError):  # an overloaded server is not asked twice
            put(store, tmp_path, b"2", "b")
        assert len(server.got) == 2
        return
    server.answers = [answer]
    put(store, tmp_path, b"2", "b")
    assert [body for _, _, body in server.got] == [b"1", b"2", b"2"]
    if answer[0] == 302 or answer[1].startswith(b"<"):
        server.answers = [(200, b"{}", {}), answer, answer]
        put(store, tmp_path, b"3", "c")
        with pytest.raises(DeliveryError) as caught:
            put(store, tmp_path, b"4", "d")
        assert caught.value.failure.kind is Kind.PAUSED


@pytest.mark.parametrize("status", [429, 503])
def test_a_crowded_server_is_asked_once_and_its_words_are_kept(
    status: int, server: Server, store: RunArtifacts, tmp_path: Path
) -> None:
    put(store, tmp_path, b"1", "a")
    server.answers = [(status, b'{"message": "later"}', {"Retry-After": "7"})]
    with pytest.raises(DeliveryError) as caught:
        put(store, tmp_path, b"2", "b")
    assert len(server.got) == 2
    directly = caught.value.failure
    server.answers = [(status, b'{"message": "later"}', {"Retry-After": "7"})]
    fresh = RunArtifacts("mlflow-artifacts:/0/abc/artifacts", server.uri)
    with pytest.raises(DeliveryError) as caught:
        put(fresh, tmp_path, b"2", "b")
    by_mlflow = caught.value.failure
    assert directly.retry_after == 7.0
    assert (directly.kind, directly.scope, directly.retry_after) == (
        by_mlflow.kind, by_mlflow.scope, by_mlflow.retry_after,
    )  # fmt: skip


def test_a_server_that_falls_silent_costs_its_time_once(
    server: Server, store: RunArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, tmp_path, b"1", "a")
    monkeypatch.setattr(environment, "expect_bytes", lambda *_: os.environ.update({environment.TIMEOUT: "0.2"}))
    server.speaks.clear()
    try:
        with pytest.raises(DeliveryError) as caught:
            put(store, tmp_path, b"2", "b")
    finally:
        server.speaks.set()
    assert (caught.value.failure.kind, caught.value.failure.scope) == (Kind.TRANSIENT, Scope.TARGET)
    assert "cannot be reached" in caught.value.failure.error
    assert len(server.got) == 2


def test_what_has_gone_out_is_not_sent_again_where_the_answer_is_lost(
    server: Server, store: RunArtifacts, tmp_path: Path
) -> None:
    put(store, tmp_path, b"1", "a")
    server.dies = True
    with pytest.raises(DeliveryError) as caught:
        put(store, tmp_path, b"2", "b")
    assert caught.value.failure.kind is Kind.TRANSIENT
    assert [body for _, _, body in server.got] == [b"1", b"2"]


def test_a_server_that_was_started_anew_is_found_again(store: RunArtifacts, server: Server, tmp_path: Path) -> None:
    server.answers = [(200, b"{}", {"Connection": "close"})]
    put(store, tmp_path, b"1", "a")
    put(store, tmp_path, b"2", "b")
    assert [body for _, _, body in server.got] == [b"1", b"2"]


@pytest.mark.live
def test_a_real_server_has_what_was_sent(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server.uri)
    run = client.create_run(client.create_experiment(tmp_path.name))
    store = RunArtifacts(run.info.artifact_uri, mlflow_server.uri)
    contents = {f"file-{n}.bin": os.urandom(n * 1000) for n in range(5)}
    for leaf, content in contents.items():
        put(store, tmp_path, content, leaf, "folder")
    assert store.sizes("folder") == {leaf: len(content) for leaf, content in contents.items()}
    for leaf, content in contents.items():
        store.download(f"folder/{leaf}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content


@pytest.mark.live
def test_a_real_server_lists_to_us_what_it_lists_to_mlflow(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server.uri)
    run = client.create_run(client.create_experiment(tmp_path.name))
    store = RunArtifacts(run.info.artifact_uri, mlflow_server.uri)
    (tmp_path / "source").write_bytes(b"content")
    for folder, leaf in [("", "a bä.txt"), ("", "empty"), ("deep/down", "one"), ("deep", "two"), ("alone", "alone")]:
        put(store, tmp_path, b"" if leaf == "empty" else b"content", leaf, folder)
    for folder in ("", "deep", "deep/down", "alone", "none"):
        theirs = client.list_artifacts(run.info.run_id, folder or None)
        found = [(f.path.rpartition("/")[2], f.file_size or 0, f.is_dir) for f in theirs]
        assert sorted(direct.listed(store._repo, folder)) == sorted(found)
        assert sorted(store._entries(folder)) == sorted(found)
    assert store.tree() == [("a bä.txt", 7), ("deep/down/one", 7), ("deep/two", 7), ("empty", 0)]


def test_a_folders_own_entries_in_a_listing_are_not_followed(server: Server, store: RunArtifacts) -> None:
    entries = [".", "..", "../x", "a/..", "x", "deep/y", "/etc/z", ""]
    server.listing = json.dumps(
        {"files": [{"path": path, "is_dir": False, "file_size": 1} for path in entries]}
    ).encode()
    assert store.sizes("") == {"x": 1, "y": 1, "z": 1}
    for wrong in (b"[]", b"{}{", b'{"files": [{}]}', b'{"files": [{"path": 1, "is_dir": false}]}', b"<html>"):
        server.listing = wrong
        with pytest.raises(DeliveryError):
            store.sizes("")
