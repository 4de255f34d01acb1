"""Why an MLflow server refuses, in words that name the setting: who asks, TLS, the server's own switches.

MLflow's client hands through what it met; which of its many variables is meant, it does not say.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from artifactd import installation
from artifactd.errors import Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking.address import version_told
from artifactd.tracking.answers import web_page

_AGAIN = "it is tried again by itself"
_SET = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the service's environment,"
    f" or ~/.mlflow/credentials of its user; {_AGAIN}"
)
_NOT_JSON = "not in a valid JSON format"
"""What ``mlflow.utils.rest_utils.verify_rest_response`` says of an answer that is a web page."""
_SCHEMES = "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES"
"""Names a server's setting without which it takes no sftp://, ftp:// and the like for an experiment."""
_CALL = re.compile(r"request to endpoint (\S+) failed")
"""In what MLflow says of an answer that is none of its API's."""
_TLS = frozenset({"SSLError", "SSLCertVerificationError"})
_CA_FILE = re.compile(r"Could not find (?:a suitable TLS CA certificate bundle|the TLS certificate file), invalid path")


def of_server(
    uri: str, names: Collection[str], codes: Collection[str | None], status: int | None, text: str, scope: Scope
) -> Failure | None:
    """The reason, where it is one of those that an MLflow server has.

    Args:
        uri: What was talked to.
        names: Classes of the exceptions.
        codes: MLflow's error codes in them.
        status: HTTP status, where there was one.
        text: What was said.
        scope: What the call concerned.

    Returns:
        None where there is no more to say than the status, and for what is no server.
    """
    if not uri.startswith(("http://", "https://")):
        return None
    where = mask(uri)
    if _TLS & set(names):
        return Failure(Kind.PAUSED, Scope.TARGET, *_tls(where, mask(text)))
    if _CA_FILE.search(text) or "server_cert_path" in text:
        return Failure(
            Kind.PAUSED, Scope.TARGET, f"{where} cannot be asked: {mask(text)}",
            "Correct MLFLOW_TRACKING_SERVER_CERT_PATH (the file of the CA that signed the server's certificate; not "
            "together with MLFLOW_TRACKING_INSECURE_TLS) and MLFLOW_TRACKING_CLIENT_CERT_PATH, and restart",
        )  # fmt: skip
    if _NOT_JSON in text or "JSONDecodeError" in names:
        # MLflow says INTERNAL_ERROR to this, as to a path that it refuses; the run may well be there.
        return web_page(uri)
    if "ENDPOINT_NOT_FOUND" in codes:
        return _unknown_call(uri, where, text)
    if "Invalid Host header" in text:
        return Failure(
            Kind.PAUSED, Scope.TARGET, f"{where} answered {status}: {mask(text)}",
            f"Start the server with --allowed-hosts and the name that it is called by here; {_AGAIN}",
        )  # fmt: skip
    if "--no-serve-artifacts" in text or "Artifact serving is disabled" in text:
        return Failure(
            Kind.PAUSED, scope, f"{where} serves no artifacts (it runs with --no-serve-artifacts)",
            "Start it with --serve-artifacts, or deliver into an experiment whose artifact location is a store that "
            f"this host reaches itself (mlflow.artifact_location); {_AGAIN}",
        )  # fmt: skip
    if _SCHEMES in text:
        return Failure(
            Kind.PAUSED, Scope.RUN, f"{where} does not allow the artifact location of a new experiment: {mask(text)}",
            f"Start the server with {_SCHEMES}=sftp (the scheme of the location), or set another "
            f"mlflow.artifact_location; {_AGAIN}",
        )  # fmt: skip
    if status == 401 or "UNAUTHENTICATED" in codes:
        return _unknown(uri, where, text)
    if status == 403 and "Permission denied" in text:
        # What MLflow's own basic-auth says: it asks experiment by experiment, others may be open.
        return Failure(
            Kind.PAUSED, Scope.RUN, f"{where} answered 403: {who(uri) or 'an unnamed user'}: no permission there",
            f"Have the server's administrator grant EDIT on the experiment; {_AGAIN}",
        )  # fmt: skip
    if status == 403:
        return Failure(
            Kind.PAUSED, scope, f"{where} answered 403 to {who(uri) or 'a request without credentials'}: {mask(text)}",
            f"Check the rights of these credentials, and what the gateway before the server lets through; {_AGAIN}",
        )  # fmt: skip
    return None


def _tls(where: str, text: str) -> tuple[str, str]:
    what = f"the certificate of {where} is not trusted ({text})"
    if "expired" in text:
        return what, f"Renew the server's certificate (and see this host's clock); {_AGAIN}"
    if "not valid for" in text or "doesn't match" in text or "mismatch" in text:
        return what, "Use the name that the certificate is for in mlflow.tracking_uri, or have one made for this name"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return what, (
            "Name the file of the CA that signed it: MLFLOW_TRACKING_SERVER_CERT_PATH=/path/ca.pem in the service's "
            "environment, then restart"
        )
    return f"no TLS connection to {where} comes about ({text})", (
        "See whether the server (or the gateway before it) speaks TLS at this port, and whether it wants a client "
        "certificate (MLFLOW_TRACKING_CLIENT_CERT_PATH)"
    )


def _unknown_call(uri: str, where: str, text: str) -> Failure:
    from mlflow.version import VERSION as OURS  # noqa: PLC0415  (MLflow is slow to import)

    found = _CALL.search(text)
    call = found[1] if found else "a call"
    theirs = version_told(uri)
    if theirs is not None and release(theirs) != release(OURS):
        is_older = release(theirs) < release(OURS)
        update = f"Update the server, the older of the two; {_AGAIN}" if is_older else str(installation.here().newer())
        return Failure(
            Kind.PAUSED, Scope.TARGET,
            f"{where} is MLflow {theirs} and does not know {call}, which the client here, MLflow {OURS}, calls",
            update,
        )  # fmt: skip
    old = "" if theirs else f", and that the server is not older than the client here, MLflow {OURS}"
    return Failure(
        Kind.PAUSED, Scope.TARGET, f"{where} answered 404 to {call}, which is one of MLflow's API",
        "See that mlflow.tracking_uri has its path prefix, that a gateway before the server lets all of /api through"
        f"{old}; {_AGAIN}",
    )  # fmt: skip


def release(version: str) -> tuple[int, ...]:
    """A version's first two numbers: between bug fixes, no call comes or goes."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


def _unknown(uri: str, where: str, text: str) -> Failure:
    asker = who(uri)
    if asker is None:
        return Failure(
            Kind.PAUSED,
            Scope.TARGET,
            f"{where} answered 401: it wants to know who asks, and no credentials are set",
            _SET,
        )
    said = "" if "not authenticated" in text or "Client Error" in text else f" ({mask(text)})"
    return Failure(
        Kind.PAUSED, Scope.TARGET, f"{where} answered 401: it does not accept {asker}{said}",
        "Correct them; a change of ~/.mlflow/credentials is seen by itself, one of the environment after a restart",
    )  # fmt: skip


def who(uri: str) -> str | None:
    """Whose credentials go out with a request, and where they are from; never the secret."""
    from mlflow.utils.credentials import read_mlflow_creds  # noqa: PLC0415  (MLflow is slow to import)
    from requests.utils import get_auth_from_url, get_netrc_auth  # noqa: PLC0415  (comes with MLflow)

    # The order is that of requests: an address in the URI or in ~/.netrc takes the place of the header that MLflow set.
    in_uri, in_netrc = get_auth_from_url(uri), get_netrc_auth(uri)
    if all(in_uri):
        return f"the credentials of {in_uri[0]!r} in the tracking URI"
    if any(in_uri):  # a user without a password is a token
        return "the token in the tracking URI"
    if in_netrc:
        return f"the credentials of {in_netrc[0]!r} from ~/.netrc, which take the place of MLflow's own"
    creds = read_mlflow_creds()
    if creds.username and creds.password:
        source = "MLFLOW_TRACKING_USERNAME" if os.environ.get("MLFLOW_TRACKING_USERNAME") else "~/.mlflow/credentials"
        return f"the credentials of {creds.username!r} from {source}"
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return "the token from MLFLOW_TRACKING_TOKEN"
    return None
