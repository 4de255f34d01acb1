"""``[notify]``: who is told that something needs a person, of what, and how often."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field

from artifactd.config.fields import AbsolutePath, Period, Size, Table
from artifactd.config.problems import Mistake, shown
from artifactd.config.uris import is_loopback

Topic = Literal["failure", "paused", "lag", "disk", "watch"]
"""What may be told: files that wait for a person, a server or run that takes nothing, files that wait for too long, a
state folder without space, a watched folder that is not watched as it should be."""

_WRITE_URL = 'write it with scheme and host, as "https://chat.example.com/hooks/abc"'
_WRITE_COMMAND = 'write program and arguments as a list, as ["/usr/local/bin/page", "ops"]'


def shown_webhook(url: str) -> str:
    """A webhook for people: scheme and host. What follows is the secret of most, and may be all there is to know.

    Args:
        url: One that ``NotifyConfig`` has accepted.
    """
    from artifactd.secrets import MASK  # noqa: PLC0415 (compiles many patterns, which few commands need)

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" + (f"/{MASK}" if parts.path.strip("/") or parts.query else "")


def _webhook(url: str) -> str:
    parts = _parts(url)
    if parts is None or not url.isascii() or not url.isprintable() or " " in url:
        raise Mistake("it is no URL of a webhook", _WRITE_URL)  # without it: it may hold the secret anywhere
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise Mistake(
            f"{shown(shown_webhook(url))} would send what is wrong, and the secret in the URL, for all to read",
            "write https://…, or name a relay on localhost",
        )
    return url


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, brackets that do not close
        return None
    return parts if is_whole else None


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and (not value[0].strip() or any("\0" in word for word in value)):
        raise Mistake("it names no program", _WRITE_COMMAND)
    if value and "/" in value[0] and not value[0].startswith("/"):
        raise Mistake(f"{shown(value[0])} does not say from where", 'write the whole path from "/" on')
    return value


def _something(value: tuple[Topic, ...]) -> tuple[Topic, ...]:
    if not value:
        raise Mistake("the list is empty, so nothing would be told", 'write what is to be told, as ["failure", "disk"]')
    return value


class NotifyConfig(Table):
    """``[notify]``. Durations are seconds, `disk` is bytes that are free at least where the state folder lies."""

    command: Annotated[tuple[str, ...], AfterValidator(_command)] = Field(
        default=(), examples=[["/usr/local/bin/page", "ops"]]
    )
    webhook: Annotated[str, AfterValidator(_webhook)] | None = Field(
        default=None, examples=["https://chat.example.com/hooks/abc"]
    )
    secret_file: AbsolutePath | None = Field(default=None, examples=["/etc/artifactd/webhook.key"])
    on: Annotated[tuple[Topic, ...], AfterValidator(_something)] = ("failure", "paused", "lag", "disk", "watch")
    lag: Period = 3600.0
    disk: Size = 2**30
    every: Period = 900.0

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.command or self.webhook)
