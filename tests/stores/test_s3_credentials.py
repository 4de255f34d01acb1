"""Credentials as users of S3 have them, each way to the real server; who hands them out is a small web service here."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from botocore.credentials import SSOProvider
from botocore.tokens import SSOTokenProvider

from stores import seaweed as keys
from stores.issuer import Asked, aws_keys, issuer
from stores.nginx import nginx, passing
from stores.objects import ObjectStore
from stores.rotation import WITHIN, Rotation
from stores.running import NotThereError
from stores.user import User
from support import free_port

pytestmark = [pytest.mark.stores, pytest.mark.timeout(300)]

NOBODY = ("no-such-key", "no-such-secret-0123456789")


def section(name: str, key: tuple[str, str]) -> str:
    """A section of ~/.aws/credentials."""
    return f"[{name}]\naws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n"


def test_variables(seaweed: ObjectStore, user: User) -> None:
    user.set(**seaweed.environ)
    user.upload(seaweed.artifact_location)


def test_a_profile_with_an_endpoint_of_its_own(seaweed: ObjectStore, user: User) -> None:
    user.write(".aws/credentials", section("default", NOBODY) + section("team", keys.ADMIN))
    user.write(".aws/config", f"[profile team]\nregion = {keys.REGION}\nendpoint_url = {seaweed.endpoint}\n")
    user.set(AWS_PROFILE="team")
    user.upload(seaweed.artifact_location)
    user.set(AWS_PROFILE="", MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint)
    assert "does not know the key" in user.refused(seaweed.artifact_location).error, "the default profile's"
    user.set(AWS_PROFILE="nobody")
    assert "nobody" in user.refused(seaweed.artifact_location).error, "a profile that is not there is named"


@pytest.mark.parametrize(
    "text",
    ["", "[default]\n", f"[default]\naws_access_key_id = {keys.ADMIN[0]}\n", "[default]\naws_acc", "[defa"],
)
def test_a_file_of_keys_that_is_half_written(text: str, seaweed: ObjectStore, user: User) -> None:
    user.write(".aws/credentials", text)
    user.set(MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION, AWS_EC2_METADATA_DISABLED="true")
    user.refused(seaweed.artifact_location)
    user.write(".aws/credentials", section("default", keys.ADMIN))
    user.upload(seaweed.artifact_location)


def test_variables_count_before_a_profile(seaweed: ObjectStore, user: User) -> None:
    """Also before one that AWS_PROFILE names: forgotten variables are a wrong account that nobody looks for."""
    user.write(".aws/credentials", section("team", keys.ADMIN))
    user.set(**keys.environ(seaweed.endpoint, *NOBODY), AWS_PROFILE="team")
    assert "does not know the key" in user.refused(seaweed.artifact_location).error
    user.set(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    user.upload(seaweed.artifact_location)


@pytest.mark.parametrize(
    "order",
    [
        ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        ("AWS_ENDPOINT_URL",),
    ],
    ids=lambda order: order[0],
)
def test_the_endpoint_that_counts(order: tuple[str, ...], seaweed: ObjectStore, user: User) -> None:
    """The first of these that is set; ~/.aws/config comes after all of them."""
    dead = f"http://127.0.0.1:{free_port()}"
    user.write(".aws/credentials", section("default", keys.ADMIN))
    user.write(".aws/config", f"[default]\nregion = {keys.REGION}\nendpoint_url = {dead}\n")
    user.set(**dict.fromkeys(order, dead) | {order[0]: seaweed.endpoint})
    user.upload(seaweed.artifact_location)


def test_a_session_token_goes_along_and_its_end_is_told(user: User) -> None:
    """SeaweedFS gives out no sessions without a service for identities: what S3 says to an old one is said here."""

    def say(_: Asked) -> tuple[int, object]:
        return 400, "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

    with issuer(say) as store:
        user.set(**keys.environ(store.uri, *keys.ADMIN), AWS_SESSION_TOKEN="the-session")
        said = user.refused("s3://bucket/x")
    assert "says that the credentials have expired" in said.error
    assert said.cure.startswith("Renew them")
    assert {asked.headers["x-amz-security-token"] for asked in store.asked} == {"the-session"}


def test_a_session_in_the_file_of_keys_that_ended(seaweed: ObjectStore, user: User, tmp_path: Path) -> None:
    """nginx before SeaweedFS says of the old session what S3 says; the file's next keys are for SeaweedFS itself."""
    port = free_port()
    body = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    ended = f"""if ($http_x_amz_security_token = "of-old") {{ return 400 '{body}'; }}"""
    with nginx(tmp_path / "nginx", passing(port, seaweed.endpoint, location=ended), port=port) as front:
        user.write(".aws/credentials", section("default", keys.ADMIN) + "aws_session_token = of-old\n")
        user.set(MLFLOW_S3_ENDPOINT_URL=front.uri, AWS_DEFAULT_REGION=keys.REGION)
        assert "says that the credentials have expired" in user.refused(seaweed.artifact_location).error
        user.write(".aws/credentials", section("default", keys.ADMIN))
        user.upload(seaweed.artifact_location)


def test_the_keys_of_a_container_are_asked_for_again_before_they_end(seaweed: ObjectStore, user: User) -> None:
    """Amazon's ECS, and pod identities of EKS."""
    given = {"key": keys.ADMIN}

    def hand_out(asked: Asked) -> tuple[int, object]:
        if asked.headers.get("authorization") != "the-pod":
            return 403, {"message": "who are you"}
        return 200, aws_keys(given["key"], seconds=60)

    with issuer(hand_out) as service:
        user.set(
            MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{service.uri}/v1/credentials",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(user.write("token", "the-pod")),
        )  # fmt: skip
        user.upload(seaweed.artifact_location)
        given["key"] = keys.READER
        assert "does not permit it" in user.refused(seaweed.artifact_location).error, "the new ones are in use"
        given["key"] = keys.ADMIN
        user.upload(seaweed.artifact_location)


def test_keys_that_end_early_are_asked_for_again_after_the_store_refused_them(seaweed: ObjectStore, user: User) -> None:
    given = {"key": NOBODY}
    with issuer(lambda _: (200, aws_keys(given["key"]))) as service:
        user.set(
            MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=service.uri,
        )  # fmt: skip
        assert "does not know the key" in user.refused(seaweed.artifact_location).error
        given["key"] = keys.ADMIN
        user.upload(seaweed.artifact_location)
        user.upload(seaweed.artifact_location)
        assert len(service.asked) == 2, "keys that work are kept"


def test_the_role_of_an_instance(seaweed: ObjectStore, user: User) -> None:
    """Amazon's metadata service, version 2: a token first, then the role's name, then its keys."""
    given = {"key": keys.READER}

    def describe(asked: Asked) -> tuple[int, object]:
        if asked.method == "PUT" and asked.path == "/latest/api/token":
            return 200, "a-session"
        if asked.headers.get("x-aws-ec2-metadata-token") != "a-session":
            return 401, ""
        if asked.path == "/latest/meta-data/iam/security-credentials/":
            return 200, "the-role"
        if asked.path == "/latest/meta-data/iam/security-credentials/the-role":
            return 200, aws_keys(given["key"], Code="Success", Type="AWS-HMAC")
        return 404, ""

    with issuer(describe) as service:
        user.set(
            MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=service.uri,
        )  # fmt: skip
        assert "does not permit it" in user.refused(seaweed.artifact_location).error
        given["key"] = keys.ADMIN
        user.upload(seaweed.artifact_location)


def test_a_program_that_knows_the_keys(seaweed: ObjectStore, user: User) -> None:
    script = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
    program = user.write("program.py", script)
    answer = user.write("answer", "no JSON")
    user.write(".aws/config", f"[default]\ncredential_process = {sys.executable} {program} {answer}\n")
    user.set(MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION)
    assert "what credential_process prints is no JSON" in user.refused(seaweed.artifact_location).error
    user.write("answer", json.dumps(aws_keys(keys.ADMIN, Version=1)))
    user.upload(seaweed.artifact_location)


def test_the_role_of_a_web_identity(seaweed: ObjectStore, user: User) -> None:
    """Amazon's roles for service accounts: a token in a file, which Kubernetes rewrites, is traded for keys."""
    trusted = {"token": "of-old"}

    def trade(asked: Asked) -> tuple[int, object]:
        form = {name: values[0] for name, values in parse_qs(asked.body).items()}
        if (form["Action"], form["WebIdentityToken"]) != ("AssumeRoleWithWebIdentity", trusted["token"]):
            return 400, (
                "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>"
                "<Message>Token expired</Message></Error></ErrorResponse>"
            )
        pair = aws_keys(keys.ADMIN, seconds=60)
        pair["SessionToken"] = pair.pop("Token")
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in pair.items())
        return 200, (
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>"
            f"<Credentials>{fields}</Credentials>"
            "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )

    token = user.write("token", "of-old")
    with issuer(trade) as sts:
        user.set(
            MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION, AWS_ENDPOINT_URL_STS=sts.uri,
            AWS_ROLE_ARN="arn:aws:iam::123456789012:role/artifacts", AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
        )  # fmt: skip
        user.upload(seaweed.artifact_location)
        trusted["token"] = "of-today"
        assert "expired" in user.refused(seaweed.artifact_location).error
        user.write("token", "of-today")
        user.upload(seaweed.artifact_location)


@pytest.mark.parametrize("session", [False, True], ids=["a profile of old", "a session by name"])
def test_a_login_by_single_sign_on(
    session: bool, seaweed: ObjectStore, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``aws sso login`` leaves: a token in a file, which is traded for the keys of a role until it ends."""
    for provider in (SSOProvider, SSOTokenProvider):  # botocore looks for home once, as it is imported
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(user.home / ".aws" / "sso" / "cache"))
    start = "https://d-0000000000.awsapps.com/start"
    profile = "sso_account_id = 123456789012\nsso_role_name = artifacts\n"
    where = f"sso_start_url = {start}\nsso_region = {keys.REGION}\n"
    config = f"[default]\n{profile}sso_session = team\n[sso-session team]\n" if session else f"[default]\n{profile}"
    user.write(".aws/config", config + where)

    def log_in(token: str, seconds: float = 3600) -> None:
        end = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"startUrl": start, "region": keys.REGION, "accessToken": token, "expiresAt": end}
        name = hashlib.sha1(("team" if session else start).encode(), usedforsecurity=False).hexdigest()
        user.write(f".aws/sso/cache/{name}.json", json.dumps(said))

    def trade(asked: Asked) -> tuple[int, object]:
        if asked.headers.get("x-amz-sso_bearer_token") != "of-today":
            return 401, {"__type": "UnauthorizedException", "message": "Session token not found or invalid"}
        key, secret = keys.ADMIN
        end = int((time.time() + 3600) * 1000)
        pair = {"accessKeyId": key, "secretAccessKey": secret, "sessionToken": "", "expiration": end}
        return 200, {"roleCredentials": pair}

    with issuer(trade) as portal:
        user.set(
            MLFLOW_S3_ENDPOINT_URL=seaweed.endpoint, AWS_DEFAULT_REGION=keys.REGION, AWS_ENDPOINT_URL_SSO=portal.uri
        )
        for login in (None, "of-old", "ended"):
            if login is not None:
                log_in(login, seconds=-60 if login == "ended" else 3600)
            said = user.refused(seaweed.artifact_location)
            assert "no credentials that can be used" in said.error
            assert "aws sso login" in said.cure
            assert "of-old" not in str(said)
        log_in("of-today")
        user.upload(seaweed.artifact_location)
        user.upload(seaweed.artifact_location)
        assert [a.path for a in portal.asked if a.headers["x-amz-sso_bearer_token"] == "of-today"] == [
            "/federation/credentials?role_name=artifacts&account_id=123456789012"
        ], "keys that work are kept"


# -- while the service runs --------------------------------------------------------------------------------------

SUCCESSOR = ("successor-key", "successor-secret-0123456789")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Path, ObjectStore]]:
    """A server of the test's own, and its folder: its keys change."""
    folder = tmp_path / "seaweed"
    folder.mkdir()
    try:
        with keys.seaweed(folder) as store:
            yield folder, store
    except NotThereError as exc:
        pytest.fail(f"a store could not be started: {exc}")


def test_a_file_of_keys_that_is_rewritten_while_the_service_runs(
    own: tuple[Path, ObjectStore], user: User, tmp_path: Path
) -> None:
    folder, store = own
    user.write(".aws/credentials", section("default", keys.ADMIN))
    user.set(AWS_DEFAULT_REGION=keys.REGION)
    site = Rotation(tmp_path / "site", store.artifact_location)
    with site.running(MLFLOW_S3_ENDPOINT_URL=store.endpoint):
        site.drop("by the old key")
        site.delivered()
        keys.rekey(folder, SUCCESSOR)
        site.drop("by the new key")
        site.refused("does not know the key")
        user.write(".aws/credentials", section("default", keys.READER))
        site.refused("does not permit it", WITHIN)
        user.write(".aws/credentials", section("default", SUCCESSOR))
        site.delivered()
        site.drop("at once")
        assert site.delivered() < 15, "nothing is held back any more"
    site.verified(MLFLOW_S3_ENDPOINT_URL=store.endpoint)


def test_a_session_that_ends_while_nobody_hands_out_another(
    own: tuple[Path, ObjectStore], user: User, tmp_path: Path
) -> None:
    folder, store = own
    given: dict[str, tuple[str, str] | None] = {"key": keys.ADMIN}

    def hand_out(_: Asked) -> tuple[int, object]:
        key = given["key"]
        return (503, {"message": "later"}) if key is None else (200, aws_keys(key, seconds=1))

    with issuer(hand_out) as service:
        user.set(AWS_DEFAULT_REGION=keys.REGION, AWS_CONTAINER_CREDENTIALS_FULL_URI=service.uri)
        site = Rotation(tmp_path / "site", store.artifact_location)
        with site.running(MLFLOW_S3_ENDPOINT_URL=store.endpoint):
            site.drop("in the first session")
            site.delivered()
            given["key"] = None
            keys.rekey(folder, SUCCESSOR)
            site.drop("in the second session")
            site.refused("no credentials that can be used")
            given["key"] = SUCCESSOR
            site.delivered()
        site.verified(MLFLOW_S3_ENDPOINT_URL=store.endpoint)
