"""Which unfinished uploads are aborted: those of dead processes alone, each by its own number."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config

from artifactd.tracking.environment import UNFINISHED
from artifactd.tracking.sdks import unfinished
from support import free_port


class Store:
    """Takes every abort, and notes it; or answers what it is told to.

    Attributes:
        aborted: Numbers of uploads, in order.
        status: What it answers.
    """

    def __init__(self) -> None:
        self.aborted: list[str] = []
        self.status = 204


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def endpoint(store: Store) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            store.aborted += parse_qs(urlsplit(self.path).query)["uploadId"]
            self.send_response(store.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "unfinished"
    folder.mkdir()
    monkeypatch.setenv(UNFINISHED, str(folder))
    return folder


def client(endpoint: str) -> Any:
    return boto3.session.Session().client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s",
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def dead() -> int:
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(place: Path, pid: int, upload: str) -> Path:
    record = place / f"{pid}-{upload}.json"
    record.write_text(json.dumps({"Bucket": "b", "Key": "k", "UploadId": upload}))
    return record


def test_what_dead_processes_left_is_aborted_and_what_living_ones_have_open_is_not(
    place: Path, store: Store, endpoint: str
) -> None:
    gone = left(place, dead(), "gone")
    ours = left(place, os.getpid(), "before-the-reboot")  # a number is given again: by us nothing is open yet
    theirs = left(place, os.getppid(), "theirs")
    unfinished.watch(client(endpoint))
    assert sorted(store.aborted) == ["before-the-reboot", "gone"]
    assert (gone.exists(), ours.exists(), theirs.exists()) == (False, False, True)


@pytest.mark.parametrize("status", [403, 404])
def test_what_the_store_does_not_abort_is_asked_for_once(status: int, place: Path, store: Store, endpoint: str) -> None:
    store.status = status
    record = left(place, dead(), "gone")
    unfinished.watch(client(endpoint))
    unfinished.watch(client(endpoint))
    assert store.aborted == ["gone"]
    assert not record.exists()


def test_a_store_that_is_away_is_asked_another_time(place: Path, store: Store, endpoint: str) -> None:
    record = left(place, dead(), "gone")
    unfinished.watch(client(f"http://127.0.0.1:{free_port()}"))
    assert record.exists()
    unfinished.watch(client(endpoint))
    assert store.aborted == ["gone"]


@pytest.mark.parametrize("text", ["", '{"Bucket": "b", "Ke', "[]", '"x"'])
def test_a_record_that_a_crash_cut_off_holds_nothing_back(text: str, place: Path, store: Store, endpoint: str) -> None:
    torn = left(place, dead(), "a-torn")
    torn.write_text(text)
    left(place, dead(), "b-whole")
    unfinished.watch(client(endpoint))
    assert store.aborted == ["b-whole"]
    assert not torn.exists()


def test_without_a_place_nothing_is_written_down(store: Store, endpoint: str) -> None:
    unfinished.watch(client(endpoint))
    assert store.aborted == []
