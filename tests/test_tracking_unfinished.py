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
from support import environment, free_port


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


def left(place: Path, upload: str) -> Path:
    """What a dead process had under way."""
    record = place / f"{upload}.json"
    record.write_text(json.dumps({"Bucket": "b", "Key": "k", "UploadId": upload}))
    return record


_BEGINS = """
import sys, time
from pathlib import Path
from artifactd.tracking.sdks import unfinished
unfinished._begun(Path(sys.argv[1]), {"Bucket": "b", "Key": "k", "UploadId": sys.argv[2]})
print(flush=True)
time.sleep(60)
"""


def test_what_dead_processes_left_is_aborted_and_what_living_ones_have_open_is_not(
    place: Path, store: Store, endpoint: str
) -> None:
    """Also where a number is given again, or a dead one is not yet buried: nobody asks for numbers."""
    processes = []
    for upload in ("gone", "theirs"):
        command = [sys.executable, "-c", _BEGINS, str(place), upload]
        processes.append(process := subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()))
        assert process.stdout is not None
        process.stdout.readline()
    gone, theirs = processes
    gone.kill()
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    assert Path("/proc", str(gone.pid)).exists(), "it is not buried"
    try:
        unfinished.watch(client(endpoint))
        assert store.aborted == ["gone"]
        assert len(list(place.iterdir())) == 1
    finally:
        theirs.kill()
        for process in processes:
            process.communicate()
    unfinished.watch(client(endpoint))
    assert store.aborted == ["gone", "theirs"]
    assert list(place.iterdir()) == []


def test_one_of_this_process_is_left_alone_by_its_other_clients_until_it_is_over(
    place: Path, store: Store, endpoint: str
) -> None:
    upload = {"Bucket": "b", "Key": "k", "UploadId": "ours"}
    ours = client(endpoint)
    unfinished.watch(ours)
    unfinished._begun(place, upload)
    unfinished.watch(client(endpoint))
    assert store.aborted == []
    ours.abort_multipart_upload(**upload)
    assert list(place.iterdir()) == []
    assert unfinished._held == {}


@pytest.mark.parametrize("status", [403, 404])
def test_what_the_store_does_not_abort_is_asked_for_once(status: int, place: Path, store: Store, endpoint: str) -> None:
    store.status = status
    record = left(place, "gone")
    unfinished.watch(client(endpoint))
    unfinished.watch(client(endpoint))
    assert store.aborted == ["gone"]
    assert not record.exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_the_store_cannot_abort_now_is_asked_for_again(
    status: int, place: Path, store: Store, endpoint: str
) -> None:
    store.status = status
    record = left(place, "gone")
    unfinished.watch(client(endpoint))
    assert record.exists()
    store.status = 204
    unfinished.watch(client(endpoint))
    assert not record.exists()


def test_a_store_that_is_away_is_asked_another_time(place: Path, store: Store, endpoint: str) -> None:
    record = left(place, "gone")
    unfinished.watch(client(f"http://127.0.0.1:{free_port()}"))
    assert record.exists()
    unfinished.watch(client(endpoint))
    assert store.aborted == ["gone"]


@pytest.mark.parametrize("text", ["", '{"Bucket": "b", "Ke', "[]", '"x"'])
def test_a_record_that_a_crash_cut_off_holds_nothing_back(text: str, place: Path, store: Store, endpoint: str) -> None:
    torn = left(place, "a-torn")
    torn.write_text(text)
    left(place, "b-whole")
    unfinished.watch(client(endpoint))
    assert store.aborted == ["b-whole"]
    assert not torn.exists()


def test_without_a_place_nothing_is_written_down(store: Store, endpoint: str) -> None:
    unfinished.watch(client(endpoint))
    assert store.aborted == []
