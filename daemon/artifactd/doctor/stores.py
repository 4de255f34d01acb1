"""Credentials of stores that files go to directly: where they come from, and until when they last.

The order is that of each SDK. What a machine, a container or a login gives is known to a request alone, which is not
made here: ``artifactd check`` makes it.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from artifactd.doctor import ends
from artifactd.doctor.credentials import ini
from artifactd.doctor.disk import let_in
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.doctor.surroundings import Surroundings
from artifactd.text import printable

_AWS, _AZURE, _GOOGLE = "credentials for S3", "credentials for Azure", "credentials for Google"
_ROLE = "no key is named here: what is left are roles of this machine or container, which a request alone shows"
_CHECK = "artifactd check"
_RESTART = "in the service's environment (EnvironmentFile= of the unit), then systemctl restart artifactd"

_AWS_ENDS = (
    "aws_session_expiration", "x_security_token_expires", "aws_expiration", "aws_credential_expiration", "expiration",
)  # fmt: skip
"""What tools that write session keys into ~/.aws call the end of these."""


def of(schemes: set[str], around: Surroundings) -> Iterator[Finding]:
    """What there is for stores with these schemes."""
    if schemes & {"s3", "s3a", "s3n"}:
        yield from aws(around)
    if schemes & {"wasb", "wasbs"}:
        yield from azure(around)
    if "gs" in schemes:
        yield from google(around)


# -- Amazon ------------------------------------------------------------------------------------------------------


def aws(around: Surroundings) -> Iterator[Finding]:
    """The keys that boto3 finds, in its order."""
    environ = around.environ
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        source = "AWS_ACCESS_KEY_ID of the environment"
        if environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN"):
            end = ends.of_text(environ.get("AWS_CREDENTIAL_EXPIRATION", ""))
            yield ends.lasting(
                _AWS, f"a session key ({source})", end, around.now, cure=f"Set those of a new session {_RESTART}"
            )  # fmt: skip
        else:
            yield ok(_AWS, f"a key without end ({source})")
        return
    files = _Aws(around)
    if files.broken:
        yield wrong(_AWS, f"{files.broken} is no INI file", "Correct it: [default], then name = value, line by line")
        return
    yield from files.findings()


class _Aws:
    """The two files in ~/.aws.

    Attributes:
        broken: The one that cannot be read as what it is; empty for none.
    """

    def __init__(self, around: Surroundings) -> None:
        environ = self._environ = around.environ
        self._around = around
        self._named = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or ""
        self.broken = ""
        self._keys = self._read(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
        self._settings = self._read(environ.get("AWS_CONFIG_FILE") or "~/.aws/config")

    def findings(self) -> Iterator[Finding]:
        """What boto3 would come to after the environment."""
        profile = self._named or "default"
        own = self._profile(profile)
        if self._named and not own:
            there = ", ".join(sorted({*self._keys, *(name.removeprefix("profile ") for name in self._settings)}))
            cure = f"Set AWS_PROFILE to one that does ({there or 'there is none'}) {_RESTART}"
            yield wrong(_AWS, f"the profile {profile} stands in neither file of ~/.aws", cure)
        elif own.get("role_arn") and "web_identity_token_file" not in own:
            yield ok(_AWS, f"the role of profile {profile}, asked for anew by itself")
            source = own.get("source_profile")
            if source and source != profile:
                yield from self._in_profile(source)
        elif own.get("web_identity_token_file") or self._environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
            yield self._web_identity(own)
        else:
            yield from self._in_profile(profile)

    def _in_profile(self, profile: str) -> Iterator[Finding]:
        own = self._profile(profile)
        if own.get("sso_session") or own.get("sso_start_url"):
            yield self._login(profile, own)
        elif own.get("aws_access_key_id"):
            source = f"profile {profile} in ~/.aws"
            if own.get("aws_session_token") or own.get("aws_security_token"):
                end = next((e for name in _AWS_ENDS if (e := ends.of_text(own.get(name, ""))) is not None), None)
                cure = f"Begin a new session for profile {profile}, as you did (a change is seen without a restart)"
                yield ends.lasting(_AWS, f"a session key ({source})", end, self._around.now, cure=cure)
            else:
                yield ok(_AWS, f"a key without end ({source})")
        elif own.get("credential_process"):
            yield ok(_AWS, f"what the program of profile {profile} (credential_process) gives, asked anew by itself")
        elif any(self._environ.get(f"AWS_CONTAINER_CREDENTIALS_{name}_URI") for name in ("RELATIVE", "FULL")):
            yield ok(_AWS, "the role of this container, renewed by itself")
        else:
            yield notice(_AWS, _ROLE, _CHECK)

    def _web_identity(self, own: Mapping[str, str]) -> Finding:
        path = own.get("web_identity_token_file") or self._environ["AWS_WEB_IDENTITY_TOKEN_FILE"]
        shown = printable(os.fsencode(path))
        try:
            with open(path, encoding="ascii", errors="replace") as stream:
                end = ends.of_jwt(stream.read().strip())
        except OSError as exc:
            cure = let_in(Path(path), self._around, exc)
            return wrong(_AWS, f"the token in {shown} cannot be read: {exc.strerror}", cure)
        return ends.lasting(
            _AWS, f"the token of a role in {shown}", end, self._around.now, early=0.0,
            cure="See why the platform (Kubernetes) does not renew it",
        )  # fmt: skip

    def _login(self, profile: str, own: Mapping[str, str]) -> Finding:
        """A login by single sign-on, which the AWS CLI keeps under a hash of its name."""
        session = own.get("sso_session")
        name = session or own["sso_start_url"]
        digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        cure = f"aws sso login --profile {shlex.quote(profile)}  # as the service's user"
        try:
            with open(self._around.home(f"~/.aws/sso/cache/{digest}.json"), encoding="utf-8") as stream:
                kept = json.load(stream)
            renewed = session and kept.get("refreshToken")
            end = ends.of_text(str(kept.get("registrationExpiresAt" if renewed else "expiresAt", "")))
        except (OSError, ValueError, AttributeError):
            return wrong(_AWS, f"profile {profile} wants a login (AWS SSO), and there is none", cure)
        return ends.lasting(_AWS, f"the login of profile {profile} (AWS SSO)", end, self._around.now, cure=cure)

    def _profile(self, name: str) -> dict[str, str]:
        section = name if name == "default" else f"profile {name}"
        return {**self._settings.get(section, {}), **self._keys.get(name, {})}

    def _read(self, path: str) -> dict[str, dict[str, str]]:
        path = self._around.home(path)
        try:
            parser = ini(path)
        except FileNotFoundError:
            return {}
        except (configparser.Error, UnicodeDecodeError):
            self.broken = self.broken or printable(os.fsencode(path))
            return {}
        return {section: dict(parser.items(section)) for section in parser.sections()}


# -- Azure -------------------------------------------------------------------------------------------------------


_AZURE_PROOFS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")


def azure(around: Surroundings) -> Iterator[Finding]:
    """What MLflow gives to Azure's client, in its order."""
    environ = around.environ
    connection = environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection is not None:
        source = "AZURE_STORAGE_CONNECTION_STRING"
        if "sharedaccesssignature=" in connection.lower():
            yield ends.lasting(
                _AZURE, f"a shared access signature ({source})", ends.of_sas(connection), around.now,
                cure=f"Set a new {source} {_RESTART}",
            )  # fmt: skip
        elif "accountkey=" in connection.lower():
            yield ok(_AZURE, f"the account's key, without end ({source})")
        else:
            yield wrong(_AZURE, f"{source} holds neither a key nor a signature", f"Set it whole {_RESTART}")
    elif environ.get("AZURE_STORAGE_ACCESS_KEY"):
        yield ok(_AZURE, "the account's key, without end (AZURE_STORAGE_ACCESS_KEY)")
    elif environ.get("AZURE_CLIENT_ID") and environ.get("AZURE_TENANT_ID"):
        by = next(filter(environ.get, _AZURE_PROOFS), None)
        if by is None:
            yield notice(_AZURE, "AZURE_CLIENT_ID without a secret, certificate or token file to prove it", _CHECK)
        else:
            yield ok(_AZURE, f"the application of AZURE_CLIENT_ID by {by}; until when that lasts only Azure knows")
    else:
        yield notice(_AZURE, _ROLE, _CHECK)


# -- Google ------------------------------------------------------------------------------------------------------

_GOOGLE_KINDS = {
    "service_account": "a service account's key, without end",
    "authorized_user": "a person's login, until it is revoked (gcloud auth application-default login)",
    "external_account": "another provider's identity, renewed by itself",
    "impersonated_service_account": "a service account by another login, renewed by itself",
}


def google(around: Surroundings) -> Iterator[Finding]:
    """The credentials that Google's client finds, in its order."""
    environ = around.environ
    if environ.get("STORAGE_EMULATOR_HOST"):
        yield ok(_GOOGLE, "none: STORAGE_EMULATOR_HOST names an emulator")
        return
    named = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    folder = environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    path = around.home(named or f"{folder}/application_default_credentials.json")
    shown = printable(os.fsencode(path))
    try:
        with open(path, encoding="utf-8") as stream:
            kept = json.load(stream)
        kind = str(kept.get("type"))
    except FileNotFoundError:
        if named:
            cure = f"Set it to the key's file {_RESTART}"
            yield wrong(_GOOGLE, f"GOOGLE_APPLICATION_CREDENTIALS names {shown}, which is not there", cure)
        else:
            yield notice(_GOOGLE, _ROLE, _CHECK)
    except OSError as exc:
        yield wrong(_GOOGLE, f"{shown} cannot be read: {exc.strerror}", let_in(Path(path), around, exc))
    except (ValueError, AttributeError):
        cure = "gcloud auth application-default login  # as the service's user; or get the account's key anew"
        yield wrong(_GOOGLE, f"{shown} is not what Google gives (JSON)", cure)
    else:
        says = _GOOGLE_KINDS.get(kind, "credentials of a kind that is not known here")
        yield ok(_GOOGLE, f"{says} ({shown})")
