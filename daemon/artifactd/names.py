"""Names that MLflow or a store cannot carry, written so that they can, and back.

One byte becomes ``_xHH_`` (HH: upper-case hex). What is escaped was found in MLflow's own code and is proved
against a running server by the tests:

* ``# ? %`` and control characters: the proxy's URLs are not quoted, and the server decodes them repeatedly
  (``mlflow.utils.uri._decode``), so ``loss#1.png`` and ``loss#2.png`` would overwrite each other.
* A backslash: an object store or the server makes a folder of it.
* A byte that is not UTF-8: JSON and URLs replace it. U+FFFE and U+FFFF: no XML listing can hold them.
* A space at either end and a closing ``;``: lost in ``urllib.parse``.
* ``Word:`` at the start: taken for a URI scheme and lower-cased, given slashes, or refused together with the
  whole listing it stands in.
* ``.artifact.uploading.`` at the start: MLflow's temporary files, refused and never listed.

At a run's top, ``artifactd`` is our own folder, which the manifest lies in: a file or folder of that name is written as
``_x61_rtifactd``.

Two further things need a folder level of their own. A component that ends in ``_x_`` says 'the name goes on in
the next component': so a name that has grown over 255 bytes is cut into several. And a file named like its
folder gets ``_x_`` between the two: MLflow's listing (``HttpArtifactRepository.list_artifacts``) takes such a
folder for the file and shows nothing when the file is alone in it.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache

MAX_COMPONENT_BYTES = 255
"""Longest file name in bytes that Linux filesystems, and so a local artifact root, can hold (NAME_MAX)."""

MAX_TEXT_CHARACTERS = 250
"""Longest run name in characters that MLflow's database schema holds (``runs.name``; experiments: 256)."""

OWN_FOLDER = "artifactd"
"""The folder at a run's top that no file of the user's gets into."""
RUN_NOTE = b".artifactd-run"
"""The file in a run folder that ``pull --tree`` leaves: which run it is. Never delivered."""
_NOT_OURS = "_x61_rtifactd"

_CONTINUES = "_x_"
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\udc80-\udcff"

# The underscore of a literal 'x_' at the end goes too: after another one, it would read as the marker.
_UNSAFE = re.compile(
    r"\A\.(?=artifact\.uploading\.|\.?\Z)"
    r"|\A(?P<scheme>[A-Za-z0-9+.-]*[A-Za-z][A-Za-z0-9+.-]*):"
    r"|\A\ |[ ;]\Z"
    r"|_(?=x[0-9A-F]{2})|(?<=x)_\Z"
    rf"|[#?%\\{_CONTROL}]"
)
_UNSAFE_TEXT = re.compile(rf"[{_CONTROL}]|_(?=x[0-9A-F]{{2}})|(?<=x)~")
_ESCAPE = re.compile(rb"_x([0-9A-F]{2})_")

# Most names; one that is not among them may still need no escape.
_PLAIN = re.compile(rb"[A-Za-z0-9-](?:[A-Za-z0-9.=,+@-]|(?<!x)_(?!x))*")


def encode_component(name: bytes) -> str:
    """Encode one file or folder name.

    Args:
        name: The name as the filesystem gives it, without ``/`` and NUL.

    Returns:
        Text that MLflow and every store carry unchanged: one component of at most 255 UTF-8 bytes, or several
        joined by ``/`` of which all but the last end in ``_x_``. Different names give different text.
    """
    if len(name) <= MAX_COMPONENT_BYTES and _PLAIN.fullmatch(name):
        return name.decode("ascii")
    return "/".join(_pieces(name.decode("utf-8", "surrogateescape")))


def encode_path(rel: bytes) -> str:
    """Encode a file's path within its run.

    Args:
        rel: Names joined by ``/``, without empty ones, ``.`` and ``..``.

    Returns:
        The artifact path with the file's name, components joined by ``/``; ``decode_path`` undoes it.
    """
    folder, _, name = rel.rpartition(b"/")
    return join_path(encode_folder(folder), name)


@lru_cache(maxsize=4096)
def encode_folder(folder: bytes) -> str:
    """Encode a folder's path within its run.

    Args:
        folder: Names joined by ``/``; empty for the run's root.

    Returns:
        The artifact folder, components joined by ``/``.
    """
    top, *below = map(encode_component, folder.split(b"/"))
    return "/".join([_NOT_OURS if top == OWN_FOLDER else top, *below])


def join_path(folder: str, name: bytes) -> str:
    """Put a file into an artifact folder.

    Args:
        folder: The folder's artifact path, already encoded; empty for the run's root.
        name: The file's own name as the filesystem gives it.

    Returns:
        The artifact path with the file's name.
    """
    encoded = encode_component(name)
    if not folder:
        return _NOT_OURS if encoded == OWN_FOLDER else encoded
    if encoded == folder.rpartition("/")[2]:
        return f"{folder}/{_CONTINUES}/{encoded}"
    return f"{folder}/{encoded}"


def decode_path(path: str) -> bytes:
    """Undo ``encode_path``.

    Args:
        path: An artifact path, e.g. as a store lists it.

    Returns:
        The path on disk, relative to the run folder. Text without escapes comes back as its UTF-8 bytes.
    """
    *folders, last = path.split("/")
    # Each by itself: the end of one piece and the start of the next may read like an escape.
    start = [
        _decode(folder.removesuffix(_CONTINUES)) + (b"" if folder.endswith(_CONTINUES) else b"/") for folder in folders
    ]
    return b"".join(start) + _decode(last)


def encode_text(name: bytes, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """Encode a folder's name or path for MLflow's texts: experiment names, run names, tag values.

    Such texts travel in JSON, so only control characters, bytes that are not UTF-8 and what looks like an escape are
    escaped. What is then too long is cut, and closes with a digest of it all.

    Args:
        name: The name as the filesystem gives it.
        limit: Most characters the text may have, 40 at least.

    Returns:
        The text. Different names give different text.
    """
    encoded = _UNSAFE_TEXT.sub(_escape, name.decode("utf-8", "surrogateescape"))
    if len(encoded) <= limit:
        return encoded
    # A '~' after 'x' is escaped, so no name that merely reads like a cut one can be taken for it.
    ending = "_x~" + hashlib.sha256(name).hexdigest()[:32]
    return encoded[: limit - len(ending)] + ending


def _pieces(text: str) -> Iterator[str]:
    """Cut between characters so that each piece, encoded on its own, fits and is safe on its own."""
    room = MAX_COMPONENT_BYTES - len(_CONTINUES)
    while _size(encoded := _encode(text)) > MAX_COMPONENT_BYTES:
        end = bisect.bisect_right(range(len(text)), room, key=lambda end: _size(_encode(text[:end]))) - 1
        yield _encode(text[:end]) + _CONTINUES
        text = text[end:]
    yield encoded


def _encode(text: str) -> str:
    return _UNSAFE.sub(_escape, text)


def _size(text: str) -> int:
    return len(text.encode())


def _escape(match: re.Match[str]) -> str:
    literal = match.groupdict().get("scheme") or ""
    escaped = match[0][len(literal) :].encode("utf-8", "surrogateescape")
    return literal + "".join(f"_x{byte:02X}_" for byte in escaped)


def _decode(text: str) -> bytes:
    return _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), _raw(text))


def _raw(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A store may list a lone surrogate, which stands for no byte: never ours, but no reason to fail.
        return text.encode("utf-8", "surrogatepass")


def versioned(leaf: str, number: int) -> str:
    """The name of a later version: ``model.pkl``, ``model_v2.pkl``; all of ``.tar.gz`` stays at the end.

    Args:
        leaf: The artifact's own name, encoded.
        number: 2 and on.
    """
    stem, dot, suffix = leaf.rpartition(".")
    if not stem:
        return f"{leaf}_v{number}"
    if stem.endswith(".tar") and len(stem) > len(".tar"):
        stem, suffix = stem.removesuffix(".tar"), f"tar.{suffix}"
    return f"{stem}_v{number}{dot}{suffix}"
