"""Credentials for the tracking server: where they come from, who else can read them, until when they last."""

from __future__ import annotations

import configparser
import contextlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from artifactd.config import Config
from artifactd.doctor import ends, serving
from artifactd.doctor.disk import quoted
from artifactd.doctor.finding import Finding, notice, ok, wrong
from artifactd.doctor.surroundings import Surroundings
from artifactd.text import printable
from artifactd.tracking import certificates
from artifactd.tracking.contact import Contact

_WHAT = "credentials"
_OWN_FILE = "~/.mlflow/credentials"
_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105 (a variable's name)
_WEBHOOK = "ARTIFACTD_NOTIFY__WEBHOOK"
_OTHER_WAYS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")
_RESTART = "in the service's environment (EnvironmentFile= of the unit), then systemctl restart artifactd"

_CERTIFICATES = {
    "MLFLOW_TRACKING_CLIENT_CERT_PATH": "the client certificate",
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "the certificate of the server's authority",
    "AZURE_CLIENT_CERTIFICATE_PATH": "the client certificate for Azure",
}


def own_file(around: Surroundings) -> Iterator[Finding]:
    """Whether MLflow could read its file of credentials: if not, every request fails, quoting the file."""
    path = around.home(_OWN_FILE)
    if not os.path.exists(path):
        return
    try:
        parser = configparser.ConfigParser()  # as MLflow does, which takes a % for the beginning of a reference
        with open(path, encoding="utf-8") as stream:
            parser.read_file(stream)
        if "mlflow" in parser:
            dict(parser.items("mlflow"))
    except (configparser.Error, UnicodeDecodeError):
        yield wrong(
            _WHAT, f"{_OWN_FILE} is not what MLflow can read, so no request can be made",
            "Write three lines: [mlflow], mlflow_tracking_username = …, mlflow_tracking_password = … (with %% for %)",
        )  # fmt: skip


def ini(path: str) -> configparser.RawConfigParser:
    """An INI file, as the libraries read it.

    Raises:
        configparser.Error: It is none; its text may quote the file, so it is not to be shown.
        OSError: It cannot be read.
    """
    parser = configparser.RawConfigParser(strict=False)
    with open(path, encoding="utf-8") as stream:
        parser.read_file(stream)
    return parser


def of_server(found: Contact, around: Surroundings) -> Iterator[Finding]:
    """Who asks the tracking server, by what, and until when that lasts."""
    token = around.environ.get(_TOKEN)
    other = next(filter(around.environ.get, _OTHER_WAYS), None)
    if not found.client:
        pass  # nobody was there to say it
    elif found.who is None and other is not None:
        yield ok(_WHAT, f"what {other} stands for, which names no end")
    elif found.who is None:
        yield ok(_WHAT, "none are set for the tracking server" + ("" if found.error else ", and it wants none"))
    elif token and _TOKEN in found.who:
        yield ends.lasting(
            _WHAT, found.who, ends.of_jwt(token), around.now, cure=f"Set a new {_TOKEN} {_RESTART}"
        )  # fmt: skip
    else:
        yield ok(_WHAT, f"{found.who}, which name no end")
    if found.certificate_end is not None:
        yield ends.lasting(
            "certificate", "the server's certificate", found.certificate_end, around.now,
            cure="Renew it on the server, or the gateway before it", early=ends.EARLY_CERTIFICATE,
        )  # fmt: skip


def named_certificates(around: Surroundings) -> Iterator[Finding]:
    """Until when the certificates last that variables name."""
    for variable, name in _CERTIFICATES.items():
        path = around.environ.get(variable)
        if not path:
            continue
        shown = printable(os.fsencode(path))
        try:
            with open(path, encoding="ascii", errors="replace") as stream:
                found = certificates.ends_in(stream.read())
        except OSError as exc:
            yield wrong("certificate", f"{variable}: {shown} cannot be read: {exc.strerror}", f"Correct {variable}")
            continue
        except ValueError:
            found = []
        if not found:
            yield notice("certificate", f"{variable}: in {shown} stands no certificate in PEM", f"Correct {variable}")
            continue
        # Of several (a chain, a bundle of authorities) the first is the one that is meant.
        yield ends.lasting(
            "certificate", f"{name} ({variable})", found[0], around.now, cure=f"Put a new one in {shown}",
            early=ends.EARLY_CERTIFICATE,
        )  # fmt: skip


def readable_by_others(config: Config, around: Surroundings) -> Iterator[Finding]:
    """Files with secrets that other users of this host can read."""
    for path, holds in _own_files(around):
        with contextlib.suppress(OSError):
            if serving.seen_by_others(os.stat(path)):
                yield _readable(Path(path), holds, f"chmod 600 {quoted(Path(path))}")
    who = serving.account(config.state_dir, around)
    for file, holds, elsewhere in _files_of_service(config):
        with contextlib.suppress(OSError):
            status = file.stat()
            if serving.seen_by_others(status, who.gid):
                yield _readable(file, holds, serving.only_for(who, file, status) + elsewhere)


def _readable(path: Path, holds: str, cure: str) -> Finding:
    said = f"{printable(os.fsencode(path))} holds {holds}, and other users can read it"
    return notice("secrets in files", said, cure)


def _own_files(around: Surroundings) -> Iterable[tuple[str, str]]:
    environ = around.environ
    yield around.home(_OWN_FILE), "MLflow's credentials"
    yield environ.get("NETRC") or around.home("~/.netrc"), "logins"
    yield around.home(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"), "keys for S3"
    yield environ.get("GOOGLE_APPLICATION_CREDENTIALS", ""), "a key for Google"


def _files_of_service(config: Config) -> Iterator[tuple[Path, str, str]]:
    """Files of the administrator's that the service reads: what each holds, and where else that may stand."""
    if config.source != "defaults":
        file = Path(config.source)
        passwords, webhook = _standing_in(file)
        if webhook:
            yield file, "a webhook's secret", f"  # or move it into the service's environment: {_WEBHOOK}=…"
        elif passwords:
            yield file, "a password in a URL", ""
    if config.notify.secret_file is not None:
        yield config.notify.secret_file, "the webhook's key", ""
    if config.metrics.token_file is not None:
        yield config.metrics.token_file, "the token for metrics", ""


def _standing_in(file: Path) -> tuple[bool, bool]:
    """Whether a password and a webhook's secret stand in a configuration file itself: a variable may be the source."""
    with contextlib.suppress(OSError, ValueError):
        data = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
        mlflow, notify = ({} if not isinstance(of := data.get(key), dict) else of for key in ("mlflow", "notify"))
        uris = [uri for key in ("tracking_uri", "artifact_location") if isinstance(uri := mlflow.get(key), str)]
        webhook = notify.get("webhook")
        return any(map(_password, uris)), isinstance(webhook, str) and any(_of_webhook(webhook))
    return False, False


def secrets_of(config: Config) -> Iterator[str]:
    """Secrets that stand in the URLs of a configuration, as they stand there."""
    for uri in (config.tracking_uri, config.mlflow.artifact_location or ""):
        if password := _password(uri):
            yield password
    yield from _of_webhook(config.notify.webhook or "")


def _password(uri: str) -> str | None:
    return urlsplit(uri).password


def _of_webhook(url: str) -> Iterator[str]:
    """What follows the host, which is the secret of most, and the password before it."""
    parts = urlsplit(url)
    if parts.password:
        yield parts.password
    if parts.path.strip("/") or parts.query:
        yield urlunsplit(("", "", parts.path, parts.query, ""))
