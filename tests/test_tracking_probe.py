"""The probe: a round trip proves what works, what does not is told in time, and nothing of the user is touched."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from artifactd.tracking.probe import probe
from artifactd.tracking.server import connect
from artifactd.tracking.trial import EXPERIMENT, OBJECT, Ended, Question, Step, ask
from cli_support import own_environment
from conftest import MlflowServer
from support import free_port

live = pytest.mark.live


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


_THROUGH = (
    "one object written, listed, read back and removed, through the server, since it gives mlflow-artifacts: as the "
    "location"
)


def steps(question: Question) -> list[Step]:
    return [event.step for event in ask(question) if isinstance(event, Ended)]


class TestWithServer:
    pytestmark = live

    def test_a_round_trip_in_a_run_of_its_own(self, mlflow_server: MlflowServer, temporary: Path) -> None:
        client = connect(mlflow_server.uri, embedded_artifacts=None)
        mine = client.create_run("0").info.run_id
        (server, store) = probe(Question(mlflow_server.uri, None, None))
        assert (server.ok, server.detail) == (True, f"MLflow {version('mlflow-skinny')}")
        assert (store.ok, store.detail) == (True, _THROUGH)
        assert store.subject.startswith("mlflow-artifacts:")
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert client.search_runs([experiment.experiment_id]) == [], "its run is deleted"
        assert not list(mlflow_server.artifact_root.rglob(OBJECT))
        assert client.list_artifacts(mine) == []
        assert list(temporary.iterdir()) == []

    def test_a_store_in_the_state_folder_is_refused(self, mlflow_server: MlflowServer, tmp_path: Path) -> None:
        client = connect(mlflow_server.uri, embedded_artifacts=None)
        client.create_experiment("inside", artifact_location=f"file://{tmp_path}/state/inside")
        (_, *stores) = steps(Question(mlflow_server.uri, None, None, ("inside",), f"{tmp_path}/state"))
        (refused,) = [store for store in stores if not store.ok]
        assert "artifactd's own state folder" in refused.detail
        assert not (tmp_path / "state").exists()

    def test_the_stores_of_known_experiments_are_looked_at_too(
        self, mlflow_server: MlflowServer, tmp_path: Path
    ) -> None:
        client = connect(mlflow_server.uri, embedded_artifacts=None)
        client.create_experiment("near", artifact_location=f"file://{tmp_path}/share/near")
        (_, *stores) = steps(Question(mlflow_server.uri, None, None, ("near", "unheard of", "near")))
        near, default = sorted(stores, key=lambda s: s.subject)  # side by side, as they are done
        assert default.subject.startswith("mlflow-artifacts:")
        assert near.subject == f"file://{tmp_path}/share/{EXPERIMENT}"
        assert near.ok
        assert "directly, past the server" in near.detail
        assert "a folder of this host" in near.warnings[0].what

    def test_a_configured_location_that_cannot_be_written_to(self, mlflow_server: MlflowServer, tmp_path: Path) -> None:
        (tmp_path / "full").write_bytes(b"a file, not a folder")
        (server, store) = steps(Question(mlflow_server.uri, None, f"file://{tmp_path}/full"))
        assert server.ok
        assert not store.ok
        assert store.detail
        moved = f"file://{tmp_path}/moved"
        assert steps(Question(mlflow_server.uri, None, moved))[1].subject == moved, "not where the last one was"


def test_a_server_that_is_not_there() -> None:
    (server,) = steps(Question(f"http://user:hunter22@127.0.0.1:{free_port()}", None, None))
    assert not server.ok
    assert "cannot be reached" in server.detail
    assert "See that it runs" in server.cure
    assert "hunter22" not in f"{server}"


def test_a_server_that_swallows_requests_does_not_hold_the_answer_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        (server,) = probe(Question(uri, None, None), within=1.0)
    assert time.monotonic() - begun < 5
    assert (server.ok, server.subject, server.detail) == (False, uri, "it could not be reached within 1 s")


def test_a_page_that_is_no_mlflow_server(http_page: str) -> None:
    (server,) = steps(Question(http_page, None, None))
    assert not server.ok
    assert "web page" in server.detail


@pytest.fixture
def http_page() -> Iterator[str]:
    import http.server
    import threading

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><html>Log in</html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
