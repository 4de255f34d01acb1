"""A machine whose clock is wrong, as the stores find out; only the clock of the SDK is moved."""

from __future__ import annotations

import datetime

import pytest

from stores import seaweed as keys
from stores.gcloud import Google
from stores.objects import ObjectStore
from stores.user import User

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

_WRONG = [datetime.timedelta(hours=-2), datetime.timedelta(hours=2)]


@pytest.mark.parametrize("by", _WRONG, ids=["slow", "fast"])
def test_s3(by: datetime.timedelta, seaweed: ObjectStore, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS looks at the time of a signature as Amazon does."""
    from botocore import auth

    right = auth.get_current_datetime
    user.set(**keys.environ(seaweed.endpoint, *keys.ADMIN))
    monkeypatch.setattr(auth, "get_current_datetime", lambda: right() + by)
    said = user.refused(seaweed.artifact_location)
    assert "clock is wrong" in said.error
    assert "timedatectl" in said.cure
    monkeypatch.setattr(auth, "get_current_datetime", right)
    user.upload(seaweed.artifact_location)


@pytest.mark.parametrize("by", _WRONG, ids=["slow", "fast"])
def test_google(by: datetime.timedelta, google: Google, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token endpoint is the first to see it: a service account signs with the time."""
    from google.auth import _helpers

    right = _helpers.utcnow
    user.set(GOOGLE_APPLICATION_CREDENTIALS=str(user.write("key.json", google.key_file("1"))))
    monkeypatch.setattr(_helpers, "utcnow", lambda: right() + by)
    said = user.refused(google.store.artifact_location)
    assert "clock is wrong" in said.error
    assert "timedatectl" in said.cure
    monkeypatch.setattr(_helpers, "utcnow", right)
    user.upload(google.store.artifact_location)
