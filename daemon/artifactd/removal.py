"""Delivered files that may go from a watched folder, and their going (``after_upload = "delete"``)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from artifactd import log
from artifactd.paths import join
from artifactd.runfolder import CONTROL
from artifactd.text import printable
from artifactd.watching.remove import put_back, remove_unchanged
from artifactd.watching.signature import Signature


class Removal:
    """What looks found on disk exactly as it is stored, in one root.

    Args:
        path: The root, absolute.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._files: list[tuple[bytes, Signature]] = []
        self._aside: list[bytes] = []
        self._refused = False
        self._log = log.get().bind(watch=printable(path))

    def __len__(self) -> int:
        return len(self._files) + len(self._aside)

    def note(self, files: Iterable[tuple[bytes, Signature]]) -> None:
        """These (path relative to the root) are on disk as they are stored."""
        self._files += [(rel, sig) for rel, sig in files if os.path.basename(rel) not in CONTROL]

    def note_aside(self, files: Iterable[bytes]) -> None:
        """These (paths as they are found) were left in the middle of their removal by a crash."""
        self._aside += files

    def carry_out(self, root_fd: int, *, leases: bool) -> None:
        """Remove what was noted and is still so; only once the receipts are durable.

        Args:
            root_fd: From ``inside.open_root``.
            leases: Whether leases mean something on this filesystem.
        """
        aside, self._aside = self._aside, []
        for rel in aside:
            with contextlib.suppress(OSError):  # the next scan finds it again
                put_back(root_fd, rel)
        files, self._files = self._files, []
        for rel, signature in files:
            try:
                if remove_unchanged(root_fd, rel, signature, leases=leases):
                    self._log.info("removed", path=printable(join(self._path, rel)))
            except OSError as exc:
                if not self._refused:
                    self._refused = True
                    self._log.error(
                        "a delivered file may not be removed",
                        path=printable(join(self._path, rel)),
                        reason=exc.strerror,
                        next_step="Give the service write access to the folder (the unit has it read-only by default)",
                    )  # fmt: skip
                return
