"""One artifactd for one folder: a claim that writes nothing into it and goes with the process that holds it.

A socket in the abstract namespace (unix(7)), named after the folder's device and inode: the kernel lets one process
have the name, and takes it back however that process ends. A lock on the folder itself would do, too, but a job that
locks it (``flock DIR …``) would then wait for ever. It reaches as far as the network namespace: a container with one of
its own has another host name, and so runs of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import socket
import struct

from artifactd.text import printable

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid."""

_SILENT = "it does not say who it is"


class TakenError(Exception):
    """Another process has the folder; the text names it."""


class Claim:
    """A folder that is this process's until ``release`` or its end.

    Args:
        device: ``st_dev``.
        inode: ``st_ino``.

    Raises:
        TakenError: Another process has it.
    """

    def __init__(self, device: int, inode: int) -> None:
        name = _name(device, inode)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(name)
            self._socket.listen()  # whoever finds it taken asks it who we are
        except OSError as exc:
            self._socket.close()
            if exc.errno != errno.EADDRINUSE:
                raise
            raise TakenError(f"another artifactd watches it: {_holder(name)}") from exc

    def release(self) -> None:
        """Let go."""
        self._socket.close()


def claimed_by(device: int, inode: int) -> str | None:
    """Who has a folder now, in words; None for nobody. It is asked, and nothing is taken.

    Args:
        device: ``st_dev``.
        inode: ``st_ino``.
    """
    try:
        return _asked(_name(device, inode))
    except ConnectionRefusedError:
        return None
    except OSError:
        return _SILENT


def _name(device: int, inode: int) -> str:
    return f"\0artifactd/{device:x}:{inode:x}"


def _holder(name: str) -> str:
    try:
        return _asked(name)
    except OSError:
        return _SILENT


def _asked(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1.0)
        line.connect(name)
        pid, uid, _ = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    user = str(uid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid).pw_name
    command = "a process that cannot be looked at"
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
        command = printable(b" ".join(os.path.basename(part) for part in stream.read().split(b"\0")[:4] if part))
    return f"pid {pid} of user {user} ({command})"
