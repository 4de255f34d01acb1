"""Several stores in one process, each by its own credentials: nothing of one goes to another."""

from __future__ import annotations

import pytest

from stores.objects import ObjectStore
from stores.user import User

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]


def test_kinds_of_stores_never_mix(
    seaweed: ObjectStore, azurite: ObjectStore, fakegcs: ObjectStore, user: User
) -> None:
    """In turns, in buckets and containers of one name."""
    stores = (seaweed, azurite, fakegcs)
    for store in stores:
        user.set(**store.environ)
    for turn in range(5):
        for store in stores:
            user.upload(store.artifact_location, f"{turn} for {store.endpoint}".encode())
        for store in stores:
            assert user.held(store.artifact_location) == f"{turn} for {store.endpoint}".encode()


def test_one_store_without_credentials_holds_back_no_other(
    seaweed: ObjectStore, azurite: ObjectStore, user: User
) -> None:
    user.set(**seaweed.environ, AZURE_STORAGE_CONNECTION_STRING=azurite.environ["AZURE_STORAGE_CONNECTION_STRING"])
    for _ in range(3):
        user.set(AWS_SECRET_ACCESS_KEY="not-the-secret")
        assert "the secret does not fit the key" in user.refused(seaweed.artifact_location).error
        user.upload(azurite.artifact_location)
        user.set(AWS_SECRET_ACCESS_KEY=seaweed.environ["AWS_SECRET_ACCESS_KEY"])
        user.upload(seaweed.artifact_location)
