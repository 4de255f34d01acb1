"""Credentials as users of Google Cloud Storage have them, each to a server that runs, behind a door for one token.

fake-gcs-server asks nobody who he is, so nginx asks: what comes without the token of the day is answered 401.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stores import attempt
from stores.issuer import Asked, Issuer, issuer
from stores.nginx import Nginx, nginx, passing
from stores.objects import ObjectStore
from stores.rotation import Rotation
from stores.tls import make_certificate
from stores.tunnel import tunnel
from stores.user import User
from support import free_port

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

ENDPOINT = "https://oauth2.googleapis.com/token"
"""Whom a service account's token is made out to, wherever its file says that the endpoint is."""

SCOPES = "https://www.googleapis.com/auth/devstorage.full_control"
"""Among those that Google's own client asks for."""


@dataclass(slots=True)
class Google:
    """Accounts, a token endpoint that knows them, and a store that lets those in who have its tokens.

    Attributes:
        endpoint: Of the store.
        tokens: The token endpoint.
        accounts: Public keys of service accounts by the number of the key.
        refresh: Tokens of users that may be traded.
        given: What everybody gets: the access token.
    """

    endpoint: str
    front: Nginx
    store: ObjectStore
    accounts: dict[str, Any]
    refresh: set[str] = field(default_factory=set)
    given: str = "the-token-of-today"
    tokens: Issuer | None = None

    @property
    def token_uri(self) -> str:
        assert self.tokens is not None
        return f"{self.tokens.uri}/token"

    def trade(self, asked: Asked) -> tuple[int, object]:
        """Answer as Google's token endpoint."""
        form = {name: values[0] for name, values in parse_qs(asked.body).items()}
        if form.get("grant_type") == "refresh_token" and form["refresh_token"] in self.refresh:
            return 200, self._token()
        if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            number = jwt.get_unverified_header(form["assertion"])["kid"]
            with contextlib.suppress(jwt.PyJWTError, KeyError):
                known = self.accounts[number]
                said = jwt.decode(form["assertion"], known, algorithms=["RS256"], audience=ENDPOINT)
                assert SCOPES in said["scope"]
                return 200, self._token()
        return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}

    def _token(self) -> dict[str, object]:
        return {"access_token": self.given, "expires_in": 3600, "token_type": "Bearer"}

    def key_file(self, number: str, *, known: bool = True) -> str:
        """A new key of a service account, as Google's console gives it."""
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        if known:
            self.accounts[number] = key.public_key()
        return json.dumps(
            {
                "type": "service_account", "project_id": "test", "private_key_id": number, "private_key": pem.decode(),
                "client_email": "artifactd@test.iam.gserviceaccount.com", "client_id": "1", "token_uri": self.token_uri,
            }
        )  # fmt: skip

    def only(self, token: str) -> None:
        """Have the store let nobody in but who shows this token."""
        self.given = token
        self.front.configure(gate(self.front.port, self.store.endpoint, token))


def gate(port: int, upstream: str, token: str) -> str:
    """What nginx is told."""
    refused = '{"error": {"code": 401, "message": "Invalid Credentials", "errors": [{"reason": "authError"}]}}'
    ask = f"""if ($http_authorization != "Bearer {token}") {{ return 401 '{refused}'; }}"""
    return passing(port, upstream, location=ask)


@pytest.fixture
def google(fakegcs: ObjectStore, user: User) -> Iterator[Google]:
    port = free_port()
    with nginx(user.home / "nginx", gate(port, fakegcs.endpoint, "the-token-of-today"), port=port) as front:
        here = Google(front.uri, front, fakegcs, {})
        with issuer(here.trade) as tokens:
            here.tokens = tokens
            user.set(API_ENDPOINT_OVERRIDE=front.uri, GOOGLE_CLOUD_PROJECT="test", NO_GCE_CHECK="true")
            yield here


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
