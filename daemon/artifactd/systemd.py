"""Tells systemd how the service is: ready, reloading, stopping, alive, and one line of status.

The protocol is sd_notify(3): datagrams of ``KEY=value`` lines to the socket that $NOTIFY_SOCKET names. It is stable
and small enough to need no library. Without the variable, or with systemd away, nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from artifactd.secrets import mask

_TIMEOUT = 1.0
"""Seconds to wait for a systemd that does not read; what is lost is told again by the next message of its kind."""

_STATUS_LIMIT = 512
"""Characters. systemd drops a datagram of more than 4,096 bytes as a whole (NOTIFY_BUFFER_MAX)."""


class Notifier:
    """The service's line to its manager; its methods never raise.

    Args:
        env: Holds NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID where systemd started the process. Read once.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self._watchdog = (env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", ""))
        self._status: str | None = None

    def ready(self) -> None:
        """Say that the start, or a reload, is done."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show one line for people in ``systemctl status``; the same line again is not sent again.

        Args:
            text: A short sentence; secrets are masked, and what is too long or not printable is taken out.
        """
        line = one_line(text)
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    def watchdog(self) -> None:
        """Say that the service is alive; at least every ``watchdog_interval`` from the loop that does the work."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service has begun to stop."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Say that a reload has begun; ``ready`` ends it, whether the new configuration was taken or not."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two ``watchdog`` calls: half of what systemd allows (sd_watchdog_enabled(3)), or None."""
        usec, pid = self._watchdog
        if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
            return None
        return int(usec) / 2 / 1_000_000

    def _send(self, message: str) -> bool:
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(_TIMEOUT)
                line.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True


def one_line(text: str) -> str:
    """A status line as systemd shows it: secrets masked, of one line, and not too long."""
    line = " ".join(mask(text).split())
    return "".join(char if char.isprintable() else "?" for char in line)[:_STATUS_LIMIT]


def _address(name: str) -> str:
    """Translate $NOTIFY_SOCKET: an absolute path, or ``@`` for the abstract namespace (a leading NUL, unix(7))."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""
