"""What stands at one path now, whatever was known of it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from artifactd.watching.inside import Escapes, open_root, pass_to, rule_of
from artifactd.watching.signature import Signature


@dataclass(frozen=True, slots=True)
class OnDisk:
    """What stands at a path: a file with its signature, a folder, something else by its rule, or nothing."""

    signature: Signature | None = None
    folder: bool = False
    other: str = ""
    unreadable: str = ""


def look_at(root: bytes, rel: bytes) -> OnDisk:
    """What stands at a path, without following a link below the root."""
    try:
        root_fd = open_root(root)
    except OSError:
        return OnDisk()
    try:
        folder, _, name = rel.rpartition(b"/")
        fd = pass_to(root_fd, folder)
        try:
            st = os.stat(name or b".", dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
    except Escapes as exc:
        return OnDisk(other=exc.rule)
    except (FileNotFoundError, NotADirectoryError):
        return OnDisk()
    except OSError as exc:
        return OnDisk(unreadable=exc.strerror or str(exc))
    finally:
        os.close(root_fd)
    if stat.S_ISDIR(st.st_mode):
        return OnDisk(folder=True)
    rule = rule_of(st.st_mode)
    return OnDisk(Signature.of(st)) if rule is None else OnDisk(other=rule)
