"""What somebody asks over HTTP and what is answered, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

CLOSED = "default-src 'none'"
"""What a browser may do with an answer that is no page: nothing."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let in.

    Attributes:
        accept: Its Accept header.
        query: What follows the question mark, the last value of each name.
    """

    accept: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets.

    Attributes:
        status: Of HTTP.
        kind: The content's type.
        content: As it is sent.
        policy: The Content-Security-Policy.
    """

    status: int
    kind: str
    content: bytes
    policy: str = CLOSED


Page = Callable[[Asked], Answer]
"""Makes an answer; called in the listener's thread."""


def plain(status: HTTPStatus, text: str) -> Answer:
    """An answer in a line of words."""
    return Answer(status, "text/plain; charset=utf-8", text.encode() + b"\n")
