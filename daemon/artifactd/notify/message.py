"""A message: one JSON object, the same for a command and for a webhook. Pure. docs/notify.md describes it."""

from __future__ import annotations

import datetime
import json
from typing import Any

from artifactd import __version__
from artifactd.notify.pace import News
from artifactd.secrets import mask

VERSION = 1
"""Of the format: it grows when what was there before changes its meaning; new keys alone do not make it grow."""

_NAMED = 3
"""Troubles that the line for people names."""


def as_json(news: News, *, host: str, state_dir: str, status: str, test: bool = False) -> bytes:
    """What is sent.

    Args:
        news: What there is to tell.
        host: This host's name.
        state_dir: Which service of this host it is.
        status: The line that ``systemctl status`` shows.
        test: It only tries whether messages arrive, and `news` has nothing to tell.

    Returns:
        UTF-8, without line breaks, secrets masked.
    """
    data = {
        "version": VERSION,
        "artifactd": __version__,
        "host": host,
        "state_dir": state_dir,
        "at": _iso(news.at),
        "test": test,
        "text": f"artifactd on {host}: this is a test" if test else text(news, host),
        "status": status,
        "troubles": [
            {
                "kind": one.trouble.kind,
                "subject": one.trouble.subject,
                "detail": one.trouble.detail,
                "next_step": one.trouble.next_step,
                "since": _iso(one.since),
                "new": one.new,
            }
            for one in news.troubles
        ],
        "more": news.more,
        "resolved": [{"kind": over.kind, "subject": over.subject, "since": _iso(over.since)} for over in news.resolved],
    }
    return json.dumps(_masked(data), ensure_ascii=False).encode("utf-8", "backslashreplace")


def text(news: News, host: str) -> str:
    """The message in one line, for a chat or a telephone: what is new and what is over comes first."""
    parts = [one.trouble.line for one in news.troubles if one.new]
    parts += [f"resolved: {over.kind}: {over.subject}" for over in news.resolved]
    rest = len(parts) - _NAMED
    said = "; ".join(parts[:_NAMED]) + (f"; and {rest} more" if rest > 0 else "")
    before = sum(not one.new for one in news.troubles) + news.more
    return f"artifactd on {host}: {said}" + (f" ({before} {'other' if before == 1 else 'others'})" if before else "")


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _iso(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
