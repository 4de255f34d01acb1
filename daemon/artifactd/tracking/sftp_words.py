"""What a refusal of an SFTP server means for delivery, in words."""

from __future__ import annotations

from artifactd.errors import Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.text import printable
from artifactd.tracking.sftp_packets import Code, Space, StatusError

_LITTLE = 2**20
"""Bytes: who has less has none."""


def refusal(store: str, user: str, exc: StatusError, doing: str, folder: bytes, space: Space | None) -> Failure:
    """Class a refusal. OpenSSH says FAILURE to whatever the protocol has no number for, a full disk among it.

    Args:
        store: The store's URL, masked.
        user: Whom the server knows us as.
        exc: What it said.
        doing: What was tried, as in ``does not let USER (doing) FOLDER``.
        folder: Where.
        space: The room that is left there, if it is known.
    """
    where, said = printable(folder), mask(" ".join(exc.text.split()))[:200] or f"SFTP status {exc.code}"

    def fail(kind: Kind, scope: Scope, what: str, cure: str) -> Failure:
        return Failure(kind, scope, f"{store} {what}", cure)

    if exc.code == Code.PERMISSION_DENIED:
        return fail(
            Kind.PAUSED, Scope.RUN, f"does not let {user} {doing} {where}: {said}",
            f"Give {user} the right to it on the server (chown, chmod; no read-only SFTP there); "
            "it is tried again by itself",
        )  # fmt: skip
    if exc.code == Code.BAD_MESSAGE:
        return fail(
            Kind.PERMANENT, Scope.FILE, f"cannot hold this name in {where}: it is too long or not allowed there",
            "Shorten the name of the file or its folders",
        )  # fmt: skip
    if exc.code != Code.FAILURE or space is None:
        return fail(
            Kind.TRANSIENT, Scope.FILE, f"fails to {doing} {where} ({said})",
            f"See the space and the quota of {user} there, and the server's log; it is tried again by itself",
        )  # fmt: skip
    if space.read_only:
        return fail(
            Kind.PAUSED, Scope.RUN, f"is on a read-only filesystem ({where})", "Mount it writable on the server"
        )
    if space.free < _LITTLE or space.names == 0:
        left = "no space" if space.free < _LITTLE else "no file names (inodes)"
        return fail(
            Kind.TRANSIENT, Scope.RUN, f"has {left} left in {where}", "Free space there; it is tried again by itself"
        )
    return fail(
        Kind.TRANSIENT, Scope.FILE, f"fails to {doing} {where} ({said}); {space.free >> 20} MiB are free there",
        f"See the quota of {user} and the server's log; it is tried again by itself",
    )  # fmt: skip
