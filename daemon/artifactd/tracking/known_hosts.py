"""Known hosts as OpenSSH means them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT); pure.

paramiko's own reader knows neither patterns nor markers (a ``@revoked`` line makes it fail), and looks for the very
spelling alone that it was given.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One key in a known-hosts file.

    Attributes:
        file: Where it stands, and `number`, in which line.
        marker: ``@revoked``, ``@cert-authority`` or empty.
        patterns: The hosts that it is for.
        type: Such as ``ssh-ed25519``.
        blob: The public key as it goes over the wire.
    """

    file: str
    number: int
    marker: str
    patterns: tuple[str, ...]
    type: str
    blob: bytes


class Verdict(enum.Enum):
    """What is known of a key that a server offers."""

    KNOWN = enum.auto()
    UNKNOWN = enum.auto()
    CHANGED = enum.auto()
    """Another key is known for this host."""
    REVOKED = enum.auto()


def read(files: Iterable[str]) -> list[Line]:
    """The lines of all files that are there and can be read, in order."""
    lines: list[Line] = []
    for file in files:
        with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as stream:
            lines += parse(stream.read(), file)
    return lines


def parse(text: str, file: str = "") -> list[Line]:
    """The keys in a known-hosts file's text; lines that are none are passed over, as OpenSSH does."""
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3:
            continue
        hosts, kind, key = fields[:3]
        with contextlib.suppress(ValueError):  # no base64, or no ASCII
            blob = base64.b64decode(key, validate=True)
            lines.append(Line(file, number, marker, tuple(hosts.split(",")), kind, blob))
    return lines


def names(host: str, port: int, alias: str | None = None) -> tuple[str, ...]:
    """Under which names a server may be known, the best first.

    Args:
        host: As it is connected to.
        port: TCP port; one other than 22 makes ``[host]:port``, with the bare host as second choice.
        alias: ``HostKeyAlias``, which stands for all of it.
    """
    if alias:
        return (alias.lower(),)
    host = host.lower()
    return (host,) if port == 22 else (f"[{host}]:{port}", host)


def judge(lines: Sequence[Line], names: Sequence[str], blob: bytes) -> tuple[Verdict, Line | None]:
    """Is this the key of that host?

    Args:
        lines: What is known.
        names: From ``names``.
        blob: The key that the server offers.

    Returns:
        The verdict, and the line that it rests on.
    """
    for name in names:
        own = [line for line in lines if matches(line.patterns, name)]
        for line in own:
            if line.marker == "@revoked" and line.blob == blob:
                return Verdict.REVOKED, line
        plain = [line for line in own if not line.marker]
        for line in plain:
            if line.blob == blob:
                return Verdict.KNOWN, line
        if plain:
            return Verdict.CHANGED, plain[0]
    return Verdict.UNKNOWN, None


def types(lines: Sequence[Line], names: Sequence[str]) -> tuple[str, ...]:
    """Of which types keys are known for the host: the server is to be asked for one of these."""
    for name in names:
        found = [line.type for line in lines if not line.marker and matches(line.patterns, name)]
        if found:
            return tuple(dict.fromkeys(found))
    return ()


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a line is for that host: plain, hashed (``|1|salt|hash``), ``*`` and ``?``, ``!`` in front excludes."""
    found = False
    for pattern in patterns:
        if pattern.startswith("|1|"):
            found = found or _is_hash_of(pattern, name)
        elif pattern.startswith("!"):
            if _like(pattern[1:], name):
                return False
        else:
            found = found or _like(pattern, name)
    return found


def _like(pattern: str, name: str) -> bool:
    # Not fnmatch: the brackets of [host]:port are brackets.
    regex = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, name) is not None


def _is_hash_of(pattern: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in pattern.removeprefix("|1|").split("|"))
    except (binascii.Error, ValueError):
        return False
    # OpenSSH's format; nothing rests on SHA-1 but that a listing hides the names.
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def fingerprint(blob: bytes) -> str:
    """As ``ssh-keygen -l`` shows it: ``SHA256:…``."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
