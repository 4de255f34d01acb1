"""The tour of docs/tour.md: all that MLflow's artifact API does, by files alone; each block of the page is run."""

from __future__ import annotations

import doctest
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import MlflowServer
from support import environment, free_port, wait_for

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "tour.md"
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"))
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Desk:
    """Where the page is followed: a folder that it calls /data, a server that it calls mlflow:5000."""

    def __init__(self, base: Path, server: str) -> None:
        self.base = base
        self.server = server
        bin_folder = Path(sys.executable).parent
        self.environ = environment(
            PATH=f"{bin_folder}{os.pathsep}{os.environ['PATH']}", MLFLOW_TRACKING_URI=server, COLUMNS="160",
            ARTIFACTD_CONFIG=str(base / "config.toml"),
        )  # fmt: skip
        self.names: dict[str, Any] = {}

    def here(self, text: str) -> str:
        """The page's words for this desk."""
        return text.replace("http://mlflow:5000", self.server).replace("/data/", f"{self.base}/")

    def there(self, text: str) -> str:
        """This desk's output in the page's words."""
        return text.replace(self.server, "http://mlflow:5000").replace(f"{self.base}/", "/data/")

    def shell(self, block: str) -> None:
        """Run what stands behind each prompt, and compare what it prints."""
        for step in re.split(r"(?m)^\$ ", block)[1:]:
            command, _, wanted = step.partition("\n")
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.base, env=self.environ, capture_output=True, text=True, timeout=120,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
            got = self.there(done.stdout)
            assert doctest.OutputChecker().check_output(wanted, got, LIKE), f"$ {command}\n{got}\ninstead of\n{wanted}"

    def python(self, block: str) -> None:
        """Run what stands behind each prompt, in one interpreter for the whole page."""
        said: list[str] = []
        examples = doctest.DocTestParser().get_doctest(block, self.names, "docs/tour.md", str(PAGE), 0)
        doctest.DocTestRunner(optionflags=LIKE).run(examples, out=said.append, clear_globs=False)
        self.names.update(examples.globs)
        assert not said, "".join(said)


@pytest.fixture
def desk(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """With the page's two files, and its service running."""
    desk = Desk(tmp_path_factory.mktemp("tour"), mlflow_server.uri)
    for language, text in BLOCKS:
        named = re.match(r"# ([\w.]+)\n", text)
        if language in ("toml", "python") and named is not None:
            (desk.base / named[1]).write_text(desk.here(text), encoding="utf-8")
    (desk.base / "drop").mkdir()
    with (desk.base / "service.log").open("wb") as log:
        service = subprocess.Popen(
            ["artifactd", "run"], cwd=desk.base, env=desk.environ, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield desk
    finally:
        os.killpg(service.pid, signal.SIGTERM)
        service.wait(30)


@pytest.mark.long
def test_the_tour(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test: what follows the page asks for what the page has made."""
    monkeypatch.chdir(desk.base)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", desk.server)
    for language, text in BLOCKS:
        if language == "console" and "$ artifactd run" not in text:
            desk.shell(text)
        elif language == "python" and text.startswith(">>>"):
            desk.python(text)
    _shown_by_the_ui(desk)
    _served(desk)


def _served(desk: Desk) -> None:
    """A web service answers for the alias, as it does for a model that was logged by the API."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", "models:/wine@champion", "--env-manager", "local", f"--port={port}"]
    with (desk.base / "serving.log").open("wb") as log:
        serving = subprocess.Popen(
            command, cwd=desk.base, env=desk.environ, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: _answer(port, "ping"), "the model is served", 90)
        rows = {"inputs": {"alcohol": [14.2, 12.0, 13.2], "color_intensity": [5.6, 2.0, 9.5]}}
        answer = _answer(port, "invocations", json.dumps(rows).encode())
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.wait(30)
    assert answer is not None
    assert json.loads(answer) == {"predictions": [0, 1, 2]}


def _shown_by_the_ui(desk: Desk) -> None:
    """The page of the run, its folders and its pictures, by the addresses that MLflow's UI uses."""
    client = desk.names["client"]
    run_id = desk.names["run"].info.run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    assert b"<html" in _get(f"{desk.server}/")
    listed = json.loads(_get(f"{desk.server}/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}&path=plots"))
    assert [f["path"] for f in listed["files"]] == ["plots/accuracy.png"]
    picture = _get(f"{desk.server}/get-artifact?path=plots%2Faccuracy.png&run_uuid={run_id}")
    assert picture.startswith(b"\x89PNG")


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as response:  # noqa: S310 (our own server)
        body: bytes = response.read()
    return body


def _answer(port: int, path: str, body: bytes | None = None) -> bytes | None:
    """What the served model answers; None while it does not."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{path}", body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            said: bytes = response.read()
    except (urllib.error.URLError, ConnectionError):
        return None
    return said or b"\n"
