"""Small artifacts to MLflow's server by the request that MLflow makes, less what it works out anew for each.

For every request MLflow (3.17) reads its credentials' file, asks its header providers, has requests look for proxies,
netrc and certificates, and prepares all of it: half of what a small file costs here. All that is the same for the next
file of the same run. So the first in each second goes MLflow's way, and those after it are sent as it was, over the
same kept connections, under other names.

Whatever is not plain, and whatever is not answered as an upload that went well, is sent MLflow's way: that decides, and
says what is wrong. Only what may have arrived (silence, a connection that ended) or would cost a crowded server more is
not sent again: whoever tries again later asks the store first.
"""

from __future__ import annotations

import os
import posixpath
import re
import time
from dataclasses import dataclass
from typing import Any

from artifactd.tracking.environment import TIMEOUT

_KEPT = 1.0
"""Seconds for which requests are made after one of MLflow's."""

_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*")
"""Names that stand in a URL as they are."""
_DOTS = re.compile(r"(^|/)\.{0,2}(/|$)")
"""Parts of a path that mean something to a URL."""


@dataclass(frozen=True, slots=True)
class _Model:
    """A request that went well.

    Attributes:
        made: Monotonic seconds.
        pool: The connections that it took.
        base: Its path, up to the artifact's own.
        headers: All of it but what the content decides.
        retries: urllib3's policy, which is not to try again.
    """

    made: float
    pool: Any
    base: str
    headers: dict[str, str]
    retries: Any


class Direct:
    """Puts small artifacts to one repository of MLflow's for ``mlflow-artifacts:`` and ``http:``; for any thread."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._model: _Model | None = None

    def put(self, content: bytes, _like: int, folder: str, leaf: str) -> bool:
        """Send a content to ``folder/leaf``, replacing what stands there; always True.

        Raises:
            Exception: Whatever MLflow says, or requests where MLflow was not asked; for ``classify``.
        """
        path = posixpath.join("/", folder, leaf)
        kind = _kind(leaf)
        model = self._model
        if model is not None and time.monotonic() - model.made < _KEPT and _is_plain(path):
            if _sent(model, path, content, kind):
                return True
            self._model = None
        self._put_by_mlflow(path, content, kind)
        return True

    def _put_by_mlflow(self, path: str, content: bytes, kind: str) -> None:
        from mlflow.store.artifact.artifact_repo import verify_artifact_path  # noqa: PLC0415  (MLflow is slow)
        from mlflow.utils.rest_utils import augmented_raise_for_status, http_request  # noqa: PLC0415

        verify_artifact_path(path.rpartition("/")[0].strip("/") or None)
        creds = self._repo._host_creds
        answer = http_request(creds, path, "PUT", data=content, extra_headers={"Content-Type": kind})
        augmented_raise_for_status(answer)
        self._model = _model_of(answer, creds, path)


def serves(repo: Any) -> bool:
    """Whether a repository is one of MLflow's two for its own server, and nothing that was derived from these."""
    from mlflow.store.artifact import http_artifact_repo, mlflow_artifacts_repo  # noqa: PLC0415  (MLflow is slow)

    theirs = (http_artifact_repo.HttpArtifactRepository, mlflow_artifacts_repo.MlflowArtifactsRepository)
    return type(repo) in theirs


def listed(repo: Any, folder: str) -> list[tuple[str, int, bool]]:
    """What such a repository lists in `folder`: name, size in bytes (0 where none is told), is it a folder.

    MLflow's own way spends 50 µs on each path to see whether it leads astray, at every listing of what may be thousands
    of files; here no more than a path's last part is used. As there, a folder's lone file of the folder's own name
    counts as none: a server may mean the artifact that was asked for.

    Raises:
        Exception: Whatever MLflow says; for ``classify``.
    """
    from mlflow.tracking._tracking_service.utils import get_default_host_creds  # noqa: PLC0415  (MLflow is slow)
    from mlflow.utils.rest_utils import augmented_raise_for_status, http_request  # noqa: PLC0415

    url, _, root = repo.artifact_uri.partition(_LISTING)
    path = posixpath.join(root.lstrip("/"), folder)
    answer = http_request(get_default_host_creds(url), _LISTING, "GET", params={"path": path})
    augmented_raise_for_status(answer)
    files = answer.json().get("files", [])
    found = [(f["path"].rpartition("/")[2], int(f.get("file_size") or 0), bool(f["is_dir"])) for f in files]
    return [] if [(name, is_dir) for name, _, is_dir in found] == [(posixpath.basename(folder), False)] else found


_LISTING = "/mlflow-artifacts/artifacts"


def _model_of(answer: Any, creds: Any, path: str) -> _Model | None:
    """What is to be learnt of a request; None where the next one may not be like it, or goes by way of a proxy."""
    if creds.aws_sigv4 or creds.auth or creds.use_databricks_sdk or not _is_plain(path):
        return None
    request, adapter = answer.request, answer.connection
    if adapter is None or not request.path_url.endswith(path):
        return None
    from requests import Session  # noqa: PLC0415  (comes with MLflow, as slow as it)

    settings = Session().merge_environment_settings(request.url, {}, False, creds.verify, creds.client_cert_path)
    if any(settings["proxies"].values()):
        return None
    pool = adapter.get_connection_with_tls_context(
        request, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
    )
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_CONTENT}
    return _Model(time.monotonic(), pool, request.path_url.removesuffix(path), headers, adapter.max_retries)


_OF_CONTENT = ("content-length", "content-type")


def _sent(model: _Model, path: str, content: bytes, kind: str) -> bool:
    """Whether it was sent, and answered as it should be; else it is to be sent by MLflow."""
    from requests.exceptions import ConnectionError, ReadTimeout, RetryError  # noqa: A004, PLC0415
    from urllib3.exceptions import (  # noqa: PLC0415
        HTTPError,
        MaxRetryError,
        NewConnectionError,
        ResponseError,
        TimeoutError,  # noqa: A004
    )
    from urllib3.util import Timeout  # noqa: PLC0415

    seconds = float(os.environ[TIMEOUT])
    try:
        answer = model.pool.urlopen(
            "PUT", model.base + path, body=content,
            headers={**model.headers, "Content-Type": kind, "Content-Length": str(len(content))},
            retries=model.retries, redirect=False, assert_same_host=False,
            timeout=Timeout(connect=seconds, read=seconds),
        )  # fmt: skip
    except HTTPError as exc:
        reason = exc.reason if isinstance(exc, MaxRetryError) else exc
        if isinstance(reason, TimeoutError):
            raise ReadTimeout(exc) from exc
        if isinstance(reason, ResponseError):
            raise RetryError(exc) from exc
        if not isinstance(reason, NewConnectionError):
            raise ConnectionError(exc) from exc
        return False
    return bool(answer.status == 200 and answer.data[:1].strip() in (b"", b"{"))


def _is_plain(path: str) -> bool:
    return _PLAIN.fullmatch(path) is not None and _DOTS.search(path[1:]) is None


_kinds: dict[str, str] = {}


def _kind(leaf: str) -> str:
    """The content type that MLflow gives an artifact: by its name's end, or by the whole name where it has none."""
    from mlflow.utils.mime_type_utils import _guess_mime_type  # noqa: PLC0415  (MLflow is slow to import)

    end = os.path.splitext(leaf)[1]
    if not end or leaf.count(".") > 1 or len(_kinds) > _MOST_KINDS:
        return str(_guess_mime_type(leaf))
    if end not in _kinds:
        _kinds[end] = str(_guess_mime_type(leaf))
    return _kinds[end]


_MOST_KINDS = 1000
