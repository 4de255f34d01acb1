"""Prepares a process for MLflow: one retry policy (ours), no telemetry, no surprises on stdout.

Read at each call by MLflow 3.17, so it may also be changed later, but telemetry decides at import: call
``prepare`` first.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType

from artifactd import installation
from artifactd.errors import ArtifactdError

REQUEST_TIMEOUT = 12
"""Seconds in which a request must connect, and between two bytes of an answer: what is wrong is known within 15."""

LONGEST_LISTING = 120
"""Seconds that a listing may take at most, in silence: 100,000 files in a folder took a server 7 s."""

SLOWEST = 64 * 1024
"""Bytes/s of the slowest line that uploads are not cut on."""

IN_FLIGHT = 4 * 2**20
"""Bytes that the kernel takes from an upload at once (net.ipv4.tcp_wmem): read, and yet to go out on a slow line."""

SPOOL_RATE = 8 * 2**20
"""Bytes/s that a server is trusted to move on to its store while the client waits in silence for the answer."""

LONGEST_COMMIT = 60
"""Seconds at most that an object store may take to make one object of a big file's parts."""

slack = 0.0
"""Seconds that an object store may take for any answer beyond the usual, as things are expected now."""

UNFINISHED = "_ARTIFACTD_UNFINISHED"
"""The variable that names a folder, which outlives processes, for what they may leave open in a store."""

ARTIFACTS = "_ARTIFACTD_ARTIFACTS"
"""The variable that tells the nursery the scheme of where new experiments keep their artifacts."""

STATE = "_ARTIFACTD_STATE"
"""The variable that names the state folder of this artifactd, which no server's store may be."""

EMBEDDED = "_ARTIFACTD_EMBEDDED"
"""The variable that tells the nursery the artifact folder of the embedded store, where that is what is used."""

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
"""The variable from which MLflow takes the time of each request."""

_OURS = {
    # One policy governs, and it is not hidden in the client: seven silent retries make a dead port take 246 s.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # see answers.py
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its handlers would write past the mask for secrets
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare(tracking_uri: str) -> None:
    """Set what MLflow reads from the environment of this process (never of its parent).

    Args:
        tracking_uri: Also set as the default, so that no code path falls back to ``sqlite:///mlflow.db``.
    """
    os.environ.update(_OURS)
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    expect_bytes(0)


def expect_bytes(size: int, patience: int = REQUEST_TIMEOUT) -> None:
    """Fit the request timeout to the next upload: a server may spool a big file for a while before it answers.

    Args:
        size: Bytes of the largest file in the next calls.
        patience: Seconds for what does not depend on the size.
    """
    global slack  # noqa: PLW0603 (MLflow's is as global: the environment)
    silent = min(size, IN_FLIGHT) // SLOWEST + size // SPOOL_RATE
    timeout = str(patience + silent)
    if os.environ.get(TIMEOUT) != timeout:  # to set it costs more than to ask
        os.environ[TIMEOUT] = timeout
    slack = patience - REQUEST_TIMEOUT + min(size / SPOOL_RATE, LONGEST_COMMIT)


def require_engine(tracking_uri: str) -> None:
    """Say at the start, not at the first file, when the installed MLflow cannot serve this tracking URI.

    Raises:
        ArtifactdError: The URI is a database and only mlflow-skinny is installed.
    """
    database = "://" in tracking_uri and not tracking_uri.startswith(("http://", "https://", "databricks"))
    if database and find_spec("sqlalchemy") is None:
        line = installation.here().with_extra("local", "or set mlflow.tracking_uri to a server, as http://mlflow:5000")
        raise ArtifactdError(
            f"a {tracking_uri.partition('://')[0]}:// store needs all of MLflow, and only its client is installed",
            str(line),
        )


_OF_NOTEBOOKS = ("IPython", "dbruntime", "pyspark")
"""What MLflow looks for eleven times at each request, on the whole import path, to see whether it is in a notebook."""

_FOR_MODELS = ("numpy", "pandas", "pyarrow")
"""What MLflow imports for models and data frames if it is there; its slim form (mlflow-skinny) does without."""

_NO_PLUGINS = ("mlflow", "artifactd")
"""Whose entry points do not mean that anything else of MLflow is wanted."""


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Have what is imported in this block do without NumPy and pandas, unless MLflow has a plugin: a third of its time.

    The garbage collector rests meanwhile: a sixth of the time is its looks at what is about to stay for good.
    """
    hidden = [] if _has_plugins() else [name for name in _FOR_MODELS if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to note that there is none
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        if collects:
            gc.enable()


def _has_plugins() -> bool:
    points = entry_points()
    groups = [group for group in points.groups if group.startswith("mlflow.")]
    return any(
        point.value.partition(".")[0] not in _NO_PLUGINS for group in groups for point in points.select(group=group)
    )


_OF_DATABASES = ("mlflow.genai", "mlflow.gateway")
"""A quarter of the time and a sixth of the modules of MLflow's import. Its stores in a database stand on it, but no
client of a server does."""


def preload() -> None:
    """Import MLflow, which takes seconds and 80-170 MiB, once for this process and all that are forked from it.

    What of it the tracking URI of ``prepare`` has no use for is imported when somebody asks for it after all.
    """
    if "mlflow" in sys.modules:
        return
    with lean():
        if (
            not os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://"))
            or not _import_for_server()
        ):
            import mlflow  # noqa: F401, PLC0415  (the whole point)

    for name in _OF_NOTEBOOKS:
        if name not in sys.modules and find_spec(name) is None:
            sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to note that there is none


def _import_for_server() -> bool:
    """Import MLflow with the parts of `_OF_DATABASES` put off; whether this version can do without them."""
    (place,) = find_spec("mlflow").submodule_search_locations  # type: ignore[union-attr, misc]  # a package has one
    for name in _OF_DATABASES:
        stand_in = ModuleType(name)
        stand_in.__path__ = [os.path.join(place, name.rpartition(".")[2])]
        sys.modules[name] = stand_in
    try:
        import mlflow  # noqa: PLC0415
        from mlflow.utils.lazy_load import LazyLoader  # noqa: PLC0415
    except Exception:  # noqa: BLE001  (whatever it is, the whole import has its say)
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
            del sys.modules[name]
        return False
    for name in _OF_DATABASES:
        del sys.modules[name]
        leaf = name.rpartition(".")[2]
        setattr(mlflow, leaf, LazyLoader(leaf, vars(mlflow), name))  # as MLflow itself has its flavours
    return True
