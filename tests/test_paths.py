from __future__ import annotations

import pytest

from artifactd.paths import join, within


@pytest.mark.parametrize(
    ("folder", "name", "path"),
    [(b"", b"a", b"a"), (b"a", b"", b"a"), (b"a", b"b", b"a/b"), (b"/", b"a", b"/a"), (b"", b"", b"")],
)
def test_join(folder: bytes, name: bytes, path: bytes) -> None:
    assert join(folder, name) == path


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        (b"a", b"a", True), (b"a/b", b"a", True), (b"ab", b"a", False), (b"a", b"a/b", False), (b"x", b"", True),
        (b"/x", b"/", True), (b"/a/b", b"/a/", True), (b"a!", b"a", False),
    ],
)  # fmt: skip
def test_within(path: bytes, folder: bytes, inside: bool) -> None:
    assert within(path, folder) is inside
