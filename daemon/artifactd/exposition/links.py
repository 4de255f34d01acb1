"""Where a run's page is in MLflow's UI."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from artifactd.secrets import MASK

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def run_page(target: str, run_id: str | None) -> str | None:
    """The address of a run's page.

    Args:
        target: The tracking URI, as the ledger keeps it.
        run_id: None before the run exists.

    Returns:
        An http(s) address without user, password and query; None where there is no page, or where what is left of the
        URI without its secrets leads nowhere.
    """
    if run_id is None or _RUN_ID.fullmatch(run_id) is None:
        return None
    try:
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    netloc = parts.netloc.rpartition("@")[2]
    address = parts._replace(netloc=netloc, path=parts.path.rstrip("/"), query="", fragment="").geturl()
    return None if MASK in address else f"{address}/#/runs/{run_id}"
