"""Contact: what a real server says of itself, and what is told of one that says nothing. What is written goes again."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from importlib.metadata import version
from pathlib import Path

import pytest

from artifactd.tracking import reasons
from artifactd.tracking.contact import THROUGH, Contact, Way, ask, clock_ahead, contact
from artifactd.tracking.server import Client, connect
from artifactd.tracking.trial import EXPERIMENT, OBJECT, Question, Step, send
from cli_support import own_environment
from conftest import MlflowServer
from support import free_port


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path) -> Iterator[None]:
    with own_environment(tmp_path):
        yield


def held(client: Client) -> tuple[set[str], set[str]]:
    """Names of experiments, ids of runs."""
    experiments = client.search_experiments()
    runs = client.search_runs([experiment.experiment_id for experiment in experiments])
    return {experiment.name for experiment in experiments}, {run.info.run_id for run in runs}


@pytest.mark.live
def test_a_server_says_what_it_is_and_keeps_what_it_has(
    mlflow_server: MlflowServer, tmp_path: Path, temporary: Path
) -> None:
    client = connect(mlflow_server.uri, embedded_artifacts=None)
    client.create_experiment("contact-near", artifact_location=f"file://{tmp_path}/share/near")
    before = held(client)
    found = contact(Question(mlflow_server.uri, None, None, ("contact-near", "unheard of", "contact-near")))
    ours = version("mlflow-skinny")
    assert (found.error, found.client, found.server, found.who) == ("", ours, ours, None)
    assert found.ahead is not None
    assert abs(found.ahead) < 2
    assert found.seconds is not None
    assert [way.scheme for way in found.ways] == ["mlflow-artifacts", "file"]
    assert found.through
    assert found.refuses is False
    assert found.sent is not None
    assert found.sent.ok, found.sent
    assert "written, listed, read back and removed, through the server" in found.sent.detail
    assert (found.certificate_end, found.warnings) == (None, ())
    experiments, runs = before
    assert held(client) == (experiments | {EXPERIMENT}, runs)
    assert not list(mlflow_server.artifact_root.rglob(OBJECT))
    assert list(temporary.iterdir()) == []


@pytest.mark.live
def test_what_cannot_be_tried_is_told_apart_from_what_is_refused(
    mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(mlflow_server.uri, embedded_artifacts=None)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no runs for you")

    question = Question(mlflow_server.uri, None, None)
    monkeypatch.setattr(client, "create_run", refuse)
    step = send(client, question, 10, THROUGH)
    assert step is not None
    assert (step.what, step.ok) == ("run", False)
    assert send(client, question, 10, ("s3",)) is None


@pytest.mark.live
def test_a_configured_location_takes_the_place_of_the_servers(mlflow_server: MlflowServer) -> None:
    (found,) = ask(Question(mlflow_server.uri, None, "s3://key:hunter22@bucket/path"))
    (way,) = found.ways
    assert (way.scheme, found.through, found.refuses, found.sent) == ("s3", False, None, None)
    assert "hunter22" not in f"{found}"


def test_a_server_that_is_not_there() -> None:
    found = contact(Question(f"http://user:hunter22@127.0.0.1:{free_port()}", None, None))
    assert "cannot be reached" in found.error
    assert "See that it runs" in found.cure
    assert found.who == "the credentials of 'user' in the tracking URI"
    assert "hunter22" not in f"{found}"


def test_a_server_that_swallows_requests_does_not_hold_the_answer_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        found = contact(Question(f"http://127.0.0.1:{silent.getsockname()[1]}", None, None), within=0.5)
    assert time.monotonic() - begun < 5
    assert "did not answer within" in found.error
    assert found.client == "", "nobody was there to say it"


def test_what_was_learnt_before_the_time_was_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is so slow that 5 MiB are not through in time: all else is known by then."""
    slow = Step("store", "http://m", False, 30.0, "it was not there and back within the 30 s", "Try one big file")
    known = Contact(client="3.17.2", ways=(Way("mlflow-artifacts:/0", "mlflow-artifacts", "through"),), sent=slow)
    said = json.dumps(dataclasses.asdict(known)).encode() + b'\n{"err'

    def late(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 30, output=said)

    monkeypatch.setattr(subprocess, "run", late)
    assert contact(Question("http://m", None, None)) == known


@contextlib.contextmanager
def clocked(ahead: float | None) -> Iterator[str]:
    """A server whose clock is wrong by so many seconds, or that has none."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            if ahead is not None:
                self.send_header("Date", formatdate(time.time() + ahead, usegmt=True))
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"3.17.2")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}"
        finally:
            httpd.shutdown()
            thread.join()


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -90.0])
def test_a_clock_is_compared_to_within_a_second_or_so(ahead: float) -> None:
    with clocked(ahead) as uri:
        found = clock_ahead(uri)
    assert found is not None
    assert abs(found - ahead) < 1.5


def test_a_server_without_a_clock_says_nothing_of_it() -> None:
    with clocked(None) as uri:
        assert clock_ahead(uri) is None


def test_a_user_without_a_password_is_a_token_and_not_shown() -> None:
    assert reasons.who("https://hunter22:@mlflow.test") == "the token in the tracking URI"
    assert reasons.who("https://me:hunter22@mlflow.test") == "the credentials of 'me' in the tracking URI"
