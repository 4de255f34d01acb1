"""How long a server asks to be left alone (Retry-After), which MLflow's client drops with the answer.

With its own retries off, a 429 or 503 ends as an exception that holds the status and no header (3.17: urllib3's
``MaxRetryError`` inside). The class that it makes of such answers is given one more line.
"""

from __future__ import annotations

from typing import Any

_NOTE = "artifactd_retry_after"


def note_retry_after() -> None:
    """Have what MLflow raises for a refused request carry the server's Retry-After; for this process, once."""
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
                raise

    setattr(Noting, _NOTE, None)
    request_utils.Retry = Noting
    request_utils._cached_get_request_session.cache_clear()  # those made before hold the class of before


def retry_after(exc: BaseException) -> float | None:
    """Seconds that the server asked for, as far as this exception knows; for an answer without a header, None."""
    noted = getattr(exc, _NOTE, None)
    if noted is None:
        headers = getattr(getattr(exc, "response", None), "headers", None) or {}
        noted = headers.get("Retry-After")
    try:
        return None if noted is None else float(noted)
    except ValueError:
        return None  # a date: the backoff will do
