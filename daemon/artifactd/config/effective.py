"""The effective configuration as people may see it."""

from __future__ import annotations

import os
from typing import Any

from artifactd.config.model import Config
from artifactd.config.notify import shown_webhook
from artifactd.text import printable


def masked(config: Config) -> dict[str, Any]:
    """Give the effective configuration as plain data, ready for JSON.

    Returns:
        Tables by key, with ``mlflow.tracking_uri`` resolved, durations and sizes as people write them, and secrets as
        ``***``.
    """
    data = config.model_dump(mode="json")
    data["mlflow"]["tracking_uri"] = config.tracking_uri
    if config.notify.webhook is not None:
        data["notify"]["webhook"] = shown_webhook(config.notify.webhook)
    masked_data: dict[str, Any] = _masked(data)
    return masked_data


def _masked(value: Any) -> Any:
    from artifactd.secrets import mask  # noqa: PLC0415 (compiles many patterns, which few commands need)

    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return printable(os.fsencode(mask(value))) if isinstance(value, str) else value
