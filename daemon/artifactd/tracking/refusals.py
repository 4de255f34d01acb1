"""What an object store or its SDK says when it refuses: read from the SDK's own exception, by the store's own code.

S3, Azure Blob and Google Cloud Storage name the same few troubles in some sixty ways. Each trouble is one row here,
with what it means for delivery and what the user can do; a code that is not known is judged by its HTTP status.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from artifactd.errors import Failure, Kind, Scope
from artifactd.secrets import mask

_SDKS = {"botocore": "s3", "boto3": "s3", "s3transfer": "s3", "azure": "azure", "google": "gcs"}
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials (AWS_PROFILE), or the machine's role",
    "azure": "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_ACCESS_KEY, or an identity for DefaultAzureCredential",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the machine's service account",
}
_RIGHTS = {
    "s3": "Let it s3:PutObject, s3:GetObject and s3:AbortMultipartUpload below that path, and s3:ListBucket",
    "azure": "Give it the role Storage Blob Data Contributor on the container, or a signature with racwl",
    "gcs": "Give it roles/storage.objectUser on the bucket (overwriting needs the right to delete)",
}
_ADDRESS = {
    "s3": "Set MLFLOW_S3_ENDPOINT_URL and AWS_DEFAULT_REGION to the bucket's own",
    "azure": "Check the account in the artifact location, and BlobEndpoint in the connection string",
    "gcs": "Check STORAGE_EMULATOR_HOST and API_ENDPOINT_OVERRIDE, and what stands before the store",
}
_CA = {"s3": "AWS_CA_BUNDLE", "azure": "MLFLOW_TRACKING_SERVER_CERT_PATH", "gcs": "REQUESTS_CA_BUNDLE"}
_AGAIN = "It is tried again by itself"


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What a trouble means: the sentence after the store's name, and the next step by SDK."""

    kind: Kind
    scope: Scope | None
    what: str
    cure: dict[str, str] | str


def _known(keys: str) -> dict[str, str]:
    # Not with a colon: what follows "secret:" is masked.
    return {sdk: f"{keys} in {names}; it is tried again by itself" for sdk, names in _KEYS.items()}


_KEY = _Row(Kind.PAUSED, None, "does not know the key", _known("Check the key"))
_SECRET = _Row(Kind.PAUSED, None, "says that the secret does not fit the key", _known("Check the secret"))
_EXPIRED = _Row(Kind.PAUSED, None, "says that the credentials have expired", _known("Renew them"))
_DENIED = _Row(Kind.PAUSED, None, "does not permit it", _RIGHTS)
_MISSING = _Row(Kind.PAUSED, None, "has no such bucket or container", "Create it, or mend the experiment's location")
_GONE = _Row(Kind.PERMANENT, Scope.FILE, "does not hold the object", "See whether it was deleted there")
_ELSEWHERE = _Row(Kind.PAUSED, None, "says that the bucket is elsewhere: wrong region or endpoint", _ADDRESS)
_CLOCK = _Row(
    Kind.PAUSED, None, "says that this machine's clock is wrong", "Set it (timedatectl set-ntp true, or chrony)"
)
_FULL = _Row(Kind.TRANSIENT, None, "is full", f"Free space there or raise the quota. {_AGAIN}")
_BUSY = _Row(Kind.TRANSIENT, None, "is overloaded", _AGAIN)
_TROUBLE = _Row(Kind.TRANSIENT, Scope.FILE, "has trouble of its own", "See the store's log if it stays")
_TOO_BIG = _Row(
    Kind.PERMANENT, Scope.FILE, "takes no object of that size",
    "Raise the limit of the store, or of the gateway before it (nginx: client_max_body_size)",
)  # fmt: skip
_NAME = _Row(Kind.PERMANENT, Scope.FILE, "cannot hold an object of that name", "Rename the file or its folder")
_TORN = _Row(Kind.TRANSIENT, Scope.FILE, "got other bytes than were sent", f"See the line to it. {_AGAIN}")
_CUT = _Row(Kind.TRANSIENT, Scope.FILE, "knows nothing of the upload any more", _AGAIN)
_PROXY = _Row(
    Kind.PAUSED, None, "is behind a proxy that asks who we are (407)",
    "Name user and password in HTTPS_PROXY (http://user:password@host:port), or the store's host in NO_PROXY",
)  # fmt: skip
_NO_STORE = _Row(Kind.PAUSED, None, "does not answer as a store does, but with a redirect or a web page", _ADDRESS)
_ODD = _Row(Kind.PERMANENT, Scope.FILE, "refuses it", "See the store's log; then `artifactd retry`")

_CODES = {
    _KEY: "InvalidAccessKeyId InvalidClientTokenId UnrecognizedClientException",
    _SECRET: "SignatureDoesNotMatch AuthenticationFailed AuthorizationFailure InvalidAuthenticationInfo",
    _EXPIRED: "ExpiredToken ExpiredTokenException TokenRefreshRequired InvalidToken RequestExpired",
    _DENIED: "AccessDenied AllAccessDisabled AccountIsDisabled AccountProblem AuthorizationPermissionMismatch"
    " AuthorizationSourceIPMismatch AuthorizationProtocolMismatch AuthorizationServiceMismatch"
    " AuthorizationResourceTypeMismatch InsufficientAccountPermissions NoAuthenticationInformation forbidden"
    " PublicAccessNotPermitted KeyBasedAuthenticationNotPermitted required KMS.DisabledException",
    _MISSING: "NoSuchBucket ContainerNotFound ContainerBeingDeleted ContainerDisabled",
    _GONE: "NoSuchKey BlobNotFound ResourceNotFound",
    _ELSEWHERE: "PermanentRedirect TemporaryRedirect AuthorizationHeaderMalformed IllegalLocationConstraintException"
    " InvalidRegion",
    _CLOCK: "RequestTimeTooSkewed",
    _FULL: "XMinioStorageFull QuotaExceeded quotaExceeded InsufficientStorage InsufficientCapacity"
    " XMinioAdminBucketQuotaExceeded BlobOverwriteQuotaExceeded AccountLimitExceeded",
    _BUSY: "SlowDown ServiceUnavailable ServerBusy Throttling ThrottlingException RequestLimitExceeded"
    " TooManyRequests TooManyRequestsException rateLimitExceeded userRateLimitExceeded OperationTimedOut"
    " BandwidthLimitExceeded RequestThrottled XMinioServerNotInitialized backendError",
    _TROUBLE: "InternalError internalError",
    _TOO_BIG: "EntityTooLarge RequestBodyTooLarge uploadTooLarge MaxMessageLengthExceeded",
    _NAME: "KeyTooLongError InvalidURI XMinioInvalidObjectName InvalidResourceName OutOfRangeInput InvalidUri",
    _TORN: "BadDigest InvalidDigest Md5Mismatch XAmzContentSHA256Mismatch XAmzContentChecksumMismatch"
    " Crc64Mismatch IncompleteBody RequestTimeout",
    _CUT: "NoSuchUpload InvalidBlockList",
}  # fmt: skip
_AZURE_UNKNOWN = ("AuthenticationFailed", "InvalidAuthenticationInfo")
_AZURE_LATE = ("Signature not valid in the specified time", "The token is expired")
"""Details of the above: a signature past its end, a token past its end."""
_BY_CODE = {code: row for row, codes in ((r, c.split()) for r, c in _CODES.items()) for code in codes}
_BY_STATUS = {
    401: _KEY, 403: _DENIED, 407: _PROXY, 408: _BUSY, 413: _TOO_BIG, 425: _BUSY, 429: _BUSY, 500: _TROUBLE, 502: _BUSY,
    503: _BUSY, 504: _BUSY, 507: _FULL, 509: _BUSY, 404: _GONE,
}  # fmt: skip

_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
        "ClientAuthenticationError", "CredentialUnavailableError", "DefaultCredentialsError", "RefreshError",
        "NoAuthTokenError", "MalformedError", "ProfileNotFound", "InvalidOperation",
    }
)  # fmt: skip
_SINGLE_SIGN_ON = frozenset({"SSOError", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError"})
"""What botocore says when a login has ended, or never was."""
_WEB_PAGE = frozenset(
    {"JSONDecodeError", "DecodeError", "ResponseParserError", "RecursionError", "ParseError", "NotAStoreError"}
)
_UNREACHED = frozenset(
    {
        "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError",
        "ServiceRequestError", "ServiceResponseError", "ServiceRequestTimeoutError", "ServiceResponseTimeoutError",
        "IncompleteReadError", "ConnectionError", "ConnectTimeout", "ReadTimeout", "ChunkedEncodingError",
        "TransportError", "RetryError", "ProxyConnectionError", "ProxyError", "ResponseStreamingError",
        "HTTPClientError", "IncompleteRead", "ProtocolError", "ContentDecodingError",
    }
)  # fmt: skip
_HOST = re.compile(r"host='([^']+)', port=(\w+)")
_NOISE = re.compile(
    r"\s*(?:\(reached max retries: \d+\)"
    r"|(?:RequestId:|Content: |ErrorCode:|JSON is invalid: |Attempted credentials:).*)",
    re.DOTALL,
)
_S3_SAID = re.compile(r"An error occurred \((.*?)\) when calling the (\w+) operation.*?: ?(.*)", re.DOTALL)


_READ = 2_000
"""Characters of what a store says that are read for its reason: patterns would look at all of it again and again."""


class UnusableError(Exception):
    """A client of an SDK cannot be made from what the environment says; the cause says why."""


def refusal(chain: Sequence[BaseException], where: str, scope: Scope) -> Failure | None:
    """What the exceptions of an SDK mean.

    Args:
        chain: As caught, outermost first, with causes.
        where: The store, for the message, masked.
        scope: What the call concerned.

    Returns:
        The failure; None if no SDK of an object store had a hand in it.
    """
    sdk = next((s for e in chain if (s := _SDKS.get(type(e).__module__.partition(".")[0]))), None)
    if sdk is None and where.startswith(("s3:", "gs:", "wasbs:")):
        sdk = {"s3": "s3", "gs": "gcs", "wasbs": "azure"}[where.partition(":")[0]]
    if sdk is None:
        return None

    def fail(row: _Row, said: str) -> Failure:
        cure = row.cure if isinstance(row.cure, str) else row.cure[sdk]
        what = mask(f"{where} {row.what}" + (f" ({said})" if said else ""))
        return Failure(row.kind, row.scope or scope, what, cure, crowded=row is _BUSY)

    names = {type(e).__name__ for e in chain}
    texts = "\n".join(str(e) for e in chain)
    if "407 Proxy Auth" in texts:
        return fail(_PROXY, "")
    if names & {"SSLError", "SSLCertVerificationError"} or "CERTIFICATE_VERIFY_FAILED" in texts:
        return _tls(texts, where, scope, sdk)
    login = bool(names & _SINGLE_SIGN_ON)  # what the portal answers is no answer of the store
    answered = None if login else next((a for a in map(_answer, chain) if a is not None), None)
    if answered is not None and not (names & _NO_CREDENTIALS and answered.status not in (401, 403)):
        row = _judge(answered, names, texts, sdk)
        return fail(row, "" if row is _PROXY else answered.said)
    if "Token must be a short-lived token" in texts:
        return fail(_CLOCK, "")
    if sdk == "s3" and "JSONDecodeError" in names:
        # S3 speaks XML: the one JSON that is read unguarded is what a program prints.
        return Failure(
            Kind.PAUSED, scope, f"{where}: no credentials that can be used (what credential_process prints is no JSON)",
            "Correct that program (credential_process in ~/.aws/config); it is tried again by itself",
        )  # fmt: skip
    if login or (names & _NO_CREDENTIALS and not names & {"ConnectionError", "ConnectTimeout", "ReadTimeout"}):
        cure = (
            "Run aws sso login as the service's user, with its AWS_PROFILE"
            if login
            else f"Give the service {_KEYS[sdk]}"
        )
        return Failure(
            Kind.PAUSED, scope, mask(f"{where}: no credentials that can be used ({_short(_words(chain[0]))})"),
            f"{cure}; it is tried again by itself",
        )  # fmt: skip
    if names & _WEB_PAGE:
        return fail(_NO_STORE, "")
    if names & _UNREACHED:
        return Failure(Kind.TRANSIENT, scope, mask(f"{where} cannot be reached{_reason(chain, texts)}"), _AGAIN)
    if "UnusableError" in names:
        return Failure(
            Kind.PAUSED, scope, mask(f"{where}: its settings cannot be used ({_short(str(chain[-1]))})"),
            f"Check {_KEYS[sdk]}; it is tried again by itself",
        )  # fmt: skip
    if "DataCorruption" in names:
        return fail(_TORN, _short(str(chain[0])))
    return None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a store answered: HTTP status (0 if unknown), its own code, its words."""

    status: int
    code: str
    said: str
    place: str = ""


def _answer(e: BaseException) -> _Answer | None:
    response: Any = getattr(e, "response", None)
    if isinstance(response, dict):  # botocore
        error = response.get("Error", {})
        number = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return _worded(int(number or 0), str(error.get("Code", "")), str(error.get("Message", "")))
    module = type(e).__module__
    if type(e).__name__ == "S3UploadFailedError" and (found := _S3_SAID.search(str(e)[:_READ])):
        return None if e.__context__ is not None else _worded(0, found[1], found[3])
    if module.startswith("azure."):
        status = getattr(e, "status_code", None)
        if not isinstance(status, int) or type(e).__name__ == "DecodeError":
            return None
        code = getattr(e, "error_code", None)
        if code is None and isinstance(e.__context__, Exception):
            code = getattr(e.__context__, "error_code", None)
        return _worded(status, str(getattr(code, "value", code) or ""), str(getattr(e, "message", e)))
    if module.startswith("google.") and hasattr(response, "status_code"):
        return _google(response)
    return None


def _google(response: Any) -> _Answer:
    try:
        error = response.json()["error"]
        details = error.get("errors") or [{}]
        reason = str(details[0].get("reason", ""))
        message = str(error.get("message", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        reason, message = "", ""
    answer = _worded(int(response.status_code), reason, message)
    return _Answer(answer.status, answer.code, answer.said, urlsplit(str(getattr(response, "url", ""))).path)


def _worded(status: int, code: str, message: str) -> _Answer:
    parts = [p for p in (str(status or ""), "" if code == str(status) else code) if p]
    text = _short(message)
    said = " ".join(parts) + (f", {text}" if text and text != code else "")
    return _Answer(status, code, said)


def _judge(answer: _Answer, names: set[str], texts: str, sdk: str) -> _Row:
    if "RequestDateHeader" in texts or "Request date header too old" in texts:
        return _CLOCK
    if sdk == "azure" and answer.code in _AZURE_UNKNOWN and any(words in texts for words in _AZURE_LATE):
        return _EXPIRED
    if answer.code in _BY_CODE:
        return _BY_CODE[answer.code]
    if sdk == "gcs" and answer.status == 404 and "/o/" not in answer.place:
        return _MISSING
    if 200 <= answer.status < 400 or (names & _WEB_PAGE and answer.status not in _BY_STATUS):
        return _NO_STORE
    if answer.code.isdecimal() and not answer.status:
        answer = _Answer(int(answer.code), answer.code, answer.said)
    return _BY_STATUS.get(answer.status, _TROUBLE if answer.status >= 500 else _ODD)


def _tls(texts: str, where: str, scope: Scope, sdk: str) -> Failure:
    if "CERTIFICATE_VERIFY_FAILED" in texts:
        found = re.search(r"certificate verify failed: ([^(\"']+)", texts)
        what = f"its certificate is not trusted ({found[1].strip() if found else 'verification failed'})"
        cure = f"Name its CA with {_CA[sdk]}; it is tried again by itself"
    else:
        found = re.search(r"\[SSL: (\w+)\]", texts)
        what = f"TLS cannot be agreed on ({found[1] if found else 'SSL error'})"
        cure = f"See whether that port speaks TLS (https) at all. {_ADDRESS[sdk]}"
    return Failure(Kind.PAUSED, scope, mask(f"{where}: {what}"), cure)


def _reason(chain: Sequence[BaseException], texts: str) -> str:
    found = _HOST.search(texts)
    url = re.search(r"https?://[^\s\"'/]+", texts)
    host = f"{found[1]}:{found[2]}" if found else (urlsplit(url[0]).netloc if url else "")
    why = re.search(r"\[Errno -?\d+\] ([^)\"'\[\]\n]+)", texts) or re.search(
        r"([Tt]imed out|Connection aborted)", texts
    )
    return (f" at {host}" if host else "") + f": {why[1].strip() if why else _short(str(chain[-1]))}"


def _words(e: BaseException) -> str:
    """Google's exceptions say it twice: in words, and as the answer that they are from."""
    return str(e.args[0]) if len(e.args) > 1 and isinstance(e.args[0], str) else str(e)


def _short(text: str) -> str:
    text = text[:_READ]
    if found := _S3_SAID.search(text):
        text = f"{found[1]}: {found[3]}"
    text = " ".join(_NOISE.sub("", text).split())
    text = re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>:? ?", "", text).rstrip(".")
    return text if len(text) <= 200 else text[:199] + "…"
