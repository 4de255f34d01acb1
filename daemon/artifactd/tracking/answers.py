"""What counts as an answer of an MLflow server: its own, from the address that was asked.

MLflow follows redirects (3.17), a PUT's too: after ``301`` or ``302`` by then without its body, so that a gateway that
sends http to https makes an upload replace what stood there by 0 bytes, and MLflow reports success. It also takes a
login page with status 200 for the answer to an upload. Both are refused here, at every request, since a redirect may
begin long after first contact: all of MLflow's requests to its server go through one function.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask

_NOTE = "artifactd_checked"
_CALL = re.compile(r"(/api/\d\.\d/|/ajax-api/|/version$|/health$)")
"""Where the tracking URI ends and the call begins."""
_LOGIN = re.compile(r"log-?in|sign-?in|sso|saml|oauth|openid|auth", re.IGNORECASE)


def check_answers() -> None:
    """Have every answer to MLflow's requests looked at; for this process, once."""
    from mlflow.utils import rest_utils  # noqa: PLC0415  (MLflow is slow to import)

    request = rest_utils._get_http_response_with_retries
    if hasattr(request, _NOTE):
        return

    def checked(method: str, url: str, *args: Any, **more: Any) -> Any:
        more["allow_redirects"] = False
        answer = request(method, url, *args, **more)
        _refuse_redirect(answer)
        if method == "PUT" and answer.ok:
            _refuse_page(answer)
        return answer

    setattr(checked, _NOTE, True)
    rest_utils._get_http_response_with_retries = checked


def _refuse_redirect(answer: Any) -> None:
    if 300 <= answer.status_code < 400:
        raise DeliveryError(redirected(str(answer.request.url), answer.headers.get("Location", "")))


def _refuse_page(answer: Any) -> None:
    # An upload is answered with {}; the length of it alone would not tell: the old content may be as long as the new.
    if answer.text[:1].strip() not in ("", "{"):
        raise DeliveryError(web_page(tracking_uri(str(answer.request.url))))


def tracking_uri(url: str) -> str:
    """The tracking URI within the URL of a call."""
    found = _CALL.search(urlsplit(url).path)
    parts = urlsplit(url)._replace(query="", fragment="")
    return parts._replace(path=parts.path[: found.start()] if found else parts.path).geturl()


def redirected(url: str, location: str) -> Failure:
    """What to say of a redirect.

    Args:
        url: That was asked.
        location: Where it sends us, as it stands in the answer.
    """
    asked = tracking_uri(url)
    call = urlsplit(url).path[len(urlsplit(asked).path) :]
    try:
        to = urljoin(url, location)
        there = urlsplit(to)
    except ValueError:  # no URL at all, as 'http://[x'
        to, there = location, urlsplit("")
    moved = there._replace(path=there.path.removesuffix(call), query="", fragment="").geturl().rstrip("/")
    what = f"{mask(asked)} redirects to {mask(to.partition('?')[0]) or 'nowhere'}, where uploads would be lost"
    if _without_user(moved) == _without_user(asked).rstrip("/"):
        cure = (
            "The gateway before it redirects to the same address again: see its rules for scheme and host "
            "(X-Forwarded-Proto)"
        )
    elif call and there.path.endswith(call):
        cure = f'Set mlflow.tracking_uri = "{mask(moved)}"'
    elif _LOGIN.search(there.path) or _LOGIN.search(there.netloc):
        cure = (
            "That looks like a login page: give the service credentials (MLFLOW_TRACKING_TOKEN, or "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD), or have the gateway let its API through"
        )
    else:
        cure = (
            f'Set mlflow.tracking_uri = "{mask(moved)}" if that is the server, or give the service credentials '
            "(MLFLOW_TRACKING_USERNAME and others) if that is a login page"
        )
    return Failure(Kind.PAUSED, Scope.TARGET, what, cure)


def _without_user(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:  # what was put together of the parts of a URL need be none
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def web_page(uri: str) -> Failure:
    """What to say of a page where MLflow's answer should be."""
    return Failure(
        Kind.PAUSED, Scope.TARGET, f"{mask(uri)} answers with a web page, not as an MLflow server",
        "Check mlflow.tracking_uri (host, port, path prefix) and whether a login page stands before it; "
        "it is tried again by itself",
    )  # fmt: skip
