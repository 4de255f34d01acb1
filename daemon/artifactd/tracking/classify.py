"""From an exception to a ``Failure``: what kind, what it concerns, and what the user can do.

MLflow wraps most things into ``MlflowException[INTERNAL_ERROR]``: a dead port, a refused path and a full disk look
alike by code. The truth is in the chain of causes, so that is what is read; classes of optional SDKs are told
by name, since importing four SDKs to compare classes would cost seconds.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import replace

from artifactd import installation
from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import reasons
from artifactd.tracking.refusals import refusal
from artifactd.tracking.waits import retry_after, said

_CREDENTIALS = (
    "Check the credentials that the service sees (MLFLOW_TRACKING_USERNAME/PASSWORD/TOKEN, the store's own variables "
    "and files) and their rights; it is tried again by itself"
)
_CONNECTION = frozenset(
    {
        "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "ChunkedEncodingError", "NewConnectionError",
        "ConnectTimeoutError", "ReadTimeoutError", "ProtocolError", "RemoteDisconnected", "EndpointConnectionError",
        "ConnectionClosedError", "ServiceRequestError", "ServiceResponseError", "ConnectionResetError",
        "ConnectionRefusedError", "BrokenPipeError", "NameResolutionError", "gaierror", "TimeoutError",
        "OperationalError", "TransportError", "SSHException", "EOFError",
    }
)  # fmt: skip
_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
        "ClientAuthenticationError", "DefaultCredentialsError", "RefreshError", "CredentialException",
        "AuthenticationException", "Forbidden", "Unauthorized",
    }
)  # fmt: skip
_REFUSED_CODES = frozenset(
    {
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken",
        "AllAccessDisabled", "AUTHORIZATION_FAILURE", "AuthorizationFailure", "AuthenticationFailed", "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    }
)  # fmt: skip
_MISSING_STORE = frozenset({"NoSuchBucket", "ContainerNotFound"})
_EXTRAS = {
    "boto3": "s3",
    "botocore": "s3",
    "azure": "azure",
    "google": "gcs",
    "pysftp": "sftp",
    "paramiko": "sftp",
}
_PACKAGES = {
    "azure.storage.filedatalake": ("azure-storage-file-datalake", "azure-identity"),
    "pyarrow": ("pyarrow",),
}
"""What MLflow needs for abfss:// and hdfs://, which have no extra of ours."""

_TOO_MANY = re.compile(r"too many (\d{3}) error responses")
_STATUS = re.compile(r"error code (\d{3})\b|\b(\d{3}) (?:Client|Server) Error")


def classify(exc: BaseException, *, target: str, scope: Scope) -> Failure:
    """What an exception from MLflow or an SDK below it means for delivery.

    Args:
        exc: As caught.
        target: What was talked to, for the message (a URI; it is masked here).
        scope: What the call concerned when the exception itself does not tell: RUN for the store, TARGET for the
            tracking server.

    Returns:
        The failure. ``FileNotFoundError`` of the source is not for here: that is 'look again'.

    Raises:
        MemoryError: There was no memory. That says nothing of the store, and a process that ran out of it is of no more
            use: it ends, and another one takes its place.
    """
    chain = list(_chain(exc))
    if any(isinstance(e, MemoryError) for e in chain):
        raise MemoryError from exc
    classed = next((e for e in chain if isinstance(e, DeliveryError)), None)
    if classed is not None:
        return classed.failure  # MLflow wraps what our own hooks raise, too
    wait = max((w for w in map(retry_after, chain) if w), default=0.0)
    missing = next((e for e in chain if isinstance(e, ModuleNotFoundError)), None)
    if missing is not None:
        return _missing_module(missing, mask(target), scope)
    failure = refusal(chain, mask(target), scope) or _classify(exc, chain, target, scope)
    return replace(failure, retry_after=wait)


def _classify(exc: BaseException, chain: list[BaseException], target: str, scope: Scope) -> Failure:
    where = mask(target)
    names = {type(e).__name__ for e in chain}
    codes = {_code(e) for e in chain}
    text = _said(chain)

    def fail(kind: Kind, scope: Scope, what: str, cure: str = "") -> Failure:
        return Failure(kind, scope, mask(what), cure)

    status = next((s for s in map(_status, chain) if s), None)
    reason = reasons.of_server(target, names, codes, status, text, scope)
    if reason is not None:
        return reason
    if "SSLError" in names or "SSLCertVerificationError" in names:
        return fail(
            Kind.PAUSED, Scope.TARGET, f"the certificate of {where} is not trusted ({text})",
            "Name its CA with MLFLOW_TRACKING_SERVER_CERT_PATH (or the store's own setting)",
        )  # fmt: skip
    if names & _NO_CREDENTIALS or codes & _REFUSED_CODES:
        return fail(Kind.PAUSED, scope, f"{where} refuses: {text}", _CREDENTIALS)
    if codes & _MISSING_STORE:
        return fail(Kind.PAUSED, scope, f"{where}: the bucket or container does not exist ({text})", "Create it")
    if any(type(e).__name__ == "RestException" and "error_code" not in getattr(e, "json", {}) for e in chain):
        # A gateway's own JSON: MLflow takes it for an INTERNAL_ERROR of the server and drops the status.
        return fail(Kind.PAUSED, Scope.TARGET, f"{where} answered, but not as an MLflow server: {text}", _CREDENTIALS)
    if status is not None:
        return _by_status(status, where, text, scope)
    if names & _CONNECTION:
        return fail(Kind.TRANSIENT, scope, f"{where} cannot be reached: {text}", "It is tried again by itself")
    local = next((f for f in (_by_errno(e, where, scope) for e in chain) if f), None)
    if local is not None:
        return local
    if "RESOURCE_DOES_NOT_EXIST" in codes:
        return fail(
            Kind.PERMANENT,
            Scope.RUN,
            f"{where}: {text}",
            "See whether the run or experiment was deleted there",
        )
    if "INVALID_PARAMETER_VALUE" in codes or (len(chain) == 1 and "INTERNAL_ERROR" in codes):
        # INTERNAL_ERROR without a cause is MLflow's own check of a path, not the server's trouble.
        return fail(Kind.PERMANENT, Scope.FILE, f"MLflow refuses it: {text}", "Rename the file or its folder")
    return fail(Kind.TRANSIENT, Scope.FILE, f"{where}: {type(exc).__name__}: {text}", "It is tried again by itself")


def _by_errno(e: BaseException, where: str, scope: Scope) -> Failure | None:
    """What a local root's disk said."""
    if not isinstance(e, OSError):
        return None
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(Kind.TRANSIENT, scope, f"{where}: no space left in the store", "Free space there")
    if e.errno == errno.ENAMETOOLONG:
        return Failure(Kind.PERMANENT, Scope.FILE, f"{where}: the path is too long for the store", "Shorten it")
    if isinstance(e, PermissionError):
        return Failure(
            Kind.PAUSED, scope, f"{where}: no permission to write there", "Give this user write access to it"
        )
    return None


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending = [exc]
    while pending:
        e = pending.pop(0)
        if e is None or id(e) in seen:
            continue
        seen.add(id(e))
        yield e
        pending += [e.__cause__, e.__context__]
        # urllib3 and requests hide the cause in `reason` and in their arguments, Azure's SDK in `inner_exception`.
        hidden = (getattr(e, "reason", None), getattr(e, "inner_exception", None), *e.args)
        pending += [a for a in hidden if isinstance(a, BaseException)]


def _said(chain: list[BaseException]) -> str:
    """One short line: the innermost text that says something, without object addresses."""
    texts = [" ".join(str(e).split()) for e in chain]
    text = next((t for t in reversed(texts) if t), type(chain[0]).__name__)
    for t in texts:
        if _TOO_MANY.search(t) or _STATUS.search(t):
            text = t
            break
    text = next((t for t in map(said, chain) if t), text)
    text = re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>:? ?", "", text)
    return text if len(text) <= 300 else text[:299] + "…"


def _code(e: BaseException) -> str | None:
    code = getattr(e, "error_code", None)
    response = getattr(e, "response", None)
    if isinstance(response, dict):  # botocore
        code = response.get("Error", {}).get("Code", code)
    return str(code) if code is not None else None


def _status(e: BaseException) -> int | None:
    for holder in (e, getattr(e, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    found = _TOO_MANY.search(str(e))
    if found:
        return int(found[1])
    if type(e).__name__ in ("MlflowException", "RestException", "HTTPError"):
        found = _STATUS.search(str(e))
        if found:
            return int(found[1] or found[2])
    return None


def _by_status(status: int, where: str, text: str, scope: Scope) -> Failure:
    what = mask(f"{where} answered {status}: {text}")
    if status in (401, 403, 407):
        return Failure(Kind.PAUSED, scope, what, _CREDENTIALS)
    if status in (408, 425, 429, 502, 503, 504):
        return Failure(Kind.TRANSIENT, scope, what, "It is tried again by itself", crowded=status in (429, 503))
    if status >= 500:
        return Failure(Kind.TRANSIENT, Scope.FILE, what, "See the server's log if it stays")
    if status == 413:
        return Failure(
            Kind.PERMANENT,
            Scope.FILE,
            what,
            "Raise the body limit of the proxy before the server (nginx: client_max_body_size)",
        )
    if status == 405:
        # Also a bogus answer after a connection was poisoned by surplus bytes: worth another try.
        return Failure(Kind.TRANSIENT, Scope.FILE, what, "If it stays, the tracking URI lacks its path prefix")
    return Failure(Kind.PERMANENT, Scope.FILE, what, "See the server's log; then `artifactd retry`")


def _missing_module(e: ModuleNotFoundError, where: str, scope: Scope) -> Failure:
    name = e.name or str(e)
    module = name.partition(".")[0]
    ours, names = installation.here(), _PACKAGES.get(name)
    line = ours.distributions(*names) if names else ours.with_extra(_EXTRAS.get(module, "local"))
    return Failure(
        Kind.PAUSED,
        scope,
        f"{where} needs the Python package {name if name in _PACKAGES else module}, which is not installed",
        str(line),
    )
