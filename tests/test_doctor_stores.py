"""Credentials of stores, by files as their tools write them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from artifactd.doctor import stores
from artifactd.doctor.finding import Finding, Level
from artifactd.doctor.surroundings import Surroundings
from test_doctor_ends import NOW, jwt

PAST, FUTURE = "2026-01-31T14:30:00Z", "2026-03-31T14:30:00Z"
SESSION = "aws_access_key_id = ASIA\naws_secret_access_key = hunter22\naws_session_token = hunter23\n"


def around(home: Path, **environ: str) -> Surroundings:
    return Surroundings(environ={"HOME": str(home), **environ}, now=NOW)


def put(home: Path, name: str, text: str) -> Path:
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def only(findings: list[Finding]) -> tuple[Level, str]:
    (finding,) = findings
    assert "hunter" not in f"{finding}"
    return finding.level, finding.detail


class TestAws:
    def found(self, home: Path, **environ: str) -> list[Finding]:
        return list(stores.aws(around(home, **environ)))

    def test_a_key_of_the_environment_goes_first(self, tmp_path: Path) -> None:
        put(tmp_path, ".aws/credentials", f"[default]\n{SESSION}expiration = {PAST}\n")
        keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hunter22"}
        assert only(self.found(tmp_path, **keys)) == (
            Level.OK, "a key without end (AWS_ACCESS_KEY_ID of the environment)",
        )  # fmt: skip
        keys |= {"AWS_SESSION_TOKEN": "hunter23"}
        assert only(self.found(tmp_path, **keys))[0] is Level.OK
        assert only(self.found(tmp_path, **keys, AWS_CREDENTIAL_EXPIRATION=PAST))[0] is Level.WRONG

    @pytest.mark.parametrize("name", ["x_security_token_expires", "aws_session_expiration", "expiration"])
    def test_a_session_ends_as_the_tool_that_began_it_wrote(self, tmp_path: Path, name: str) -> None:
        put(tmp_path, ".aws/credentials", f"[default]\n{SESSION}{name} = {PAST}\n")
        level, says = only(self.found(tmp_path))
        assert level is Level.WRONG
        assert says == "a session key (profile default in ~/.aws) ended 2h ago (2026-01-31 14:30 UTC)"
        put(tmp_path, ".aws/credentials", f"[default]\n{SESSION}{name} = {FUTURE}\n")
        assert only(self.found(tmp_path))[0] is Level.OK

    def test_a_session_without_an_end_written_down(self, tmp_path: Path) -> None:
        put(tmp_path, ".aws/credentials", f"[default]\n{SESSION}")
        level, says = only(self.found(tmp_path))
        assert (level, "does not stand there" in says) == (Level.OK, True)

    def test_a_profile_by_name_from_either_file(self, tmp_path: Path) -> None:
        put(tmp_path, "elsewhere", f"[profile train]\n{SESSION}")
        put(tmp_path, ".aws/credentials", f"[train]\nexpiration = {PAST}\n[default]\naws_access_key_id = x\n")
        here = {"AWS_PROFILE": "train", "AWS_CONFIG_FILE": str(tmp_path / "elsewhere")}
        assert only(self.found(tmp_path, **here))[0] is Level.WRONG
        level, says = only(self.found(tmp_path, AWS_PROFILE="other"))
        assert (level, "the profile other stands in neither" in says) == (Level.WRONG, True)

    def test_a_role_rests_on_what_it_is_asked_for_with(self, tmp_path: Path) -> None:
        put(tmp_path, ".aws/config", "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = base\n")
        put(tmp_path, ".aws/credentials", f"[base]\n{SESSION}expiration = {PAST}\n")
        role, base = self.found(tmp_path)
        assert (role.level, base.level) == (Level.OK, Level.WRONG)
        assert "profile base" in base.detail

    def test_a_token_of_the_platform(self, tmp_path: Path) -> None:
        token = put(tmp_path, "token", jwt({"exp": NOW - 3600}))
        here = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
        assert only(self.found(tmp_path, **here))[0] is Level.WRONG
        token.write_text(jwt({"exp": NOW + 600}))
        assert only(self.found(tmp_path, **here))[0] is Level.OK, "it is renewed all the time"
        token.unlink()
        assert only(self.found(tmp_path, **here))[0] is Level.WRONG

    def login(self, home: Path, name: str, **kept: str) -> None:
        digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        put(home, f".aws/sso/cache/{digest}.json", json.dumps({"accessToken": "hunter22", **kept}))

    def test_a_login_by_single_sign_on(self, tmp_path: Path) -> None:
        put(tmp_path, ".aws/config", "[profile a]\nsso_session = corp\n[profile b]\nsso_start_url = https://corp\n")
        level, says = only(self.found(tmp_path, AWS_PROFILE="a"))
        assert (level, "there is none" in says) == (Level.WRONG, True)
        assert "aws sso login --profile a" in self.found(tmp_path, AWS_PROFILE="a")[0].cure
        self.login(tmp_path, "corp", expiresAt=PAST)
        assert only(self.found(tmp_path, AWS_PROFILE="a"))[0] is Level.WRONG
        self.login(tmp_path, "corp", expiresAt=PAST, refreshToken="hunter24", registrationExpiresAt=FUTURE)
        assert only(self.found(tmp_path, AWS_PROFILE="a"))[0] is Level.OK
        self.login(tmp_path, "https://corp", expiresAt=PAST, refreshToken="hunter24", registrationExpiresAt=FUTURE)
        assert only(self.found(tmp_path, AWS_PROFILE="b"))[0] is Level.WRONG, "the older way renews nothing"

    def test_what_a_request_alone_would_show(self, tmp_path: Path) -> None:
        (finding,) = self.found(tmp_path)
        assert (finding.level, finding.cure) == (Level.NOTICE, "artifactd check")
        put(tmp_path, ".aws/config", "[default]\ncredential_process = /bin/keys\n")
        assert only(self.found(tmp_path))[0] is Level.OK
        put(tmp_path, ".aws/config", "")
        assert only(self.found(tmp_path, AWS_CONTAINER_CREDENTIALS_FULL_URI="http://x"))[0] is Level.OK

    def test_a_file_that_is_none_is_told_without_what_stands_in_it(self, tmp_path: Path) -> None:
        put(tmp_path, ".aws/credentials", "aws_secret_access_key hunter22\n")
        level, says = only(self.found(tmp_path))
        assert (level, says) == (Level.WRONG, f"{tmp_path}/.aws/credentials is no INI file")


class TestAzure:
    def found(self, **environ: str) -> tuple[Level, str]:
        return only(list(stores.azure(Surroundings(environ=environ, now=NOW))))

    def test_a_signature_tells_its_end(self) -> None:
        connection = "BlobEndpoint=https://a;SharedAccessSignature=sv=1&se={}&sig=hunter22"
        assert self.found(AZURE_STORAGE_CONNECTION_STRING=connection.format(PAST))[0] is Level.WRONG
        assert self.found(AZURE_STORAGE_CONNECTION_STRING=connection.format(FUTURE))[0] is Level.OK

    def test_keys_have_none(self) -> None:
        key = "AccountName=a;AccountKey=hunter22=="
        assert self.found(AZURE_STORAGE_CONNECTION_STRING=key)[0] is Level.OK
        assert self.found(AZURE_STORAGE_ACCESS_KEY="hunter22")[0] is Level.OK
        assert self.found(AZURE_STORAGE_CONNECTION_STRING="AccountName=a")[0] is Level.WRONG

    def test_applications(self) -> None:
        application = {"AZURE_CLIENT_ID": "a", "AZURE_TENANT_ID": "b"}
        assert self.found(**application)[0] is Level.NOTICE
        level, says = self.found(**application, AZURE_CLIENT_SECRET="hunter22")
        assert (level, "by AZURE_CLIENT_SECRET" in says) == (Level.OK, True)
        assert self.found()[0] is Level.NOTICE


class TestGoogle:
    def found(self, home: Path, **environ: str) -> tuple[Level, str]:
        return only(list(stores.google(around(home, **environ))))

    def test_a_key_that_is_named(self, tmp_path: Path) -> None:
        kept = {"type": "service_account", "client_email": "me@p.test", "private_key": "hunter22"}
        file = put(tmp_path, "key.json", json.dumps(kept))
        level, says = self.found(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(file))
        assert (level, says) == (Level.OK, f"a service account's key, without end ({file})")
        file.write_text("hunter22")
        assert self.found(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(file))[0] is Level.WRONG
        file.write_text('["hunter22"]')
        assert self.found(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(file))[0] is Level.WRONG
        file.unlink()
        assert self.found(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(file))[0] is Level.WRONG

    def test_a_login_of_a_person(self, tmp_path: Path) -> None:
        put(tmp_path, ".config/gcloud/application_default_credentials.json", '{"type": "authorized_user"}')
        level, says = self.found(tmp_path)
        assert (level, "until it is revoked" in says) == (Level.OK, True)

    def test_none(self, tmp_path: Path) -> None:
        assert self.found(tmp_path)[0] is Level.NOTICE
        assert self.found(tmp_path, STORAGE_EMULATOR_HOST="http://x")[0] is Level.OK


def test_only_stores_at_hand_are_looked_at(tmp_path: Path) -> None:
    assert list(stores.of(set(), around(tmp_path))) == []
    found = list(stores.of({"s3", "wasbs", "gs", "sftp"}, around(tmp_path)))
    assert [finding.what for finding in found] == [
        "credentials for S3", "credentials for Azure", "credentials for Google",
    ]  # fmt: skip
