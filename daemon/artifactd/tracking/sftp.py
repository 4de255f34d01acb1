"""Artifacts on an SFTP server: MLflow's own repository for it needs pysftp, which nobody maintains.

An artifact is written under a temporary name beside the final one, brought to the disk, and renamed over what stood
there: a reader sees the old content or the new one. The temporary name follows from the artifact's and from this
host's, so the next upload finds what a killed one left. That is removed and made anew, never written on: a server that
was slow may still be at work on what it was sent before.

MLflow loads this module by its entry point (``mlflow.artifact_repository``), artifactd by ``register``; importing it
imports MLflow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow.entities import FileInfo
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.text import printable
from artifactd.tracking import sftp_address, sftp_words
from artifactd.tracking.environment import SPOOL_RATE
from artifactd.tracking.sftp_packets import Attributes, Code, ConnectionLostError, StatusError
from artifactd.tracking.sftp_wire import POSIX_RENAME, SILENCE, Wire

if TYPE_CHECKING:
    from artifactd.tracking.ssh import Connection

_OURS = re.compile(rb"\.artifactd-[0-9a-f]{32}\.(?:part|old)")
_ABANDONED = 7 * 86400
"""Seconds after which a temporary name of another host counts as left behind."""

_LOOK_AGAIN = 10.0
"""Seconds without use after which a kept connection is tried, and the files that it rests on are looked at."""

_TRY = 5.0
"""Seconds in which a kept connection must answer, or else another one is made."""

_TAKEN = (Code.FAILURE, Code.ALREADY_EXISTS)

_kept: dict[tuple[int, sftp_address.Place], Connection] = {}
"""One connection for a server and a process: a forked one must not speak on its parent's."""

_lock = threading.RLock()


def register() -> None:
    """Have MLflow use this repository for ``sftp://`` in this process, whatever entry points are installed."""
    artifact_repository_registry._artifact_repository_registry.register("sftp", SftpArtifactRepository)


def close() -> None:
    """End this process's connections."""
    with _lock:
        for key in [key for key in _kept if key[0] == os.getpid()]:
            _kept.pop(key).close()


class SftpArtifactRepository(ArtifactRepository):  # type: ignore[misc]  # MLflow has no types
    """The artifacts below an ``sftp://`` URL.

    Args:
        artifact_uri: ``sftp://[user[:password]@]host[:port]/path``; what it leaves out, OpenSSH's configuration says.
        tracking_uri: The server that gave it.
        registry_uri: As MLflow passes it on.

    Raises:
        DeliveryError: From every method, with the failure that says whether and when to try again. A source that
            cannot be read, or a local disk that is full, raises what the system says.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        import paramiko  # noqa: F401, PLC0415  (an extra: said now, not in the middle of an upload)

        place = sftp_address.parse(artifact_uri)
        # MLflow shows the URI in its texts.
        super().__init__(mask(artifact_uri), tracking_uri, registry_uri)
        self._root = _bytes(place.path)
        self._place = sftp_address.Place(place.host, place.port, place.user, "/", place.password)
        self._store = mask(artifact_uri)
        self._uploads = False

    # -- what MLflow asks for ------------------------------------------------------------------------------------

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file, replacing what stands there in one step."""
        with self._wire() as wire:
            self._put(wire, local_file, self._path(artifact_path), _bytes(os.path.basename(local_file)))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store all files below a folder, one after the other; links to folders are not followed."""
        base = os.fspath(local_dir)
        for here, _, names in os.walk(base):
            rel = os.path.relpath(here, base)
            folder = "/".join(part for part in (artifact_path, rel if rel != "." else None) if part)
            for name in names:
                self.log_artifact(os.path.join(here, name), folder or None)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What stands directly in a folder, in order: files with their sizes in bytes, and folders.

        Links and what is neither are left out, as are temporary names of ours. A folder that does not exist, and a
        file, are an empty list.
        """
        with self._wire() as wire:
            infos = []
            for name, attributes in self._entries(wire, self._path(path)):
                text = name.decode("utf-8", "surrogateescape")
                artifact = f"{path.rstrip('/')}/{text}" if path else text
                if attributes.is_folder:
                    infos.append(FileInfo(artifact, True, None))
                elif attributes.is_file:
                    infos.append(FileInfo(artifact, False, attributes.size))
            return sorted(infos, key=lambda info: str(info.path))

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        path = self._path(remote_file_path)
        with self._wire() as wire, open(local_path, "wb") as target:
            try:
                wire.read(path, target)
            except StatusError as exc:
                if exc.code == Code.NO_SUCH_FILE:
                    raise self._fails(
                        Kind.TRANSIENT, Scope.FILE, f"has no {printable(path)} (any more)", "List it again"
                    ) from exc
                raise self._refusal(wire, exc, "read", path) from exc

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file, or a folder with all that is in it. What is not there counts as removed."""
        with self._wire() as wire:
            path = self._path(artifact_path)
            try:
                self._delete(wire, path)
            except StatusError as exc:
                raise self._refusal(wire, exc, "remove from", posixpath.dirname(path)) from exc

    # -- storing -------------------------------------------------------------------------------------------------

    def _put(self, wire: Wire, local_file: str, folder: bytes, name: bytes) -> None:
        self._uploads = True
        size = os.stat(local_file).st_size
        part, final = _join(folder, temporary(name)), _join(folder, name)
        patience = SILENCE + size / SPOOL_RATE
        with open(local_file, "rb") as source:
            try:
                handle = self._create(wire, folder, part)
            except StatusError as exc:
                raise self._refusal(wire, exc, "write into", folder) from exc
            try:
                written = wire.write(handle, source)
            except ConnectionLostError:
                raise
            except Exception as exc:
                # Asked before the part goes: it is what fills the disk.
                failure = self._refusal(wire, exc, "write into", folder) if isinstance(exc, StatusError) else None
                with contextlib.suppress(StatusError):
                    wire.close(handle)
                _remove(wire, part)
                if failure is None:
                    raise
                raise failure from exc
        try:
            found = wire.finish(handle, part, patience)
            if found.size != written:
                raise self._fails(
                    Kind.TRANSIENT, Scope.FILE, f"took {written} bytes of {printable(final)} and holds {found.size}",
                    "Another one may deliver the same artifact; it is tried again by itself",
                )  # fmt: skip
            self._rename(wire, part, final)
        except (StatusError, DeliveryError) as exc:
            failure = self._refusal(wire, exc, "write into", folder) if isinstance(exc, StatusError) else exc
            _remove(wire, part)
            raise failure from exc

    def _create(self, wire: Wire, folder: bytes, part: bytes) -> bytes:
        for _ in range(2):  # the folder may be missing, and then a leftover be in the way
            try:
                return wire.create(part)
            except StatusError as exc:
                if exc.code == Code.NO_SUCH_FILE:
                    self._make(wire, folder)
                elif exc.code in _TAKEN:
                    try:
                        wire.remove(part)
                    except StatusError:
                        raise exc from None
                else:
                    raise
        return wire.create(part)

    def _make(self, wire: Wire, folder: bytes) -> None:
        missing: list[bytes] = []
        here = folder
        while True:
            try:
                found = wire.stat(here)
            except StatusError as exc:
                if exc.code != Code.NO_SUCH_FILE or here == posixpath.dirname(here):
                    raise
                missing.append(here)
                here = posixpath.dirname(here)
            else:
                break
        if not found.is_folder:
            raise self._fails(
                Kind.PERMANENT, Scope.FILE, f"holds a file where the folder {printable(here)} should be",
                "Rename one of them; then `artifactd retry`",
            )  # fmt: skip
        for path in reversed(missing):
            try:
                wire.mkdir(path)
            except StatusError as exc:
                if exc.code in _TAKEN and wire.stat(path).is_folder:
                    continue  # another one was faster
                raise self._refusal(wire, exc, "make folders in", posixpath.dirname(path)) from exc

    def _rename(self, wire: Wire, part: bytes, final: bytes) -> None:
        if POSIX_RENAME in wire.extensions:
            try:
                wire.replace(part, final)
            except StatusError as exc:
                self._see_no_folder(wire, final)
                if exc.code != Code.OP_UNSUPPORTED:
                    raise
            else:
                return
        # The protocol's own rename, which refuses a name that is taken: for a moment nothing stands there.
        old = part.removesuffix(b".part") + b".old"
        try:
            wire.rename(part, final)
        except StatusError:
            self._see_no_folder(wire, final)
            wire.lstat(final)  # nothing stands there: that was not the reason
            _remove(wire, old)
            wire.rename(final, old)
            try:
                wire.rename(part, final)
            except StatusError:
                wire.rename(old, final)
                raise
        _remove(wire, old)

    def _see_no_folder(self, wire: Wire, final: bytes) -> None:
        try:
            found = wire.lstat(final)
        except StatusError:
            return
        if found.is_folder:
            raise self._fails(
                Kind.PERMANENT, Scope.FILE, f"holds a folder where the file {printable(final)} should be",
                "Rename one of them; then `artifactd retry`",
            )  # fmt: skip

    # -- reading and removing ------------------------------------------------------------------------------------

    def _entries(self, wire: Wire, folder: bytes) -> Iterator[tuple[bytes, Attributes]]:
        try:
            listing = wire.listing(folder)
        except StatusError as exc:
            if exc.code == Code.NO_SUCH_FILE:
                return
            raise self._refusal(wire, exc, "list", folder) from exc
        for name, attributes in listing:
            if _OURS.fullmatch(name):
                # Only who delivers there tidies up.
                if self._uploads and 0 < (attributes.mtime or 0) < time.time() - _ABANDONED:
                    _remove(wire, _join(folder, name))
            elif attributes.mode is None or attributes.size is None:
                yield name, wire.lstat(_join(folder, name))
            else:
                yield name, attributes

    def _delete(self, wire: Wire, path: bytes) -> None:
        try:
            is_folder = wire.lstat(path).is_folder
        except StatusError as exc:
            if exc.code == Code.NO_SUCH_FILE:
                return
            raise
        if not is_folder:
            wire.remove(path)
            return
        for name, attributes in wire.listing(path):
            if attributes.is_folder or attributes.mode is None:
                self._delete(wire, _join(path, name))
            else:
                wire.remove(_join(path, name))
        wire.rmdir(path)

    # -- connection ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _wire(self) -> Iterator[Wire]:
        key = (os.getpid(), self._place)
        with _lock:
            connection = self._connection()
            well = False
            try:
                yield connection.wire
                well = True
            except ConnectionLostError as exc:
                raise self._fails(
                    Kind.TRANSIENT, Scope.RUN, f"was lost in the middle: {exc}", "It is tried again by itself"
                ) from exc
            except DeliveryError as exc:
                # A server's process keeps the groups that its user had when it began: ask another one.
                well = exc.failure.kind is not Kind.PAUSED
                raise
            except Exception:  # of the source or the local disk: each answer was read
                well = True
                raise
            finally:
                connection.used_at = time.monotonic()
                if not well and _kept.get(key) is connection:
                    del _kept[key]
                    connection.close()

    def _connection(self) -> Connection:
        from artifactd.tracking.ssh import Connection  # noqa: PLC0415  (paramiko)

        key = (os.getpid(), self._place)
        kept = _kept.get(key)
        now = time.monotonic()
        if kept is not None:
            current = kept.endpoint
            if now - kept.checked_at > _LOOK_AGAIN:
                current, kept.checked_at = sftp_address.resolve(self._place), now
            if current == kept.endpoint and kept.lives(_LOOK_AGAIN, _TRY):
                return kept
            del _kept[key]
            kept.close()
        made = Connection(sftp_address.resolve(self._place))
        _kept[key] = made
        return made

    def _path(self, artifact_path: str | None) -> bytes:
        parts = [] if not artifact_path else artifact_path.strip("/").split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise self._fails(
                Kind.PERMANENT, Scope.FILE, f"cannot hold {printable(_bytes(artifact_path or ''))}: it leaves its run",
                "Rename the file or its folder",
            )  # fmt: skip
        return _join(self._root, *map(_bytes, parts))

    # -- words ---------------------------------------------------------------------------------------------------

    def _fails(self, kind: Kind, scope: Scope, what: str, cure: str) -> DeliveryError:
        return DeliveryError(Failure(kind, scope, f"{self._store} {what}", cure))

    def _refusal(self, wire: Wire, exc: StatusError, doing: str, folder: bytes) -> DeliveryError:
        asked = exc.code not in (Code.PERMISSION_DENIED, Code.BAD_MESSAGE)
        space = wire.space(folder) if asked else None
        return DeliveryError(sftp_words.refusal(self._store, self._user(), exc, doing, folder, space))

    def _user(self) -> str:
        kept = _kept.get((os.getpid(), self._place))
        return kept.endpoint.user if kept is not None else self._place.user or "the user"


def temporary(name: bytes) -> bytes:
    """The name under which an artifact is written until it is whole: its own name's, on this host.

    Two hosts may deliver the same artifact at the same time; each has a name of its own.
    """
    digest = hashlib.sha256(socket.gethostname().encode() + b"\0" + name).hexdigest()[:32]
    return b".artifactd-%s.part" % digest.encode()


def _remove(wire: Wire, path: bytes) -> None:
    with contextlib.suppress(StatusError):
        wire.remove(path)


def _join(folder: bytes, *names: bytes) -> bytes:
    return posixpath.join(folder, *names)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
