"""A store without room.

SeaweedFS, when it is full, says no more than that it has a trouble of its own, and that is what can be told. What
other stores say (507, XMinioStorageFull, quotaExceeded) stands in test_object_errors, as answers of theirs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from artifactd.errors import DeliveryError, Kind
from stores import seaweed as keys
from stores.running import NotThereError
from stores.user import User

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]


def test_a_full_store_is_tried_again(user: User, tmp_path: Path) -> None:
    try:
        with keys.seaweed(tmp_path, volumes=2, mebibytes=1) as store:
            user.set(**keys.environ(store.endpoint, *keys.ADMIN))
            user.upload(store.artifact_location)
            fill(store.endpoint)
            with pytest.raises(DeliveryError) as caught:
                user.upload(store.artifact_location, b"x" * 2**20)
    except NotThereError as exc:
        pytest.fail(f"a store could not be started: {exc}")
    said = caught.value.failure
    assert said.kind is Kind.TRANSIENT
    assert "has trouble of its own (500 InternalError" in said.error
    assert "store's log" in said.cure


def fill(endpoint: str) -> None:
    """Write until nothing goes in any more."""
    client = keys.client(endpoint)
    for n in range(100):
        try:
            client.put_object(Bucket=keys.BUCKET, Key=f"filler/{n}", Body=b"x" * 2**20)
        except ClientError:
            return
    raise AssertionError("the store has room for 100 MiB")
