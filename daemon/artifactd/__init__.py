"""artifactd: MLflow's drop folder.

A service on a training host. Whatever comes to rest in a watched folder ends up as an artifact of the
right MLflow run. docs/architecture.md tells which room does what.

For notebooks, the commands as functions (``artifactd.api`` tells all of them)::

    import artifactd

    artifactd.sync("/data/drop/vision/run-7")
    artifactd.wait("/data/drop/vision/run-7", timeout=60)
    artifactd.run_for("/data/drop/vision/run-7").url
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artifactd.api import Run, Status, Stored, Synced, run_for, status, sync, wait

__version__ = "0.1.0"

__all__ = ["Run", "Status", "Stored", "Synced", "__version__", "run_for", "status", "sync", "wait"]


def __getattr__(name: str) -> Any:
    """Import what notebooks want when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 (the service does without)

    return getattr(importlib.import_module("artifactd.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
