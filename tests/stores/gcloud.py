"""Google as its clients see it: accounts, a token endpoint, and a store that lets in who has the token of the day.

fake-gcs-server asks nobody who he is, so nginx before it asks: what comes without that token is answered 401.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stores.issuer import Asked, Issuer, issuer
from stores.nginx import Nginx, nginx, passing
from stores.objects import ObjectStore
from stores.user import User
from support import free_port

ENDPOINT = "https://oauth2.googleapis.com/token"
"""Whom a service account's token is made out to, wherever its file says that the endpoint is."""

_NOT_NOW = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp "
    "values in the JWT claim."
)
"""What Google's endpoint says of a token that is signed for another time."""

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
            try:
                known = self.accounts[number]
                said = jwt.decode(form["assertion"], known, algorithms=["RS256"], audience=ENDPOINT)
                assert SCOPES in said["scope"]
                return 200, self._token()
            except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
                return 400, {"error": "invalid_grant", "error_description": _NOT_NOW}
            except (jwt.PyJWTError, KeyError):
                pass
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
        self.front.configure(_gate(self.front.port, self.store.endpoint, token))


def _gate(port: int, upstream: str, token: str) -> str:
    """What nginx is told."""
    refused = '{"error": {"code": 401, "message": "Invalid Credentials", "errors": [{"reason": "authError"}]}}'
    ask = f"""if ($http_authorization != "Bearer {token}") {{ return 401 '{refused}'; }}"""
    return passing(port, upstream, location=ask)


@pytest.fixture
def google(fakegcs: ObjectStore, user: User) -> Iterator[Google]:
    """For the user, who has no credentials yet."""
    port = free_port()
    with nginx(user.home / "nginx", _gate(port, fakegcs.endpoint, "the-token-of-today"), port=port) as front:
        here = Google(front.uri, front, fakegcs, {})
        with issuer(here.trade) as tokens:
            here.tokens = tokens
            user.set(API_ENDPOINT_OVERRIDE=front.uri, GOOGLE_CLOUD_PROJECT="test", NO_GCE_CHECK="true")
            yield here
