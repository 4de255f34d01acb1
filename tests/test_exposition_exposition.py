"""The listener follows the configuration, and what it cannot have keeps nobody from delivering."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactd.config import MetricsConfig
from artifactd.errors import ArtifactdError
from artifactd.exposition import exposition
from artifactd.exposition.exposition import Exposition
from artifactd.metrics import Figures
from cli_support import Book
from support import free_port


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Exposition]:
    book = Book(tmp_path)
    made = Exposition(book.state, Figures(), list)
    yield made
    made.close()
    book.close()


def settings(port: int | None, token_file: Path | None = None) -> MetricsConfig:
    listen = None if port is None else f"127.0.0.1:{port}"
    return MetricsConfig.model_validate({"listen": listen, "token_file": token_file})


def ask(port: int, path: str = "/metrics") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_it_listens_where_it_is_told_to_and_nowhere_else(held: Exposition) -> None:
    first, second = free_port(), free_port()
    held.use(settings(None))
    held.use(settings(first))
    assert "artifactd_files" in ask(first)[1]
    kept = held._listener
    held.use(settings(first))
    assert held._listener is kept
    held.use(settings(second))
    assert ask(second)[0] == 200
    with pytest.raises(urllib.error.URLError):
        ask(first)
    held.use(settings(None))
    with pytest.raises(urllib.error.URLError):
        ask(second)


def test_the_page_is_there_unless_it_is_not_wanted(held: Exposition) -> None:
    port = free_port()
    held.use(settings(port))
    assert "<title>artifactd</title>" in ask(port, "/")[1]
    assert json.loads(ask(port, "/files")[1])["files"] == []
    assert json.loads(ask(port, "/runs?show=open")[1])["runs"] == []
    assert ask(port, "/files?after=x")[0] == 400
    held.use(settings(port).model_copy(update={"page": False}))
    assert [ask(port, path)[0] for path in ("/", "/events", "/files", "/runs", "/metrics")] == [404] * 4 + [200]


def test_it_says_whether_the_loop_turns_and_has_begun(held: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    held.use(settings(port))
    assert ask(port, "/healthz") == (200, "ok\n")
    assert ask(port, "/readyz")[0] == 503
    held.ready()
    assert ask(port, "/readyz") == (200, "ready\n")
    held.turned(time.monotonic() - 61)
    status, said = ask(port, "/healthz")
    assert (status, said.startswith("the loop has stood still for 61 s")) == (503, True)


def test_an_address_that_is_taken_is_had_once_it_is_free(
    held: Exposition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    other = Exposition(held._state_dir, Figures(), list)
    other.use(settings(port))
    held.use(settings(port))
    now = time.monotonic()
    held.turned(now)
    held.turned(now + exposition.AGAIN)
    said = capsys.readouterr()
    assert (said.out + said.err).count("metrics are not served") == 1
    other.close()
    held.turned(now + 3 * exposition.AGAIN)
    assert ask(port)[0] == 200


def test_a_dead_thread_ends_the_service(held: Exposition) -> None:
    held.use(settings(free_port()))
    assert held._listener is not None
    held._listener.failure = MemoryError("none is left")
    with pytest.raises(ArtifactdError, match="none is left"):
        held.turned(time.monotonic())


def test_nothing_of_prometheus_is_imported_for_who_wants_no_metrics() -> None:
    import subprocess
    import sys

    code = (
        "import sys, json, artifactd.service; print(json.dumps([m for m in sys.modules if m.startswith('prometheus')]))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(found.stdout) == []
