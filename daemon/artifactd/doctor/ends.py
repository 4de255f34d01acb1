"""Until when credentials last, as far as it stands in themselves. Nothing is verified, and nobody is asked."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from urllib.parse import parse_qs

from artifactd.doctor import words
from artifactd.doctor.finding import Finding, notice, ok, wrong

EARLY = 86_400.0
"""Seconds before the end of a token at which it is time to think of the next."""
EARLY_CERTIFICATE = 14 * EARLY


def of_jwt(token: str) -> float | None:
    """The ``exp`` of a JSON Web Token (RFC 7519), in unix seconds; None for a token of another kind, or without end."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = float(claims["exp"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return end if math.isfinite(end) else None


def of_sas(connection_string: str) -> float | None:
    """The ``se`` of the signature in an Azure connection string, in unix seconds; None where it names none."""
    for part in connection_string.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "sharedaccesssignature":
            return of_text(parse_qs(value.lstrip("?")).get("se", [""])[0])
    return None


def of_text(text: str) -> float | None:
    """A moment as people and tools write it, in unix seconds; without a zone it is UTC. None for anything else."""
    text = text.strip().removesuffix("UTC")
    if text.isdecimal() and len(text) > len("20260131"):
        return float(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def lasting(what: str, source: str, end: float | None, now: float, *, cure: str, early: float = EARLY) -> Finding:
    """A finding about credentials that end.

    Args:
        what: What is looked at.
        source: What they are and where they come from.
        end: Until when they last, unix seconds; None where that is not to be seen.
        now: Unix seconds.
        cure: How to get new ones.
        early: Seconds before the end at which it is worth knowing.
    """
    if end is None:
        return ok(what, f"{source}; until when it lasts does not stand there")
    if end <= now:
        return wrong(what, f"{source} ended {words.length(now - end)} ago ({words.moment(end)})", cure)
    detail = f"{source} lasts for {words.length(end - now)} ({words.moment(end)})"
    return notice(what, detail, cure) if end - now < early else ok(what, detail)
