"""What a refusal of an SFTP server means: by its number, and by the room that is left."""

from __future__ import annotations

import pytest

from artifactd.errors import Kind, Scope
from artifactd.tracking.sftp_packets import Code, Space, StatusError
from artifactd.tracking.sftp_words import refusal

ROOM = Space(free=2**40, names=10**6, read_only=False)


@pytest.mark.parametrize(
    ("code", "space", "kind", "scope", "says"),
    [
        (Code.PERMISSION_DENIED, ROOM, Kind.PAUSED, Scope.RUN, "does not let ada write into /srv/a"),
        (Code.BAD_MESSAGE, ROOM, Kind.PERMANENT, Scope.FILE, "cannot hold this name"),
        (Code.FAILURE, None, Kind.TRANSIENT, Scope.FILE, "fails to write into /srv/a"),
        (Code.FAILURE, ROOM, Kind.TRANSIENT, Scope.FILE, "1048576 MiB are free there"),
        (Code.FAILURE, Space(0, 9, False), Kind.TRANSIENT, Scope.RUN, "no space left"),
        (Code.FAILURE, Space(2**40, 0, False), Kind.TRANSIENT, Scope.RUN, "no file names (inodes) left"),
        (Code.FAILURE, Space(0, 0, True), Kind.PAUSED, Scope.RUN, "read-only filesystem"),
        (99, ROOM, Kind.TRANSIENT, Scope.FILE, "fails to write into"),
    ],
)
def test_each_has_its_class_and_a_next_step(
    code: int, space: Space | None, kind: Kind, scope: Scope, says: str
) -> None:
    failure = refusal("sftp://store", "ada", StatusError(code, "Failure"), "write into", b"/srv/a", space)
    assert (failure.kind, failure.scope) == (kind, scope)
    assert says in failure.error
    assert failure.error.startswith("sftp://store ")
    assert failure.cure


def test_what_the_server_says_is_shown_on_one_short_line_without_secrets() -> None:
    text = "quota of\n sftp://ada:hunter2@store/x\r\n" + "x" * 1000
    failure = refusal("sftp://store", "ada", StatusError(Code.FAILURE, text), "write into", b"/a\n\xff", None)
    assert "hunter2" not in failure.error
    assert "\n" not in failure.error
    assert len(failure.error) < 400
