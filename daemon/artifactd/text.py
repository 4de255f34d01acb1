"""Names and paths as people may safely see them."""

from __future__ import annotations

import os


def printable(path: bytes) -> str:
    r"""A path for a terminal, a table or a log: what could steer a terminal, or is no text, is written as ``\xHH``.

    Args:
        path: As the filesystem gives it.

    Returns:
        Text without control characters, line breaks, direction marks or lone surrogates.
    """
    text = os.fsdecode(path)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in text)


def visible(text: str) -> str:
    r"""Any text, as a server may say it, with what could steer a terminal shown as ``\xHH``; its lines stay."""
    return "\n".join(printable(line.encode("utf-8", "surrogatepass")) for line in text.split("\n"))
