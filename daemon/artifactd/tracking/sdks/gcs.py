"""Google Cloud Storage: MLflow's repository with a client that tries once, and is never anonymous by accident.

Without credentials MLflow (3.17) goes on as nobody, and the store's answer to nobody is about rights, not about
credentials. Here that is an error, unless an emulator is named (STORAGE_EMULATOR_HOST) or credentials are turned
off by Google's own variable (CLOUDSDK_AUTH_DISABLE_CREDENTIALS=true).
"""

from __future__ import annotations

import base64
import os
import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from artifactd.tracking import tether
from artifactd.tracking.content import content_type
from artifactd.tracking.sdks import again
from artifactd.tracking.sdks.checksums import Checksum, note
from artifactd.tracking.sdks.listing import Entry, page
from artifactd.tracking.sdks.patience import CONNECT, SILENCE, install
from artifactd.tracking.sdks.shared import Shared

_METADATA = {"GCE_METADATA_TIMEOUT": "2", "GCE_METADATA_DETECT_RETRIES": "2"}
"""Whether this machine is Google's is asked twice, 2 s each, where the user did not say otherwise."""


def _files(environ: Mapping[str, str]) -> Iterator[str]:
    yield environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    yield os.path.join(environ.get("CLOUDSDK_CONFIG", "~/.config/gcloud"), "application_default_credentials.json")


shared = Shared(("GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_HOST", "API_ENDPOINT_OVERRIDE", "GCE_"), _files)


def repository(artifact_uri: str, tracking_uri: str) -> Any:
    """MLflow's repository for a gs:// URI."""
    from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository  # noqa: PLC0415 (MLflow is slow)

    for name, value in _METADATA.items():
        os.environ.setdefault(name, value)  # read when the SDK is imported
    current = partial(shared.get, "", _client)
    repo: Any = GCSArtifactRepository(artifact_uri, client=current(), tracking_uri=tracking_uri)
    repo._get_bucket = partial(_bucket, current)
    return repo


def summing(_: int) -> Checksum:
    """What becomes the md5Hash of a content."""
    return Checksum()


def few(repo: Any, folder: str, names: Collection[str]) -> Iterator[Entry]:
    """As ``sdks.few``."""
    prefix, listing = _listing(repo, folder, min(names), max_results=page(names))
    for blob in listing:
        yield blob.name[len(prefix) :], blob.size, False


def listed(repo: Any, folder: str) -> Iterator[Entry]:
    """As ``sdks.listed``: MLflow (3.17) goes through the folder twice, and has all told that Google knows of a file."""
    prefix, listing = _listing(repo, folder)
    for blob in listing:
        yield blob.name[len(prefix) :], blob.size, False
    for below in listing.prefixes:
        yield below[len(prefix) : -1], 0, True


def _listing(repo: Any, folder: str, first: str = "", **more: Any) -> tuple[str, Any]:
    """What all names in a folder begin with, and the listing, from the name `first` on."""
    bucket, top = repo.parse_gcs_uri(repo.artifact_uri)
    prefix = posixpath.join(top, folder, "")
    options = {"start_offset": prefix + first, "delimiter": "/", "fields": _FIELDS}
    return prefix, repo._get_bucket(bucket).list_blobs(prefix=prefix, **options, **more)


_FIELDS = "items(name,size,md5Hash),prefixes,nextPageToken"


def _bucket(current: Any, name: str) -> Any:
    bucket = current().bucket(name)
    theirs = bucket.list_blobs
    bucket.list_blobs = lambda **options: _Noted(theirs(**options))
    bucket.blob = partial(_labelled, bucket.blob)
    return bucket


def _labelled(blob: Any, name: str, **options: Any) -> Any:
    """An object to be, with the type that it is sent with; a download asks for its content alone."""
    made = blob(name, **options)
    made.content_type = content_type(name.rpartition("/")[2])
    made.upload_from_filename = partial(_upload, made)
    return made


def _upload(blob: Any, filename: str, **options: Any) -> None:
    from google.cloud.storage.retry import DEFAULT_RETRY  # noqa: PLC0415  (an extra)

    # Google's waits, of up to 1 and 2 s; its time for all tries has the sending in it, which a slow line takes alone.
    retry = DEFAULT_RETRY.with_predicate(_PassingTroubleOfAPart()).with_timeout(None)
    with tether.Pieces(filename) as stream:
        blob.upload_from_file(stream, size=os.fstat(stream.fileno()).st_size, retry=retry, **options)


class _Noted:
    """A listing, which notes the checksums of what is taken from it."""

    def __init__(self, listing: Any) -> None:
        self._listing = listing

    @property
    def pages(self) -> Any:
        return self._listing.pages

    @property
    def prefixes(self) -> Any:
        return self._listing.prefixes

    def __iter__(self) -> Iterator[Any]:
        for blob in self._listing:
            note(blob.name, base64.b64decode(blob.md5_hash or ""))
            yield blob


def _client() -> Any:
    import google.auth  # noqa: PLC0415  (an extra)
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
    from google.auth.transport.requests import AuthorizedSession, Request  # noqa: PLC0415
    from google.cloud import storage  # noqa: PLC0415
    from google.cloud.storage.retry import DEFAULT_RETRY  # noqa: PLC0415
    from requests import Session  # noqa: PLC0415

    install()
    # The object stands in a hundred default arguments, which MLflow does not pass.
    DEFAULT_RETRY._predicate = _never

    class Once(AuthorizedSession):  # type: ignore[misc]
        """Google's session, with our time for every request, those for tokens included."""

        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **{**kwargs, "timeout": (CONNECT, SILENCE)})

    disabled = os.environ.get("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "").lower() in ("true", "1", "yes")
    if os.environ.get("STORAGE_EMULATOR_HOST") or disabled:
        credentials: Any = AnonymousCredentials()
    else:
        credentials, _ = google.auth.default(scopes=storage.Client.SCOPE)
    session = Once(credentials, auth_request=Request(Session()))
    session.configure_mtls_channel()
    return storage.Client(project=None, credentials=credentials, _http=session)


def _never(_: Exception) -> bool:
    return False


class _PassingTroubleOfAPart:
    """Whether a part of one upload is sent again after an error: so many times each, however long that takes."""

    def __init__(self) -> None:
        self._met: Counter[str] = Counter()

    def __call__(self, exc: Exception) -> bool:
        response: Any = getattr(exc, "response", None)
        request = getattr(response, "request", None)
        if request is None or request.method != "PUT" or "upload_id=" not in str(request.url):
            return False
        part = str(request.headers.get("Content-Range"))
        self._met[part] += 1
        return self._met[part] <= again.TRIES and again.passes(response.status_code)
