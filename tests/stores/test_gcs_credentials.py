"""Credentials as users of Google Cloud Storage have them, each to a server that runs, behind a door for one token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stores import attempt
from stores.gcloud import SCOPES, Google
from stores.issuer import Asked, issuer
from stores.relay import answering, response
from stores.rotation import Rotation
from stores.tls import make_certificate
from stores.tunnel import tunnel
from stores.user import User

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]


def named(user: User, text: str) -> None:
    user.set(GOOGLE_APPLICATION_CREDENTIALS=str(user.write("key.json", text)))


def found(user: User, text: str) -> None:
    user.write(".config/gcloud/application_default_credentials.json", text)


def moved(user: User, text: str) -> None:
    user.write("cloudsdk/application_default_credentials.json", text)
    user.set(CLOUDSDK_CONFIG=str(user.home / "cloudsdk"))


@pytest.mark.parametrize("place", [named, found, moved], ids=["named", "found", "CLOUDSDK_CONFIG"])
def test_the_key_of_a_service_account(place: Callable[[User, str], None], google: Google, user: User) -> None:
    place(user, google.key_file("1"))
    user.upload(google.store.artifact_location)
    assert google.tokens is not None
    asked = len(google.tokens.asked)
    user.upload(google.store.artifact_location)
    assert len(google.tokens.asked) == asked, "a token that works is kept"


def test_a_person_who_logged_in(google: Google, user: User, tmp_path: Path) -> None:
    """What `gcloud auth application-default login` leaves. It names no endpoint: a proxy brings Google's to ours."""
    said = {"type": "authorized_user", "client_id": "gcloud", "client_secret": "x", "refresh_token": "of-a-person"}
    found(user, json.dumps(said))
    tls = make_certificate(tmp_path, host="oauth2.googleapis.com")
    with issuer(google.trade, tls) as tokens, tunnel(int(tokens.uri.rpartition(":")[2])) as proxy:
        user.set(HTTPS_PROXY=proxy.uri, NO_PROXY="127.0.0.1", REQUESTS_CA_BUNDLE=str(tls.ca))
        refused = user.refused(google.store.artifact_location)
        assert "no credentials that can be used (invalid_grant" in refused.error
        assert "of-a-person" not in str(refused)
        google.refresh.add("of-a-person")
        user.upload(google.store.artifact_location)
        assert set(proxy.asked) == {"oauth2.googleapis.com:443"}


def test_a_key_that_is_not_known_any_more_and_its_successor(google: Google, user: User) -> None:
    """As soon as its file has it. A token of the old one is good until the store takes it no more."""
    named(user, google.key_file("1"))
    user.upload(google.store.artifact_location)
    google.accounts.clear()
    user.upload(google.store.artifact_location)
    google.only("the-token-of-tomorrow")
    refused = user.refused(google.store.artifact_location)
    assert "no credentials that can be used" in refused.error
    assert "PRIVATE KEY" not in str(refused)
    named(user, google.key_file("2"))
    user.upload(google.store.artifact_location)


@pytest.mark.parametrize("text", ["", "no JSON", "{}", '{"type": "service_account"}', '{"type": "something else"}'])
def test_a_key_file_that_is_none(text: str, google: Google, user: User) -> None:
    """It is half written, say: it counts as soon as it is whole."""
    named(user, text)
    user.refused(google.store.artifact_location)
    named(user, google.key_file("1"))
    user.upload(google.store.artifact_location)


def test_the_account_of_a_machine(google: Google, user: User) -> None:
    """Google's metadata service."""

    def describe(asked: Asked) -> tuple[int, object]:
        if asked.headers.get("metadata-flavor") != "Google":
            return 403, ""
        if "/service-accounts/" in asked.path and asked.path.partition("?")[0].endswith("/token"):
            return 200, {"access_token": google.given, "expires_in": 3600, "token_type": "Bearer"}
        if "/service-accounts/" in asked.path:
            return 200, {"email": "robot@test.iam.gserviceaccount.com", "scopes": [SCOPES], "aliases": ["default"]}
        return (200, "") if asked.path == "/" else (404, "")

    with issuer(describe, Metadata_Flavor="Google") as service:
        host = service.uri.removeprefix("http://")
        user.set(NO_GCE_CHECK="")
        done = subprocess.run(  # Google's library reads the address when it is imported
            [sys.executable, attempt.__file__, google.store.artifact_location],
            env=dict(os.environ, GCE_METADATA_HOST=host, GCE_METADATA_IP=host),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.stdout.strip().split("\t")[1:] == ["stored"], done.stdout + done.stderr


def test_nobody_is_let_in_by_accident(google: Google, user: User) -> None:
    """MLflow by itself goes on as nobody: here that is for who names an emulator or turns credentials off."""
    assert "no credentials that can be used" in user.refused(google.store.artifact_location).error
    assert google.front.requests() == [], "nothing was sent"
    user.set(CLOUDSDK_AUTH_DISABLE_CREDENTIALS="true")
    assert "Anonymous" in user.refused(google.store.artifact_location).error
    assert google.front.requests(), "something was sent, as nobody"
    user.set(CLOUDSDK_AUTH_DISABLE_CREDENTIALS="", STORAGE_EMULATOR_HOST=google.store.endpoint)
    user.upload(google.store.artifact_location)


def test_a_key_file_that_is_replaced_while_the_service_runs(google: Google, user: User, tmp_path: Path) -> None:
    named(user, google.key_file("1"))
    site = Rotation(tmp_path / "site", google.store.artifact_location)
    with site.running():
        site.drop("by the old key")
        site.delivered()
        google.accounts.clear()
        google.only("the-token-of-tomorrow")
        site.drop("by the new key")
        site.refused("no credentials that can be used")
        named(user, google.key_file("2"))
        site.delivered()
    site.verified()


def test_a_proxy_before_the_token_endpoint_that_asks_who_we_are(google: Google, user: User) -> None:
    found(user, json.dumps({"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}))
    with answering(response("407 Proxy Authentication Required", Proxy_Authenticate="Basic")) as proxy:
        user.set(HTTPS_PROXY=proxy, NO_PROXY="127.0.0.1")
        said = user.refused(google.store.artifact_location)
    assert "behind a proxy that asks who we are (407)" in said.error
    assert "HTTPS_PROXY" in said.cure
