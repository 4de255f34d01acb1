"""What is installed: artifactd, MLflow's client, the SDKs of the stores at hand."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from importlib import metadata

from artifactd import __version__, installation
from artifactd.doctor.finding import Finding, notice, ok, wrong

_SDKS = {
    "s3": ("s3", ("boto3",)),
    "wasb": ("azure", ("azure-storage-blob", "azure-identity")),
    "wasbs": ("azure", ("azure-storage-blob", "azure-identity")),
    "gs": ("gcs", ("google-cloud-storage",)),
    "sftp": ("sftp", ("paramiko",)),
}
"""Extra and distributions, by the scheme of a location."""


def versions() -> dict[str, str]:
    """Names and versions of what a report should tell; what is not installed is left out."""
    found = {"artifactd": __version__, "Python": platform.python_version(), "kernel": platform.release()}
    names = ("mlflow", "mlflow-skinny", "watchdog", *(name for _, names in _SDKS.values() for name in names))
    return found | {name: version for name in names if (version := version_of(name)) is not None}


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution; None for none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def here() -> Iterator[Finding]:
    """The versions of this installation."""
    client = version_of("mlflow-skinny") or version_of("mlflow")
    if client is None:
        cure = str(installation.here().newer())
        yield wrong("versions", f"artifactd {__version__} without MLflow's client", cure)
        return
    whole = "" if version_of("mlflow") else " (the client alone)"
    yield ok(
        "versions", f"artifactd {__version__}, MLflow {client}{whole}, Python {platform.python_version()}, "
        f"Linux {platform.release()}",
    )  # fmt: skip


def sdks(schemes: Iterable[str]) -> Iterator[Finding]:
    """Whether the SDKs of these stores are installed.

    Args:
        schemes: Of locations that files go to directly.
    """
    for scheme in sorted(set(schemes)):
        extra, names = _SDKS.get(scheme, ("", ()))
        missing = [name for name in names if version_of(name) is None]
        if missing:
            yield wrong(
                f"client for {scheme}:", f"{' and '.join(missing)} is not installed: what goes there waits",
                str(installation.here().with_extra(extra)),
            )  # fmt: skip
        elif names:
            yield ok(f"client for {scheme}:", ", ".join(f"{name} {version_of(name)}" for name in names))
        elif scheme not in ("file", "mlflow-artifacts", "http", "https"):
            yield notice(f"client for {scheme}:", "MLflow's own, which is not looked at here", "artifactd check")
