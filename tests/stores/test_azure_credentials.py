"""Credentials as users of Azure have them, each way to the real server, and by the cloud's own name.

Without a connection string MLflow goes to ``https://ACCOUNT.blob.core.windows.net`` and nowhere else: a forward proxy
of the test brings that name to Azurite, which has a certificate for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stores import azurite as account
from stores.issuer import Asked, Issuer, issuer
from stores.objects import ObjectStore
from stores.relay import answering, response
from stores.rotation import Rotation
from stores.running import NotThereError
from stores.tls import Certificate, make_certificate
from stores.tunnel import Tunnel, tunnel
from stores.user import User
from support import wait_for

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

HOST = f"{account.ACCOUNT}.blob.core.windows.net"
ENTRA = "login.microsoftonline.com"
LOCATION = account.location()


@dataclass(frozen=True, slots=True)
class Cloud:
    """Azurite under the cloud's name.

    Attributes:
        tls: Its certificate.
        proxy: The way to it.
    """

    tls: Certificate
    proxy: Tunnel


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("azure")
    certificate = make_certificate(folder, host=HOST, also=["127.0.0.1", HOST.replace(account.ACCOUNT, account.SECOND)])
    try:
        with (
            account.azurite(folder, certificate) as store,
            tunnel(int(store.endpoint.rpartition(":")[2])) as proxy,
        ):
            yield Cloud(certificate, proxy)
    except NotThereError as exc:
        pytest.fail(f"a store could not be started: {exc}")


def enter(user: User, cloud: Cloud) -> None:
    """Have them reach the cloud, and trust it."""
    user.set(HTTPS_PROXY=cloud.proxy.uri, NO_PROXY="127.0.0.1", MLFLOW_TRACKING_SERVER_CERT_PATH=str(cloud.tls.ca))


def token(seconds: float = 3600, audience: str = "https://storage.azure.com") -> str:
    """A token as Entra makes it, signed by nobody: Azurite looks at what it says alone."""
    now = int(time.time())
    said = {
        "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/", "aud": audience, "iat": now - 10,
        "nbf": now - 10, "exp": int(now + seconds),
    }  # fmt: skip
    return jwt.encode(said, "signed-by-nobody-whom-anybody-knows", algorithm="HS256")


def test_a_connection_string_with_the_key(azurite: ObjectStore, user: User) -> None:
    user.set(AZURE_STORAGE_CONNECTION_STRING=account.connection_string(azurite.endpoint))
    user.upload(azurite.artifact_location)


def test_a_connection_string_is_for_its_own_account_alone(azurite: ObjectStore, user: User) -> None:
    """MLflow by itself ignores the account in the location: the artifacts would lie in the other one, in silence."""
    user.set(AZURE_STORAGE_CONNECTION_STRING=account.connection_string(azurite.endpoint))
    said = user.refused(azurite.artifact_location.replace(account.ACCOUNT, "theirs"))
    assert f"is for the account {account.ACCOUNT}" in said.error
    assert "theirs" in said.error
    user.set(AZURE_STORAGE_CONNECTION_STRING=azurite.read_only["AZURE_STORAGE_CONNECTION_STRING"])
    assert "is for the account" in user.refused(azurite.artifact_location.replace(account.ACCOUNT, "theirs")).error


def signature(days: float, permission: str) -> str:
    """A shared access signature on the container alone."""
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    now = datetime.now(UTC)
    return str(
        generate_container_sas(
            account.ACCOUNT, account.CONTAINER, account.KEY, permission=ContainerSasPermissions.from_string(permission),
            start=now - timedelta(days=2), expiry=now + timedelta(days=days),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("days", "permission", "words"),
    [
        (1, "racwl", None),
        (1, "rl", "does not permit it"),
        (-1, "racwl", "does not fit the key"),  # Azure itself says that it is the time: see test_object_errors
    ],
    ids=["least rights", "read only", "at its end"],
)
def test_a_connection_string_with_a_signature(
    days: float, permission: str, words: str | None, azurite: ObjectStore, user: User
) -> None:
    signed = signature(days, permission)
    endpoint = f"BlobEndpoint={azurite.endpoint}/{account.ACCOUNT};"
    user.set(AZURE_STORAGE_CONNECTION_STRING=f"{endpoint}SharedAccessSignature={signed}")
    if words is None:
        user.upload(azurite.artifact_location)
        user.upload(azurite.artifact_location, b"another")
        return
    said = user.refused(azurite.artifact_location)
    assert words in said.error
    assert signed.partition("sig=")[2] not in str(said)


def test_the_key_alone_goes_to_the_cloud_by_its_name(cloud: Cloud, user: User) -> None:
    enter(user, cloud)
    user.set(AZURE_STORAGE_ACCESS_KEY=account.KEY)
    user.upload(LOCATION)
    assert set(cloud.proxy.asked) == {f"{HOST}:443"}
    user.set(AZURE_STORAGE_ACCESS_KEY="d3Jvbmcta2V5")
    said = user.refused(LOCATION)
    assert "no credentials that can be used" in said.error, "as an Azurite that takes tokens as well says it"
    assert "d3Jvbmcta2V5" not in str(said)


def test_a_managed_identity(cloud: Cloud, user: User) -> None:
    """As App Service and Functions have it; a virtual machine's differs in its address alone."""
    given = {"token": token(audience="https://vault.azure.net")}

    def hand_out(asked: Asked) -> tuple[int, object]:
        if asked.headers.get("x-identity-header") != "the-app":
            return 401, {}
        end = int(time.time()) + 3600
        return 200, {"access_token": given["token"], "expires_on": str(end), "resource": "x", "token_type": "Bearer"}

    with issuer(hand_out) as service:
        enter(user, cloud)
        user.set(IDENTITY_ENDPOINT=f"{service.uri}/msi/token", IDENTITY_HEADER="the-app")
        said = user.refused(LOCATION)
        assert given["token"] not in str(said)
        given["token"] = token(seconds=-5)
        assert "says that the credentials have expired" in user.refused(LOCATION).error
        given["token"] = token()
        user.upload(LOCATION)
        user.upload(LOCATION)
        assert "resource=https://storage.azure.com" in service.asked[0].path
        assert len(service.asked) == 3, "a token that works is kept"


@contextlib.contextmanager
def entra(
    cloud: Cloud, user: User, folder: Path, knows: Callable[[Mapping[str, str]], str | None], seconds: float = 3600
) -> Iterator[Issuer]:
    """Entra for the application `a-client`.

    Args:
        cloud: For whose storage it hands out tokens.
        user: Who asks.
        folder: For its certificate.
        knows: What is wrong with a form that it gets; None for nothing.
        seconds: That a token of its is good for.
    """

    def trade(asked: Asked) -> tuple[int, object]:
        if asked.method == "GET":  # where its endpoints are
            root = f"https://{ENTRA}/a-tenant"
            ends = {"authorization_endpoint": f"{root}/oauth2/v2.0/authorize", "issuer": f"{root}/v2.0"}
            return 200, {**ends, "token_endpoint": f"{root}/oauth2/v2.0/token"}
        wrong = knows({name: values[0] for name, values in parse_qs(asked.body).items()})
        if wrong is not None:
            return 400, {"error": "invalid_client", "error_description": wrong}
        return 200, {"access_token": token(seconds), "expires_in": int(seconds), "token_type": "Bearer"}

    tls = make_certificate(folder, host=ENTRA)
    both = folder / "both.pem"
    both.write_bytes(tls.ca.read_bytes() + cloud.tls.ca.read_bytes())
    with issuer(trade, tls) as service:
        cloud.proxy.ports[f"{ENTRA}:443"] = int(service.uri.rpartition(":")[2])
        enter(user, cloud)
        user.set(REQUESTS_CA_BUNDLE=str(both), AZURE_TENANT_ID="a-tenant", AZURE_CLIENT_ID="a-client")
        yield service


@contextlib.contextmanager
def workload_identity(
    cloud: Cloud, user: User, folder: Path, trusted: Mapping[str, str], seconds: float = 3600
) -> Iterator[Issuer]:
    """Entra, which trades the trusted token for one of Azure's, good for so long; the user's stands in `assertion`."""

    def knows(form: Mapping[str, str]) -> str | None:
        known = form.get("client_assertion") == trusted["token"]
        return None if known else "AADSTS700024: the assertion has expired."

    with entra(cloud, user, folder, knows, seconds) as service:
        user.set(AZURE_FEDERATED_TOKEN_FILE=str(user.home / "assertion"))
        yield service


def test_an_application_with_a_secret(cloud: Cloud, user: User, tmp_path: Path) -> None:
    def knows(form: Mapping[str, str]) -> str | None:
        known = (form.get("client_id"), form.get("client_secret")) == ("a-client", "of-today")
        return None if known else "AADSTS7000215: Invalid client secret provided."

    with entra(cloud, user, tmp_path, knows) as service:
        user.set(AZURE_CLIENT_SECRET="of-old")
        said = user.refused(LOCATION)
        assert "no credentials that can be used" in said.error
        assert "of-old" not in str(said)
        user.set(AZURE_CLIENT_SECRET="of-today")
        user.upload(LOCATION)
        good = [a for a in service.asked if "client_secret=of-today" in a.body]
        user.upload(LOCATION)
        assert [a for a in service.asked if "client_secret=of-today" in a.body] == good, "a token that works is kept"


def test_an_application_with_a_certificate(cloud: Cloud, user: User, tmp_path: Path) -> None:
    """It signs what it says of itself, and says which certificate goes with that."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "a-client")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both = tmp_path / "client.pem"
    both.write_bytes(key.private_bytes(*private) + certificate.public_bytes(serialization.Encoding.PEM))

    def knows(form: Mapping[str, str]) -> str | None:
        signed = form.get("client_assertion", "")
        try:
            said = jwt.decode(signed, key.public_key(), algorithms=["PS256", "RS256"], options={"verify_aud": False})
        except jwt.InvalidTokenError as exc:
            return f"AADSTS700027: {exc}"
        return None if said["sub"] == "a-client" else "AADSTS700016: who is that?"

    with entra(cloud, user, tmp_path, knows) as service:
        user.set(AZURE_CLIENT_CERTIFICATE_PATH=str(both))
        user.upload(LOCATION)
        assert any("client_assertion" in a.body for a in service.asked)


def test_two_accounts_under_one_identity_never_mix(cloud: Cloud, user: User) -> None:
    """In turns, in one process, in containers of one name."""
    end = str(int(time.time()) + 3600)
    answer = {"access_token": token(), "expires_on": end, "resource": "x", "token_type": "Bearer"}
    places = {LOCATION: b"for the first", account.location(account=account.SECOND): b"for the second"}
    with issuer(lambda _: (200, answer)) as service:
        enter(user, cloud)
        user.set(IDENTITY_ENDPOINT=f"{service.uri}/msi/token", IDENTITY_HEADER="the-app")
        for turn in range(5):
            for place, content in places.items():
                user.upload(place, content + b"%d" % turn)
            for place, content in places.items():
                assert user.held(place) == content + b"%d" % turn


def test_a_workload_identity_and_its_file(cloud: Cloud, user: User, tmp_path: Path) -> None:
    """As Kubernetes has it: a token in a file, which it rewrites, is traded for one of Azure's."""
    trusted = {"token": "of-old"}
    user.write("assertion", "not-yet")
    with workload_identity(cloud, user, tmp_path, trusted) as service:
        said = user.refused(LOCATION)
        assert "no credentials that can be used" in said.error
        assert "not-yet" not in str(said)
        user.write("assertion", "of-old")
        user.upload(LOCATION)
        trusted["token"] = "of-today"
        user.write("assertion", "of-today")
        user.upload(LOCATION)
        assert "of-today" in service.asked[-1].body


def test_a_file_of_a_workload_identity_that_is_rewritten_while_the_service_runs(
    cloud: Cloud, user: User, tmp_path: Path
) -> None:
    """Azure's own tokens end after seconds here: what was traded in time would do for an hour, and rightly so."""
    seconds = 3
    trusted = {"token": "of-old"}
    user.write("assertion", "of-old")
    trust = {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(cloud.tls.ca)}
    with workload_identity(cloud, user, tmp_path, trusted, seconds):
        site = Rotation(tmp_path / "site", LOCATION)
        with site.running(**trust):
            site.drop("by the old token")
            site.delivered()
            trusted["token"] = "of-today"
            end = time.monotonic() + seconds
            wait_for(lambda: time.monotonic() > end, "the end of the token that was traded before")
            site.drop("by the new token")
            site.refused("no credentials that can be used")
            user.write("assertion", "of-today")
            site.delivered()
        site.verified(**trust)


def test_a_proxy_before_the_token_endpoint_that_asks_who_we_are(user: User) -> None:
    with answering(response("407 Proxy Authentication Required", Proxy_Authenticate="Basic")) as proxy:
        user.set(
            HTTPS_PROXY=proxy, AZURE_TENANT_ID="a-tenant", AZURE_CLIENT_ID="a-client",
            AZURE_FEDERATED_TOKEN_FILE=str(user.write("assertion", "x")),
        )  # fmt: skip
        said = user.refused(LOCATION)
    assert "behind a proxy that asks who we are (407)" in said.error
    assert "HTTPS_PROXY" in said.cure
