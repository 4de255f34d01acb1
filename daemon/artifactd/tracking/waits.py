"""What a server said as it refused: how long to leave it alone (Retry-After), and why. MLflow's client drops both.

With its own retries off, a 429 or 503 ends as an exception that holds the status, but neither header nor body (3.17:
urllib3's ``MaxRetryError`` inside). The class that it makes of such answers is given one more line.
"""

from __future__ import annotations

import json
import math
from typing import Any

_NOTE = "artifactd_retry_after"
_SAID = "artifactd_said"
_MOST = 4096
"""Bytes of an answer that are read for its reason."""


def note_answers() -> None:
    """Have what MLflow raises for a refused request carry the server's words; for this process, once."""
    from mlflow.utils import request_utils  # noqa: PLC0415  (MLflow is slow to import)
    from urllib3.exceptions import MaxRetryError  # noqa: PLC0415  (comes with MLflow)

    if hasattr(request_utils.Retry, _NOTE):
        return

    class Noting(request_utils.Retry):  # type: ignore[misc]
        """urllib3's policy, that notes what the answer asked for when it gives up."""

        def increment(self, method: Any = None, url: Any = None, response: Any = None, *args: Any, **more: Any) -> Any:
            try:
                return super().increment(method, url, response, *args, **more)
            except MaxRetryError as exc:
                if response is not None:
                    setattr(exc, _NOTE, self.get_retry_after(response))
                    setattr(exc, _SAID, _read(response))
                raise

    setattr(Noting, _NOTE, None)
    request_utils.Retry = Noting
    request_utils._cached_get_request_session.cache_clear()  # those made before hold the class of before


def retry_after(exc: BaseException) -> float | None:
    """Seconds that the server asked for, above 0, as far as this exception knows; None where it asks for none."""
    noted = getattr(exc, _NOTE, None)
    if noted is None:
        response = getattr(exc, "response", None)
        if isinstance(response, dict):  # botocore
            noted = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after")
        else:
            noted = (getattr(response, "headers", None) or {}).get("Retry-After")
    try:
        seconds = 0.0 if noted is None else float(noted)
    except (ValueError, TypeError, OverflowError):
        return None  # a date, or nothing that makes sense: the backoff will do
    return seconds if 0 < seconds < math.inf else None


def said(exc: BaseException) -> str:
    """What the server said, as far as this exception knows; else nothing."""
    return str(getattr(exc, _SAID, ""))


def _read(response: Any) -> str:
    try:
        body = response.read(_MOST, decode_content=True).decode(errors="replace").strip()
    except Exception:  # noqa: BLE001 (the status is the reason then)
        return ""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return "" if body.startswith("<") else " ".join(body.split())
    found = answer if isinstance(answer, dict) else {}
    return " ".join(str(found.get("message") or found.get("detail") or "").split())  # MLflow's two ways
