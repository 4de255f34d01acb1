"""A server that has big files sent in parts, straight to the store behind it: what is verified, what a kill leaves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stores.azurite import azurite
from stores.nginx import nginx, passing
from stores.seaweed import BUCKET, client, seaweed
from stores.servers import Server, mlflow_form
from stores.serving import Site
from support import free_port, wait_for

pytestmark = [pytest.mark.stores, pytest.mark.live]

PART = 5 * 2**20
FROM = 3 * PART
SMALLER: dict[str, Any] = {
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(FROM),
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(PART),
}
"""The client's: by default files of 500 MiB and more go, in parts of 10 MiB."""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Any]]:
    """A server before S3 that offers parts, and the store's own client."""
    base = tmp_path_factory.mktemp("multipart")
    with seaweed(base) as store:
        env = {**store.environ, "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true"}
        s3 = client(store.endpoint)
        with mlflow_form(base / "server", artifacts_destination=store.artifact_location, env=env) as server:
            yield server, s3
        s3.close()


def open_uploads(s3: Any) -> list[dict[str, Any]]:
    return list(s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))


@pytest.mark.parametrize(("size", "parts"), [(FROM - 1, 1), (FROM, 3), (FROM + 1, 4)])
def test_from_a_size_on_parts_go_to_the_store_without_anybody_asking_for_it(
    size: int, parts: int, proxied: tuple[Server, Any], tmp_path: Path
) -> None:
    server, s3 = proxied
    # What stands before the server sees the small ones whole, of the big ones nothing but the calls around them.
    port = free_port()
    with nginx(
        tmp_path / "nginx", passing(port, server.uri, location=f"client_max_body_size {FROM};"), port=port
    ) as front:
        site = Site(tmp_path / "site", front.uri, f"parts{size}")
        site.write("big", b"x" * size)
        site.sync(**SMALLER)
        assert site.program.call("verify", "--deep", **SMALLER).returncode == 0
        asked = [r for r in front.requests() if "/artifacts" in r]
        assert any(r.startswith("PUT") for r in asked) == (parts == 1)
        assert any("mpu/complete" in r for r in asked) == (parts > 1)
    found = [o for o in s3.list_objects_v2(Bucket=BUCKET)["Contents"] if o["Size"] == size]
    assert len(found) == 1
    if parts > 1:
        assert found[0]["ETag"].strip('"').endswith(f"-{parts}")


def test_a_kill_in_the_middle_leaves_parts_in_the_bucket_and_nothing_counts_as_stored(
    proxied: tuple[Server, Any], tmp_path: Path
) -> None:
    server, s3 = proxied
    before = {u["UploadId"] for u in open_uploads(s3)}
    site = Site(tmp_path / "site", server.uri, "killed")
    with (site.folder / "big").open("wb") as f:
        for n in range(60):
            f.write(bytes([n]) * PART)
    service = site.program.start(**SMALLER)
    try:
        wait_for(lambda: [u for u in open_uploads(s3) if u["UploadId"] not in before], "its parts are under way", 60)
    finally:
        service.send_signal(signal.SIGKILL)
        service.wait(10)
    status = site.program.status()
    assert status["stored"] == 0
    with site.program.running(**SMALLER):
        site.all_stored(1)
    assert site.program.call("verify", "--deep", timeout=120, **SMALLER).returncode == 0
    left = [u for u in open_uploads(s3) if u["UploadId"] not in before]
    assert left, "nobody takes what the kill left away: that is for a lifecycle rule of the bucket"
    assert all(u["Key"].endswith("/artifacts/big") for u in left)


@pytest.mark.parametrize(("parts", "in_parts"), [(9, True), (12, False)])
def test_azure_gets_a_file_whole_where_the_names_of_its_parts_have_several_lengths(
    parts: int, in_parts: bool, tmp_path: Path
) -> None:
    port = free_port()
    with azurite(tmp_path) as store:
        env = {**store.environ, "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true"}
        with (
            mlflow_form(tmp_path / "server", artifacts_destination=store.artifact_location, env=env) as server,
            nginx(
                tmp_path / "nginx", passing(port, server.uri, location="client_max_body_size 0;"), port=port
            ) as front,
        ):
            site = Site(tmp_path / "site", front.uri, "blocks")
            site.write("big", b"".join(bytes([n]) * PART for n in range(parts)))
            site.sync(**SMALLER)
            assert site.program.call("verify", "--deep", **SMALLER).returncode == 0
            asked = [r for r in front.requests() if "/artifacts" in r]
    assert any("mpu/create" in r for r in asked)
    assert any("mpu/complete" in r for r in asked) == in_parts
    assert any(r.startswith("PUT") for r in asked) != in_parts


def test_check_says_that_parts_take_another_way(proxied: tuple[Server, Any], tmp_path: Path) -> None:
    server, _ = proxied
    done = Site(tmp_path / "site", server.uri, "said").program.call("check", **SMALLER)
    assert done.returncode == 0, done.stdout
    assert "files of 15 MiB and more go in parts straight to the store behind the server" in " ".join(
        done.stdout.split()
    )
