"""The manifest: what a run's artifacts are, as one JSON document among them.

Pure: text to data and back. docs/manifest.md says what each key means, docs/manifest.schema.json how it looks. What is
read may come from anybody who may write into the store, so nothing of it is taken that leads out of a folder.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from artifactd.names import OWN_FOLDER, encode_component

VERSION = 1
"""Of the document; a reader refuses a later one."""
NAME = "manifest.json"
PATH = f"{OWN_FOLDER}/{NAME}"
LARGEST = 2**30
"""Bytes of a manifest that is read; a run of a million files has a third of that."""

_LEAF = re.compile(r"manifest(?:\..+)?\.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"[0-7]{4}")
_MODE_BITS = 0o777
"""No bit that gives a program its owner's rights is written down, or taken from a store."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManifestError(ValueError):
    """A manifest that cannot be used; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Version:
    """One content that a file had, where versions are kept: its number from 1 on, and an artifact of its own.

    `stored_at` is unix seconds, `digest` SHA-256, `size` bytes; here and below.
    """

    number: int
    artifact_path: str
    size: int
    digest: bytes
    stored_at: float


@dataclass(frozen=True, slots=True)
class File:
    """A file that is stored.

    Attributes:
        path: On disk, relative to the run folder.
        artifact_path: In the run; that of its last version where versions are kept.
        mtime_ns: Nanoseconds since 1970.
        mode: Permission bits; None where they are not known.
        tries: Until it was stored.
        gone: It was not on disk any more at the run's end, though nobody asked artifactd to remove it.
        versions: All of them, the last one too; none where no versions are kept.
    """

    path: bytes
    artifact_path: str
    size: int
    digest: bytes
    mtime_ns: int
    mode: int | None
    stored_at: float
    tries: int
    gone: bool = False
    versions: tuple[Version, ...] = ()


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on disk, relative to the run folder, which is ``b""``; those that are excluded are left out."""

    path: bytes
    mode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of several files whose marker is stored.

    Attributes:
        path: Its folder on disk, relative to the run folder.
        whole: All that it needs is stored as well.
    """

    path: bytes
    whole: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one host has stored of one run folder.

    Attributes:
        artifactd: The version of the program that wrote it.
        run: The run's name.
        host: Where the folder is.
        user: Its owner there.
        watch: The watched folder, absolute.
        folder: The run folder, relative to it.
        git_commit: That of the repository which the run folder lies in, if it does.
    """

    artifactd: str
    run_id: str
    experiment: str
    run: str
    host: str
    user: str
    watch: bytes
    folder: bytes
    git_commit: str | None
    files: tuple[File, ...]
    folders: tuple[Folder, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()

    def is_of(self, other: Manifest) -> bool:
        """Whether both are of the same folder on the same host."""
        return (self.host, self.watch, self.folder) == (other.host, other.watch, other.folder)

    def says(self, other: Manifest) -> bool:
        """Whether it says what `other` says, except when and how that was stored."""
        return self._meaning() == other._meaning()

    def covers(self, other: Manifest) -> bool:
        """Whether all that `other` has stored is stored according to this one."""
        mine = {path: (size, digest) for path, size, digest in self.artifacts()}
        return all(mine.get(path) == (size, digest) for path, size, digest in other.artifacts())

    def artifacts(self) -> Iterable[tuple[str, int, bytes]]:
        """Artifact path, size and SHA-256 of all that is stored, versions too."""
        for file in self.files:
            yield file.artifact_path, file.size, file.digest
            for v in file.versions:
                if v.artifact_path != file.artifact_path:
                    yield v.artifact_path, v.size, v.digest

    def _meaning(self) -> tuple[object, ...]:
        head = (self.run_id, self.experiment, self.run, self.host, self.user, self.watch, self.folder, self.git_commit)
        files = tuple(
            (f.path, f.artifact_path, f.size, f.digest, f.mtime_ns, f.mode, f.gone)
            + tuple((v.number, v.artifact_path, v.size, v.digest) for v in f.versions)
            for f in sorted(self.files, key=lambda f: f.path)
        )
        checkpoints = tuple(sorted((c.path, c.whole) for c in self.checkpoints))
        return *head, files, tuple(sorted((f.path, f.mode) for f in self.folders)), checkpoints


def is_manifest(artifact_path: str) -> bool:
    """Whether this artifact is a manifest, by its name."""
    folder, _, leaf = artifact_path.rpartition("/")
    return folder == OWN_FOLDER and _LEAF.fullmatch(leaf) is not None


def leaf_of(host: str, also: str = "") -> str:
    """The name of the manifest of one host among several; `also` tells apart several of that host."""
    return f"manifest.{encode_component((host + also).encode().replace(b'/', b'_'))}.json"


# -- out -------------------------------------------------------------------------------------------------------------


def write(manifest: Manifest) -> bytes:
    """The document: the same for the same manifest, in order of the paths, a line a file."""
    head = {
        "artifactd_manifest": VERSION,
        "artifactd": manifest.artifactd,
        "run_id": manifest.run_id,
        "experiment": manifest.experiment,
        "run": manifest.run,
        "host": manifest.host,
        "user": manifest.user,
        **_name("watch", manifest.watch),
        **_name("folder", manifest.folder),
        "git_commit": manifest.git_commit,
    }
    files = [_file(f) for f in sorted(manifest.files, key=lambda f: f.path)]
    folders = [
        {**_name("path", f.path), "mode": _mode(f.mode), "mtime_ns": f.mtime_ns}
        for f in sorted(manifest.folders, key=lambda f: f.path)
    ]
    lines = [f" {json.dumps(key)}: {_text(value)}," for key, value in head.items()]
    lists = [_list("files", files), _list("folders", folders)]
    if manifest.checkpoints:
        found = sorted(manifest.checkpoints, key=lambda c: c.path)
        lists.append(_list("checkpoints", [{**_name("path", c.path), "whole": c.whole} for c in found]))
    return "\n".join(["{", *lines, ",\n".join(lists), "}", ""]).encode()


def _file(file: File) -> dict[str, Any]:
    data: dict[str, Any] = {
        **_name("path", file.path),
        "artifact_path": file.artifact_path,
        "size": file.size,
        "sha256": file.digest.hex(),
        "mtime_ns": file.mtime_ns,
        "mode": None if file.mode is None else _mode(file.mode),
        "stored_at": _moment(file.stored_at),
        "tries": file.tries,
    }
    if file.gone:
        data["gone"] = True
    if file.versions:
        data["versions"] = [
            {
                "version": v.number, "artifact_path": v.artifact_path, "size": v.size, "sha256": v.digest.hex(),
                "stored_at": _moment(v.stored_at),
            }
            for v in sorted(file.versions, key=lambda v: v.number)
        ]  # fmt: skip
    return data


def _name(key: str, path: bytes) -> dict[str, str]:
    """A path as text, and where that is not all of it, its bytes too."""
    try:
        return {key: path.decode()}
    except UnicodeDecodeError:
        return {key: path.decode(errors="replace"), f"{key}_base64": base64.b64encode(path).decode()}


def _list(key: str, items: list[dict[str, Any]]) -> str:
    return f" {json.dumps(key)}: [" + ",".join(f"\n  {_text(item)}" for item in items) + ("\n ]" if items else "]")


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _mode(mode: int) -> str:
    return f"{mode & _MODE_BITS:04o}"


def _moment(at: float) -> str:
    return (_EPOCH + timedelta(seconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")


# -- in --------------------------------------------------------------------------------------------------------------


def read(text: bytes) -> Manifest:
    """Read a document; keys that are not known are passed over.

    Raises:
        ManifestError: It is none, is of a later version, or says what cannot be.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ManifestError(f"it is not JSON: {exc}") from None
    version = data.get("artifactd_manifest") if isinstance(data, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ManifestError("it is no manifest of artifactd: it has no 'artifactd_manifest'")
    if version > VERSION:
        raise ManifestError(f"a newer artifactd wrote it (version {version}, this one knows {VERSION}): upgrade")
    try:
        return Manifest(
            _str(data, "artifactd"),
            _str(data, "run_id"),
            _str(data, "experiment"),
            _str(data, "run"),
            _str(data, "host"),
            _str(data, "user"),
            _bytes(data, "watch"),
            _bytes(data, "folder"),
            data.get("git_commit"),
            tuple(_read_file(f) for f in data["files"]),
            tuple(
                Folder(_inside(_bytes(f, "path"), top=True), _read_mode(f["mode"]) or 0, _int(f, "mtime_ns"))
                for f in data.get("folders", [])
            ),
            tuple(
                Checkpoint(_inside(_bytes(c, "path"), top=True), c["whole"] is True)
                for c in data.get("checkpoints", [])
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, binascii.Error) as exc:
        raise ManifestError(f"it is damaged: {exc!r}") from None


def _read_file(data: Mapping[str, Any]) -> File:
    return File(
        _inside(_bytes(data, "path")),
        _str(data, "artifact_path"),
        _int(data, "size"),
        _read_digest(data),
        _int(data, "mtime_ns"),
        _read_mode(data.get("mode")),
        _read_moment(data),
        _int(data, "tries"),
        bool(data.get("gone", False)),
        tuple(
            Version(
                _int(v, "version"), _str(v, "artifact_path"), _int(v, "size"), _read_digest(v), _read_moment(v)
            )
            for v in data.get("versions", [])
        ),
    )  # fmt: skip


def _inside(path: bytes, *, top: bool = False) -> bytes:
    if top and not path:
        return path
    if b"\0" in path or not {b"", b".", b".."}.isdisjoint(path.split(b"/")):
        raise ValueError(f"{path!r} is no path in a folder")
    return path


def _bytes(data: Mapping[str, Any], key: str) -> bytes:
    raw = data.get(f"{key}_base64")
    return _str(data, key).encode() if raw is None else base64.b64decode(raw, validate=True)


def _str(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(value := data[key], str):
        raise TypeError(f"{key} is no text")
    value.encode()
    return value


def _int(data: Mapping[str, Any], key: str) -> int:
    if isinstance(value := data[key], bool) or not isinstance(value, int):
        raise TypeError(f"{key} is no whole number")
    return value


def _read_digest(data: Mapping[str, Any]) -> bytes:
    if not _DIGEST.fullmatch(text := _str(data, "sha256")):
        raise ValueError(f"{text!r} is no SHA-256")
    return bytes.fromhex(text)


def _read_mode(mode: object) -> int | None:
    if mode is None:
        return None
    if not isinstance(mode, str) or not _MODE.fullmatch(mode):
        raise ValueError(f"{mode!r} is no mode")
    return int(mode, 8) & _MODE_BITS


def _read_moment(data: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(_str(data, "stored_at")).timestamp()
