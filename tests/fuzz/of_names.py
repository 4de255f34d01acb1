"""Names: what a filesystem gives arrives within its run, and what a store lists comes back within the folder."""

from __future__ import annotations

import json
import os
import posixpath
import re

from artifactd.globs import as_text
from artifactd.layout import Destination, Layout, Route
from artifactd.names import (
    MAX_COMPONENT_BYTES,
    MAX_TEXT_CHARACTERS,
    OWN_FOLDER,
    decode_path,
    encode_path,
    encode_text,
    versioned,
)
from artifactd.wayback.pull import RefusedError, own_path
from fuzz.engine import Target

_EXAMPLES = [
    b"model.pkl", b"plots/loss#1.png", b"a/b/c/d.txt", b"artifactd/manifest.json", b".artifact.uploading.x", b"s3:x/y",
    b"plots/plots", b"a b /c;", b" lead/trail ", b"_x23_/x_", b"caf\xc3\xa9/\xff\xfe", b"n" * 255,
    b"m" * 240 + b"%" * 15,
    ("é" * 127).encode(), b"a%2e%2e/%2fetc", b"C:\\x", b"...", b"e/r/.artifactd-run", b"p/e/r/sub/x_v2.tar.gz",
    b"\xe2\x80\xa8", b"\xef\xbf\xbf", b"x_x2E_", b"_x_", b"a_x_/b", b"tab\there", b"new\nline",
]  # fmt: skip
_WORDS = [
    b"/", b"..", b".", b"_x_", b"_x23_", b"_x61_rtifactd", b"artifactd", b":", b";", b" ", b"\\", b"%2e", b"%2F", b"#",
    b"?",
    b"x_", b"x~", b".artifact.uploading.", b"http://h/", b"\xc2\x85", b"\x7f", b"\xed\xb0\x80", b"\0", b"e/r/",
    b"A" * 250,
]  # fmt: skip

_UNCARRIED = re.compile(r"[#?%\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")


def _is_within(path: str) -> bool:
    """Whether an artifact path stays in its run however a server resolves it."""
    parts = path.split("/")
    return (
        bool(path)
        and not {"", ".", ".."} & set(parts)
        and posixpath.normpath(path) == path
        and not path.startswith(f"{OWN_FOLDER}/")
        and path != OWN_FOLDER
        and all(len(p.encode()) <= MAX_COMPONENT_BYTES for p in parts)
        and _UNCARRIED.search(path) is None
        and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path)
    )


def _rel(data: bytes) -> bytes:
    """A path as a walk gives it."""
    parts = [p[:255] for p in data.replace(b"\0", b"").split(b"/")]
    return b"/".join(p for p in parts if p not in (b"", b".", b".."))


def _names(data: bytes) -> None:
    if not (rel := _rel(data)):
        return
    path = encode_path(rel)
    assert _is_within(path), path
    assert decode_path(path) == rel
    assert own_path(path) == rel
    folder, _, leaf = path.rpartition("/")
    assert _is_within(f"{folder or 'f'}/{versioned(leaf, 2)}") or len(leaf.encode()) > 250
    text = encode_text(rel)
    assert 0 < len(text) <= MAX_TEXT_CHARACTERS
    json.dumps(text).encode()
    text.encode()


def _listed(data: bytes) -> None:
    """A store lists what it likes: it comes back below the destination, or not at all."""
    name = data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace") if _decodes(data) else "x"
    try:
        path = own_path(name)
    except RefusedError:
        return
    there = os.path.normpath(os.path.join(b"/dest", path))
    assert there.startswith(b"/dest/"), path
    assert there == b"/dest/" + path, path
    assert b"\0" not in path


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return b"\xed" not in data
    return True


def _layout(template: str, *routes: Route, **constants: str) -> Layout:
    return Layout(
        template, constants=constants, include=["**"], exclude=["**/*.tmp", "secret/"], live=["**/*.log"], routes=routes
    )  # fmt: skip


_LAYOUTS = [
    _layout("{experiment}/{run}"),
    _layout(".", experiment="e", run="r"),
    _layout("projects/{experiment}/{team}/{run}"),
    _layout("{experiment}/{parent}/{run}"),
    _layout(
        "{experiment}/{run}",
        Route("*.png", "plots", "artifact"),
        Route("model_v{version}/**", None, "model"),
        Route("m/*.csv", ".", "metrics"),
    ),
]


def _placed(data: bytes) -> None:
    layout = _LAYOUTS[data[0] % len(_LAYOUTS)] if data else _LAYOUTS[0]
    rel = b"/".join(part[:255] for part in data[1:].split(b"/"))  # no filesystem has longer names
    found = layout.place(rel)
    layout.excluded_folder(rel)
    layout.is_live(rel)
    layout.checkpoint(rel)
    as_text(rel)
    folder = layout.run_folder(rel)
    if not isinstance(found, Destination):
        assert found.rule
        return
    assert _is_within(found.artifact_path), found
    assert rel.startswith(found.folder)
    assert folder is not None
    assert found.parent is None or found.folder.startswith(found.parent)
    for text in (found.experiment, found.run, *(value for _, value in found.names)):
        assert len(text) <= MAX_TEXT_CHARACTERS
        text.encode()


TARGETS = (
    Target("names", _names, _EXAMPLES, _WORDS, share=250_000),
    Target("listed names", _listed, [*_EXAMPLES, b"../../etc/passwd", b"a/../../b", b"/etc/x", b"a//b"], _WORDS,
    share=150_000),
    Target("layout", _placed, [bytes([n]) + e for e in (*_EXAMPLES, b"e/r/f", b"projects/e/t/r/m/x.csv",
    b"e/p/r/model_v3/MLmodel")
           for n in range(len(_LAYOUTS))], _WORDS, share=150_000),
)  # fmt: skip
