"""Paths as bytes, relative to a watched root: ``b""`` is the root itself."""

from __future__ import annotations


def join(folder: bytes, name: bytes) -> bytes:
    """Path of `name` in `folder`; either may be ``b""``."""
    if not folder or not name:
        return folder or name
    return folder + name if folder.endswith(b"/") else folder + b"/" + name


def within(path: bytes, folder: bytes) -> bool:
    """Whether `path` is `folder` or lies below it; everything lies below ``b""`` and ``b"/"``."""
    return path == folder or folder in (b"", b"/") or path.startswith(folder.rstrip(b"/") + b"/")
