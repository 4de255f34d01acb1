"""One client of an SDK for all runs of a process, made anew when the credentials on disk change.

An SDK reads files with keys once and keeps what they said: without this, a key that was rotated is used until the
process ends. What it can renew by itself (roles, tokens with an end) it does renew.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from artifactd.tracking.refusals import UnusableError


class Shared:
    """A client, and whether it is still the right one.

    Args:
        prefixes: Names of variables that it depends on begin so.
        files: Paths of the files that it reads, by the environment.
    """

    def __init__(self, prefixes: tuple[str, ...], files: Callable[[Mapping[str, str]], Iterable[str]]) -> None:
        self._prefixes = tuple(map(os.fsencode, prefixes))
        self._files = files
        self._made: dict[str, Any] = {}
        self._for: object = None
        self._lock = threading.RLock()

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The client for `key`, by `make` if there is none for the environment and the files as they are now.

        Raises:
            ImportError: The SDK is not installed.
            UnusableError: What the environment says is no way to name oneself.
        """
        with self._lock:
            now = self._traces()
            if now != self._for:
                self.forget()
                self._for = now
            if key not in self._made:
                try:
                    self._made[key] = make()
                except ImportError:
                    raise
                except Exception as exc:
                    raise UnusableError(str(exc)) from exc
            return self._made[key]

    def forget(self) -> None:
        """Make the next one anew."""
        with self._lock:
            for client in self._made.values():
                client.close()
            self._made.clear()

    def _traces(self) -> object:
        # Asked for each request, and to decode the whole environment takes longer than to sign it.
        variables = {name: value for name, value in os.environb.items() if name.startswith(self._prefixes)}
        return variables, [_trace(os.path.expanduser(path)) for path in self._files(os.environ)]


def _trace(path: str) -> tuple[str, int, int, int] | None:
    try:
        st = os.stat(path)
    except OSError:
        return None
    return path, st.st_mtime_ns, st.st_size, st.st_ino
