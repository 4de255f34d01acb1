"""A run's artifacts: upload an open file, list what the store holds, download it.

The repository handle is made here per (tracking URI, run): MLflow's own cache is keyed on the run's id alone, so
two servers in one process would mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from artifactd.errors import DeliveryError, Failure, Kind, Scope
from artifactd.secrets import mask
from artifactd.tracking import direct, environment, limits, sdks, short
from artifactd.tracking.answers import check_answers
from artifactd.tracking.blocks import refuse_uneven, tell_parts
from artifactd.tracking.classify import classify
from artifactd.tracking.links import linked
from artifactd.tracking.own import refuse_state_folder
from artifactd.tracking.steady import ChangedError, install, opens_by_us, steady
from artifactd.tracking.way import parts_from

Checksum = sdks.Checksum

_patience: dict[tuple[str, str, str], int] = {}
"""Seconds that a listing may take, by server, artifact URI and folder, where the usual was not enough."""

_ASK_FIRST = 16 * 2**20
"""Bytes from which on it is asked whether a gateway would refuse them, before they are sent in vain."""

_distrusted: set[tuple[str, bool]] = set()
"""Kinds of objects of which the store's checksum is no MD5."""
_proven: set[tuple[str, bool]] = set()
"""Kinds of objects of which it is one."""
_SEVERAL = 8 * 2**20
"""Bytes from which stores may get an object in several parts."""

_FIRST_CONTACT = 128 * 1024
"""Bytes of an upload that is preceded by a small question, if the store has not answered for ``_FRESH`` seconds."""
_FRESH = 30.0

_ROOM = 2
"""Times an artifact's size that must be free before it is brought here to be compared."""


class RunArtifacts:
    """The artifacts of one run.

    Args:
        artifact_uri: As the server gave it; may hold a secret.
        tracking_uri: The server that gave it.

    Raises:
        DeliveryError: From every method, classed.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str) -> None:
        self._tracking_uri = tracking_uri
        self._artifact_uri = artifact_uri
        # A proxied store is the tracking server itself: when it is down, everything is.
        self._scope = Scope.TARGET if artifact_uri.startswith(("mlflow-artifacts:", "http")) else Scope.RUN
        self._where = tracking_uri if self._scope is Scope.TARGET else artifact_uri
        try:
            # MLflow is slow to import.
            from mlflow.store.artifact import http_artifact_repo, local_artifact_repo  # noqa: PLC0415

            from artifactd.tracking import local  # noqa: PLC0415  (imports MLflow)

            install(http_artifact_repo, local_artifact_repo)
            if artifact_uri.lower().startswith("sftp:"):
                from artifactd.tracking import sftp  # noqa: PLC0415  (imports MLflow)

                sftp.register()
                install(sftp)
            check_answers()
            self._repo: Any = sdks.repository(artifact_uri, tracking_uri)
            if isinstance(self._repo, http_artifact_repo.HttpArtifactRepository):
                refuse_uneven(self._repo)
                tell_parts(self._repo)
            self._is_object_store = sdks.is_ours(self._repo)
            self._tells = self._is_object_store or opens_by_us(self._repo)
            self._answered = float("-inf")
            self._sums: dict[str, str] = {}
            self._said: dict[str, str] = {}
            is_plain = type(self._repo) is local_artifact_repo.LocalArtifactRepository
            self._local = local.LocalRepository(artifact_uri, tracking_uri) if is_plain else None
            is_local = isinstance(self._repo, local_artifact_repo.LocalArtifactRepository)
            self._root: str | None = self._repo.artifact_dir if is_local else None
            if self._root is not None:
                refuse_state_folder(self._root)
            self._short = short.way(self._repo, self._local)
            self._is_served = direct.serves(self._repo)
        except Exception as exc:
            raise self._classed(exc) from exc

    @property
    def takes_several(self) -> bool:
        """Whether threads may upload small files at the same time: to a server and to object stores.

        A local root is made slower by that, and an SFTP session is for one thread.
        """
        return self._is_object_store or self._scope is Scope.TARGET

    @property
    def tells(self) -> bool:
        """Whether an upload says how far it is, as ``tether`` wants it: not those of other stores' plugins."""
        return self._tells

    def summing(self, size: int) -> sdks.Checksum | None:
        """What the store will say of a content besides its size, to be fed with it; None where it says nothing of use.

        Args:
            size: Bytes of the content.
        """
        return None if self._kind(size) in _distrusted else sdks.summing(self._repo, size)

    def upload(self, fd: int, size: int, folder: str, leaf: str, unchanged: Callable[[], bool] = lambda: True) -> None:
        """Send what is open as `fd` to ``folder/leaf``, replacing what stands there.

        MLflow takes a path and names the artifact after it. The path handed over is a link, under the wanted name,
        to the open file itself: what another process puts in the file's place meanwhile is never read.

        Args:
            fd: The file, opened by the caller; its offset is neither used nor moved.
            size: Its size in bytes, for the time that the server may take.
            folder: Artifact path of the folder, "" for the run's root.
            leaf: The artifact's name.
            unchanged: Whether the file is still what it was; asked now and then, and before its last byte goes out.

        Raises:
            ChangedError: It is not. What went out until then was not taken, where ``steady`` knows the store.
        """
        self._meet(size, folder, leaf)
        environment.expect_bytes(size)
        if size >= _ASK_FIRST and self._scope is Scope.TARGET and size < (parts_from(self._tracking_uri) or size + 1):
            self._refuse_too_large(size)
        source = None
        done = False
        try:
            if size <= short.SMALL and self._short is not None:
                content = short.read(fd, size, unchanged, local=self._root is not None)
                if content is None:
                    raise ChangedError(0)
                done = self._short(content, fd, folder, leaf)
            elif self._local is not None:
                path = f"/proc/self/fd/{fd}"
                with steady(path, size, unchanged, local=True) as source:
                    done = self._local.put(path, folder, leaf)
            if not done:
                local = self._root is not None
                with linked(fd, leaf) as path, steady(path, size, unchanged, local=local) as source:
                    self._repo.log_artifact(path, folder or None)
        except ChangedError:
            raise
        except Exception as exc:
            if source is not None and source.changed:
                raise ChangedError(source.sent) from exc
            # Refused in the middle, it may look like a broken connection.
            self._refuse_too_large(size)
            raise self._classed(exc) from exc
        self._answered = time.monotonic()

    def expect(self, folder: str, leaf: str, checksum: sdks.Checksum | None) -> None:
        """Say what was uploaded, for ``differs``.

        Args:
            folder: Artifact path of the folder.
            leaf: The artifact's name.
            checksum: Of ``summing``, fed with the content.
        """
        if checksum is not None:
            self._sums[_join(folder, leaf)] = checksum.value()

    def differs(self, folder: str, leaf: str, size: int, digest: bytes) -> bool:
        """Whether the store holds another content than was uploaded, by its own word in the last ``sizes``.

        Its word is a checksum that it may make in a way of its own. So where it is not the one that was expected, the
        content is read back: if that is right, no such word of this store is asked for again. Without the room for
        that, it is believed if it was right before.

        Args:
            folder: Artifact path of the folder.
            leaf: The artifact's name.
            size: Bytes, as the store lists them.
            digest: SHA-256 of what was uploaded.

        Raises:
            DeliveryError: It cannot be read back.
        """
        path = _join(folder, leaf)
        expected, said = self._sums.pop(path, None), self._said.get(path)
        if expected is None or said is None:
            return False
        kind = self._kind(size)
        if expected == said:
            _proven.add(kind)
            return False
        held = self.digest(path, size)
        if held is None:
            return kind in _proven
        if held == digest:
            _distrusted.add(kind)
        return held != digest

    def _kind(self, size: int) -> tuple[str, bool]:
        """Of objects whose checksums are made alike: in one bucket, of one part or of several."""
        return self._artifact_uri.partition("://")[2].partition("/")[0], size >= _SEVERAL

    def _meet(self, size: int, folder: str, leaf: str) -> None:
        """Learn by a small request whether an object store is there: a big body may take long to find out."""
        if self._is_object_store and size > _FIRST_CONTACT and time.monotonic() - self._answered > _FRESH:
            environment.expect_bytes(0)
            try:
                self._repo.list_artifacts(_join(folder, leaf))
            except Exception as exc:
                raise self._classed(exc) from exc

    def _refuse_too_large(self, size: int) -> None:
        if self._scope is not Scope.TARGET or not limits.refuses(self._tracking_uri, size):
            return
        limit = limits.largest_body(self._tracking_uri)
        most = "fewer" if limit is None else f"at most {limit:,}"
        raise DeliveryError(
            Failure(
                Kind.PERMANENT, Scope.FILE,
                f"{mask(self._tracking_uri)} answered 413: what stands before it takes {most} bytes at once, and this "
                f"file has {size:,}",
                "Raise the limit of the gateway (nginx: client_max_body_size 0; for no limit), then `artifactd retry`",
            )
        )  # fmt: skip

    def sizes(self, folder: str, names: Collection[str] | None = None) -> dict[str, int]:
        """Files that the store lists directly in `folder`, with their sizes in bytes.

        Some stores leave out the size of an empty file: that counts as 0, which a file with content never has.

        Args:
            folder: Artifact path, "" for the run's root.
            names: The ones of interest, where it is not all: a local root is asked for these alone, an
                object store for a page of its listing where they stand, and for all of it if that lacks one.
        """
        if names is not None and self._root is not None:
            return self._sizes_on_disk(os.path.join(self._root, folder), names)
        top = urlsplit(self._artifact_uri).path.strip("/")
        paths = {_join(top, path): path for path in self._sums if path.rpartition("/")[0] == folder}
        with sdks.noting(paths) as said:
            found = {name: size for name, size, is_dir in self._entries(folder, names) if not is_dir}
        self._said = {paths[key]: checksum for key, checksum in said.items()}
        return found

    def _sizes_on_disk(self, folder: str, names: Collection[str]) -> dict[str, int]:
        # MLflow's listing is a stat of each file in the folder, of which there may be a hundred thousand.
        sizes: dict[str, int] = {}
        try:
            for name in names:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    st = os.stat(os.path.join(folder, name))
                    if stat.S_ISREG(st.st_mode):
                        sizes[name] = st.st_size
        except OSError as exc:
            raise self._classed(exc) from exc
        return sizes

    def tree(self, folder: str = "") -> list[tuple[str, int]]:
        """All files below `folder`: artifact path and size in bytes, in order."""
        found: list[tuple[str, int]] = []
        pending = [folder]
        while pending:
            here = pending.pop()
            for name, size, is_dir in self._entries(here):
                path = f"{here}/{name}" if here else name
                if is_dir:
                    pending.append(path)
                else:
                    found.append((path, size))
        return sorted(found)

    def _entries(self, folder: str, names: Collection[str] | None = None) -> list[tuple[str, int, bool]]:
        """Name, size in bytes and whether it is a folder, of all that stands directly in `folder`; or of `names`."""
        key = (self._tracking_uri, self._artifact_uri, folder)
        patience = _patience.get(key, environment.REQUEST_TIMEOUT)
        environment.expect_bytes(0, patience)
        try:
            listed = direct.listed(self._repo, folder) if self._is_served else self._listed(folder, names)
        except Exception as exc:
            error = self._classed(exc)
            if error.failure.kind is Kind.TRANSIENT and not self._is_object_store:  # which lists page by page
                _patience[key] = min(2 * patience, environment.LONGEST_LISTING)
            raise error from exc
        self._answered = time.monotonic()
        # A store that lists its own folder, or a way out of it, is not followed there.
        return [entry for entry in listed if entry[0] not in ("", ".", "..")]

    def _listed(self, folder: str, names: Collection[str] | None) -> list[tuple[str, int, bool]]:
        if names and self._is_object_store:  # of a hundred thousand objects a listing is a hundred requests
            few = sdks.few(self._repo, folder, names)
            if {name for name, _, _ in few}.issuperset(names):
                return few
            # One that is missing may stand elsewhere: between others, or in an order of the store's own.
        whole = sdks.listed(self._repo, folder) if self._is_object_store else None
        if whole is not None:
            return whole
        listed = self._repo.list_artifacts(folder or None)
        return [(i.path.rpartition("/")[2], i.file_size or 0, bool(i.is_dir)) for i in listed]

    def digest(self, artifact_path: str, size: int) -> bytes | None:
        """SHA-256 of what the store holds there.

        Args:
            artifact_path: As the store lists it.
            size: Bytes, as the store lists them.

        Returns:
            None where there is no room for it: everything but a local root is asked by way of a temporary file.
        """
        environment.expect_bytes(size)
        try:
            if self._root is not None:
                return _digest(self._repo.get_local_path(artifact_path))
            with tempfile.TemporaryDirectory(prefix="artifactd-") as folder:
                if shutil.disk_usage(folder).free < _ROOM * size:
                    return None
                copy = os.path.join(folder, "artifact")
                self._repo._download_file(artifact_path, copy)
                return _digest(copy)
        except Exception as exc:
            raise self._classed(exc) from exc

    def download(self, artifact_path: str, to: Path) -> None:
        """Bring one artifact into the file `to`, by way of a temporary name beside it."""
        part = to.with_name(f".{to.name}.{os.getpid()}.artifactd.part")
        try:
            self._repo._download_file(artifact_path, str(part))
            os.replace(part, to)
        except Exception as exc:
            raise self._classed(exc) from exc
        finally:
            part.unlink(missing_ok=True)

    def _classed(self, exc: Exception) -> DeliveryError:
        failure = classify(exc, target=self._where, scope=self._scope)
        if failure.kind is Kind.PAUSED:
            sdks.renew()
        return DeliveryError(failure)


def _join(folder: str, leaf: str) -> str:
    return f"{folder}/{leaf}" if folder else leaf


def _digest(path: str) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
